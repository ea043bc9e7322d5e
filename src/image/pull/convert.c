/* Compressed bytes → plain tar → EROFS. See convert.h. */
#include "image/pull/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/size.h"
#include "config/layout.h"
#include "image/erofs/tar.h"
#include "image/pull/ahead.h"
#include "image/pull/follow.h"

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

static int open_image(const char *out, int *ret, struct cc_err *err)
{
        int fd = open(out, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", out);
        *ret = fd;
        return 0;
}

static int open_writer(const struct config *config, int fd, struct follow *follow,
                       struct erofs_writer **ret, struct cc_err *err)
{
        CC_FREE char *temp = layout_oci_temp(config);
        struct erofs_writer_args args = {
                .fd = fd,
                .temp_dir = temp,
                .max_bytes = config->layer_max_size > 0 ? (uint64_t)config->layer_max_size : 0,
                .settled = follow_settled,
                .settled_ctx = follow,
        };

        return erofs_writer_open(&args, ret, err);
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

/* Everything behind the data, and the digest of the whole. Publishing the image will have to sync
 * it, so the disk gets its work while the digest is not there yet. */
static int finish(struct erofs_writer *w, int fd, const uint8_t uuid[16], struct follow *follow,
                  char hex[DIGEST_HEX_LEN + 1], struct cc_err *err)
{
        struct erofs_stats stats;
        int r = erofs_writer_finish(w, uuid, &stats, err);

        if (r < 0)
                return r;
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        return follow_digest(follow, hex, err);
}

static int convert(const struct config *config, struct plain *plain, const char *diff_id,
                   const char *out, struct built_layer *ret, struct cc_err *err)
{
        CC_CLOSE int fd = -1;
        FOLLOW struct follow *follow = NULL;
        EROFS_WRITER struct erofs_writer *w = NULL;
        char hex[DIGEST_HEX_LEN + 1];
        uint8_t uuid[16];
        int r = open_image(out, &fd, err);

        if (r == 0)
                r = follow_start(fd, &follow, err);
        if (r == 0)
                r = open_writer(config, fd, follow, &w, err);

        if (r == 0)
                r = feed(plain, w, hex, err);
        if (r < 0)
                return r;
        if (diff_id && !cc_streq(hex, digest_digits(diff_id)))
                return cc_fail(err, CC_CORRUPT, "the unpacked layer has sha256:%s instead of %s",
                               hex, diff_id);
        erofs_uuid(hex, uuid);
        r = finish(w, fd, uuid, follow, ret->erofs_sha256, err);
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
