/* Layers: any tar bytes into the EROFS writer. What it accepts must be an image that an independent
 * reader finds whole. COCOON_FUZZ_KEEP=DIR keeps accepted images there, for fsck.erofs. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../tools/erofs_check.h"
#include "base/alloc.h"
#include "image/erofs/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

enum { BLOCK = 512, SIZE_AT = 124, SUM_AT = 148, SUM_LEN = 8 };

/* Right checksums for the headers, or no change in one would ever get past the first check. */
static void repair(uint8_t *data, size_t size)
{
        size_t at = 0;

        while (size - at >= BLOCK) {
                uint8_t *h = data + at;
                unsigned sum = 0;
                char text[SUM_LEN + 1];
                char octal[12] = { 0 };
                unsigned long long body;

                memset(h + SUM_AT, ' ', SUM_LEN);
                for (size_t i = 0; i < BLOCK; i++)
                        sum += h[i];
                if (sum == SUM_LEN * ' ') {
                        memset(h + SUM_AT, 0, SUM_LEN); /* the end marker */
                        return;
                }
                (void)snprintf(text, sizeof(text), "%06o", sum);
                memcpy(h + SUM_AT, text, SUM_LEN);
                memcpy(octal, h + SIZE_AT, sizeof(octal) - 1);
                body = strtoull(octal, NULL, 8);
                if (body > size - at - BLOCK)
                        return;
                at += BLOCK + (body + BLOCK - 1) / BLOCK * BLOCK;
                if (at > size)
                        return;
        }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
        size = LLVMFuzzerMutate(data, size, max);
        if (seed % 8)
                repair(data, size);
        return size;
}

struct input {
        const uint8_t *data;
        size_t left;
};

static int read_input(void *ctx, const void **ret, size_t *ret_n, struct cc_err *err)
{
        struct input *in = ctx;

        (void)err;
        *ret = in->data;
        *ret_n = in->left;
        in->left = 0;
        return 0;
}

static void keep(const uint8_t *bytes, size_t n)
{
        static unsigned long count;
        const char *dir = getenv("COCOON_FUZZ_KEEP");
        CC_FREE char *path = NULL;
        FILE *f;

        if (!dir)
                return;
        path = xasprintf("%s/%lu.erofs", dir, count++ % 5000);
        f = fopen(path, "we");
        if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const uint8_t uuid[16];
        EROFS_WRITER struct erofs_writer *w = NULL;
        CC_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
        /* Holes are cheap to write and dear to check. */
        struct erofs_writer_args args = {
                .fd = fd, .temp_dir = "/dev/shm", .max_bytes = 1 << 20, .max_entries = 2000
        };
        struct input in = { data, size };
        struct erofs_stats stats;
        const char *wrong;
        void *p;

        if (fd < 0 || erofs_writer_open(&args, &w, NULL) < 0)
                abort();
        if (erofs_add_tar(w, read_input, &in, NULL) < 0 ||
            erofs_writer_finish(w, uuid, &stats, NULL) < 0)
                return 0;
        if (in.left)
                abort();
        p = mmap(NULL, stats.bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                abort();
        wrong = erofs_check(&(struct erofs_image){ p, stats.bytes });
        if (wrong) {
                (void)fprintf(stderr, "image: %s\n", wrong);
                abort();
        }
        keep(p, stats.bytes);
        (void)munmap(p, stats.bytes);
        return 0;
}
