/* Compressed bytes → plain tar → EROFS. See convert.h. */
#include "image/pull/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/size.h"
#include "config/layout.h"
#include "image/erofs/tar.h"
#include "image/pull/ahead.h"

enum {
        /* Real layers compress five- to tenfold, zero-filled files a thousandfold. A layer this
         * much smaller than what it unpacks to, beyond a size that could not matter, is a bomb. */
        BOMB_RATIO = 100,
};
#define BOMB_FLOOR (INT64_C(1) << 30)

struct plain {
        struct inflate *inflate;
        int64_t len, max;
};

static int read_plain(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct plain *p = ctx;
        char shown[24];
        int r = inflate_read(p->inflate, buf, n, ret, err);

        if (r < 0)
                return r;
        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "canceled");
        p->len += (int64_t)*ret;
        if (p->len > p->max) {
                cc_size_format(p->max, shown);
                r = cc_fail(err, CC_INVALID, "the layer unpacks to more than %s", shown);
                cc_hint(err, "layer_max_size in the configuration raises the limit");
                return r;
        }
        if (p->len > BOMB_FLOOR && p->len / BOMB_RATIO > inflate_consumed(p->inflate))
                return cc_fail(err, CC_INVALID,
                               "the layer unpacks to more than %d times its size: refused as a "
                               "decompression bomb",
                               BOMB_RATIO);
        return 0;
}

const char *convert_builder(void)
{
        return "cocoon-erofs/1";
}

static int open_writer(const struct config *config, const char *out, int *ret_fd,
                       struct erofs_writer **ret, struct cc_err *err)
{
        CC_FREE char *temp = layout_oci_temp(config);
        CC_CLOSE int fd = open(out, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
        struct erofs_writer_args args = { .temp_dir = temp };
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", out);
        args.fd = fd;
        args.max_bytes = config->layer_max_size > 0 ? (uint64_t)config->layer_max_size : 0;
        r = erofs_writer_open(&args, ret, err);
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}

/* Everything of the tar into the writer; the digest of the plain bytes into hex. */
static int feed(struct plain *plain, struct erofs_writer *w, char hex[DIGEST_HEX_LEN + 1],
                struct cc_err *err)
{
        DIGEST struct digest *digest = digest_new();
        AHEAD struct ahead *ahead = NULL;
        int r = ahead_start(read_plain, plain, digest, AHEAD_BY_THREAD, &ahead, err);

        if (r == 0)
                r = erofs_add_tar(w, ahead_next, ahead, err);
        if (r == 0)
                digest_hex(digest, hex);
        return r;
}

struct image_source {
        int fd;
        off_t at;
};

static int read_image(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct image_source *s = ctx;
        ssize_t r;

        do
                r = pread(s->fd, buf, n, s->at);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return cc_fail_errno(err, errno, "read image");
        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "canceled");
        s->at += r;
        *ret = (size_t)r;
        return 0;
}

static void *write_back(void *arg)
{
        (void)sync_file_range(*(int *)arg, 0, 0, SYNC_FILE_RANGE_WRITE);
        return NULL;
}

/* The superblock comes first and is known last: only now can the image be hashed, from the page
 * cache. Publishing it will have to sync it, so meanwhile the disk gets its work. */
static int digest_of_image(int fd, char hex[DIGEST_HEX_LEN + 1], struct cc_err *err)
{
        DIGEST struct digest *digest = digest_new();
        AHEAD struct ahead *ahead = NULL;
        struct image_source source = { .fd = fd };
        pthread_t disk;
        bool writing = pthread_create(&disk, NULL, write_back, &fd) == 0;
        const void *bytes = NULL;
        size_t n = 1;
        int r = ahead_start(read_image, &source, digest, AHEAD_BY_READER, &ahead, err);

        while (r == 0 && n)
                r = ahead_next(ahead, &bytes, &n, err);
        if (writing)
                (void)pthread_join(disk, NULL);
        if (r == 0)
                digest_hex(digest, hex);
        return r;
}

static int convert(const struct config *config, struct plain *plain, const char *diff_id,
                   const char *out, struct built_layer *ret, struct cc_err *err)
{
        EROFS_WRITER struct erofs_writer *w = NULL;
        CC_CLOSE int fd = -1;
        char hex[DIGEST_HEX_LEN + 1];
        struct erofs_stats stats;
        uint8_t uuid[16];
        int r = open_writer(config, out, &fd, &w, err);

        if (r == 0)
                r = feed(plain, w, hex, err);
        if (r < 0)
                return r;
        if (diff_id && !cc_streq(hex, digest_digits(diff_id)))
                return cc_fail(err, CC_CORRUPT, "the unpacked layer has sha256:%s instead of %s",
                               hex, diff_id);
        erofs_uuid(hex, uuid);
        r = erofs_writer_finish(w, uuid, &stats, err);
        if (r < 0)
                return r;
        r = digest_of_image(fd, ret->erofs_sha256, err);
        if (r == 0)
                (void)snprintf(ret->diff_id, sizeof(ret->diff_id), "sha256:%s", hex);
        return r;
}

int convert_layer(const struct config *config, inflate_source_fn source, void *ctx,
                  const char *diff_id, const char *out, struct built_layer *ret, struct cc_err *err)
{
        INFLATE struct inflate *inflate = NULL;
        struct plain plain = { 0 };
        struct built_layer built;
        int r = inflate_open(INFLATE_LAYER, source, ctx, "layer", &inflate, err);

        if (r < 0)
                return r;
        plain.inflate = inflate;
        plain.max = config->layer_max_size > 0 ? config->layer_max_size : INT64_MAX;
        r = convert(config, &plain, diff_id, out, &built, err);
        if (r < 0) {
                (void)cc_unlink(out, NULL);
                return r;
        }
        *ret = built;
        return 0;
}
