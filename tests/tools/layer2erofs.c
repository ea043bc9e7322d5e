/* Test tool: convert a plain tar on standard input to an EROFS image. Usage: layer2erofs OUT
 * [UUID-TEXT]. With LAYER2EROFS_PEAK set the peak of resident memory is printed, in KiB; temporary
 * files are in TMPDIR. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "image/erofs/tar.h"

static int read_stdin(void *ctx, const void **ret, size_t *ret_n, struct cc_err *err)
{
        static char buf[1 << 18];
        ssize_t r = read(STDIN_FILENO, buf, sizeof(buf));

        (void)ctx;
        if (r < 0)
                return cc_fail_errno(err, errno, "read");
        *ret = buf;
        *ret_n = (size_t)r;
        return 0;
}

int main(int argc, char **argv)
{
        struct cc_err err = CC_ERR_INIT;
        EROFS_WRITER struct erofs_writer *w = NULL;
        struct erofs_stats stats;
        const char *tmp = getenv("TMPDIR");
        struct rusage usage;
        uint8_t uuid[16];
        int fd;
        int r;

        if (argc < 2)
                return 2;
        fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                return 2;
        r = erofs_writer_open(&(struct erofs_writer_args){ .fd = fd,
                                                           .temp_dir = tmp ? tmp : "/tmp",
                                                           .max_bytes = 64ULL << 30 },
                              &w, &err);
        if (r == 0)
                r = erofs_add_tar(w, read_stdin, NULL, &err);
        erofs_uuid(argc > 2 ? argv[2] : "test", uuid);
        if (r == 0)
                r = erofs_writer_finish(w, uuid, &stats, &err);
        close(fd);
        if (r < 0) {
                (void)fprintf(stderr, "Error: %s\n", err.msg);
                (void)unlink(argv[1]);
                return 1;
        }
        if (getenv("LAYER2EROFS_PEAK") && getrusage(RUSAGE_SELF, &usage) == 0)
                (void)printf("%ld\n", usage.ru_maxrss);
        return 0;
}
