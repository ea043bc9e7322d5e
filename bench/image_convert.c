/*
 * The measured half of image_convert.sh:
 *
 *      image_convert layer FILE OUT    a layer (plain, gzip, zstd) into the image OUT, as in a pull
 *      image_convert inflate FILE      our decompressor alone
 *      image_convert zlib FILE         zlib alone, as libarchive drives it
 *
 * Prints "seconds<TAB>seconds of CPU<TAB>peak resident KiB", pages of mapped temporary files
 * included.
 */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/pull/convert.h"

static int read_fd(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        ssize_t r = read(*(int *)ctx, buf, n);

        if (r < 0)
                return cc_fail(err, CC_IO, "read");
        *ret = (size_t)r;
        return 0;
}

static int inflate(int fd, struct cc_err *err)
{
        INFLATE struct inflate *s = NULL;
        static char buf[256 << 10];
        size_t n;
        int r = inflate_open(INFLATE_LAYER, read_fd, &fd, "layer", &s, err);

        do {
                if (r == 0)
                        r = inflate_read(s, buf, sizeof(buf), &n, err);
        } while (r == 0 && n);
        return r;
}

static int zlib(int fd, struct cc_err *err)
{
        static char buf[256 << 10];
        struct archive *a = archive_read_new();
        struct archive_entry *entry;
        la_ssize_t n = -1;

        if (a && archive_read_support_filter_gzip(a) == ARCHIVE_OK &&
            archive_read_support_format_raw(a) == ARCHIVE_OK &&
            archive_read_open_fd(a, fd, sizeof(buf)) == ARCHIVE_OK &&
            archive_read_next_header(a, &entry) == ARCHIVE_OK) {
                do
                        n = archive_read_data(a, buf, sizeof(buf));
                while (n > 0);
        }
        (void)archive_read_free(a);
        return n < 0 ? cc_fail(err, CC_IO, "zlib") : 0;
}

static int layer(int fd, const char *out, struct cc_err *err)
{
        CC_FREE char *root = strdup(out);
        struct config config = { .root_dir = root };
        struct built_layer built;

        /* Temporary files belong where the image goes. */
        *strrchr(root, '/') = '\0';
        return convert_layer(&config, read_fd, &fd, NULL, out, &built, err);
}

static double seconds(struct timeval t)
{
        return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
        struct cc_err err = CC_ERR_INIT;
        struct timespec from;
        struct timespec to;
        struct rusage usage;
        int r;
        int fd = argc > 2 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;

        if (fd < 0)
                return 2;
        (void)clock_gettime(CLOCK_MONOTONIC, &from);
        if (argc > 3)
                r = layer(fd, argv[3], &err);
        else
                r = strcmp(argv[1], "zlib") == 0 ? zlib(fd, &err) : inflate(fd, &err);
        (void)clock_gettime(CLOCK_MONOTONIC, &to);
        (void)getrusage(RUSAGE_SELF, &usage);
        if (r < 0) {
                (void)fprintf(stderr, "image_convert: %s\n", err.msg);
                return 1;
        }
        (void)printf("%.4f\t%.4f\t%ld\n",
                     (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9,
                     seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss);
        return 0;
}
