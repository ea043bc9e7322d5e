/* The merged blob of an image. Theory of operation: flatten.h. */
#include "image/pull/flatten.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "config/layout.h"
#include "image/erofs/flat.h"
#include "image/erofs/tar.h"
#include "image/pull/scratch.h"

int flatten_name(const struct image_record *image, char ret[DIGEST_HEX_LEN + 1], struct cc_err *err)
{
        DIGEST struct digest *d = digest_new();

        if (image->layers.len == 0)
                return cc_fail(err, CC_CORRUPT, "image %s: the record has no layers", image->ref);
        digest_add(d, "flat1\n", 6);
        for (size_t i = 0; i < image->layers.len; i++) {
                const char *digest = image_layer_at(image, i)->digest;

                if (!digest || !digest_valid(digest))
                        return cc_fail(err, CC_CORRUPT,
                                       "image %s: the record holds an invalid digest", image->ref);
                if (i > 0)
                        digest_add(d, "\n", 1);
                digest_add(d, digest, strlen(digest));
        }
        digest_hex(d, ret);
        return 0;
}

struct flatten {
        const struct image_env *env;
        const struct image_record *image;
        char hex[DIGEST_HEX_LEN + 1];
        char *path; /* of the blob */
        int *locks;
        size_t n_locks;
        struct erofs_reader *readers; /* bottom to top */
        int *fds;
        char **names;
        size_t n_layers; /* of the three arrays, as far as they are filled */
        int64_t total;
        uint64_t shown;
};

static void flatten_free(struct flatten *f)
{
        for (size_t i = 0; i < f->n_locks; i++)
                close(f->locks[i]);
        for (size_t i = 0; i < f->n_layers; i++) {
                if (f->fds[i] >= 0)
                        close(f->fds[i]);
                free(f->names[i]);
        }
        free(f->locks);
        free(f->readers);
        free(f->fds);
        free(f->names);
        free(f->path);
}

static void report(struct flatten *f, enum image_phase phase, int64_t bytes)
{
        struct image_progress p = { .phase = phase,
                                    .total = f->image->layers.len,
                                    .bytes = bytes,
                                    .total_bytes = f->total };

        if (f->env->progress)
                f->env->progress(f->env->progress_ctx, &p);
}

/* All in hex order, like everyone: the layers shared, the result exclusive. */
static int lock(struct flatten *f, struct cc_err *err)
{
        CC_STRV struct cc_strv set = { 0 };
        const char *hex;

        for (size_t i = 0; i < f->image->layers.len; i++) {
                const char *digits = digest_digits(image_layer_at(f->image, i)->digest);

                if (!cc_strv_has(&set, digits))
                        cc_strv_add(&set, digits);
        }
        cc_strv_add(&set, f->hex);
        cc_strv_sort(&set);
        f->locks = xcalloc(set.len, sizeof(*f->locks));
        cc_strv_foreach (&set, i, hex) {
                CC_FREE char *path = layout_blob_lock(f->env->config, hex);
                bool mine = cc_streq(hex, f->hex);
                int r = cc_lock(path, mine ? CC_LOCK_EXCLUSIVE : CC_LOCK_SHARED, "image", 0,
                                &f->locks[f->n_locks], err);

                if (r < 0)
                        return r;
                f->n_locks++;
        }
        return 0;
}

static int open_layers(struct flatten *f, struct cc_err *err)
{
        size_t n = f->image->layers.len;

        f->readers = xcalloc(n, sizeof(*f->readers));
        f->fds = xcalloc(n, sizeof(*f->fds));
        f->names = xcalloc(n, sizeof(*f->names));
        for (size_t i = 0; i < n; i++) {
                const char *digest = image_layer_at(f->image, i)->digest;
                CC_FREE char *path = layout_oci_blob(f->env->config, digest_digits(digest));
                int r;

                f->names[i] = xasprintf("layer %.19s", digest);
                f->fds[i] = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                f->n_layers++;
                if (f->fds[i] < 0) {
                        r = cc_fail_errno(err, errno, "image %s: open %s", f->image->ref, path);
                        cc_hint(err, "cocoon image pull %s fetches it again", f->image->ref);
                        return r;
                }
                r = erofs_reader_init(f->fds[i], f->names[i], &f->readers[i], err);
                if (r < 0)
                        return r;
                f->total += (int64_t)f->readers[i].size;
        }
        return 0;
}

#define PROGRESS_STEP ((uint64_t)16 << 20)

static int copied(void *ctx, uint64_t bytes, struct cc_err *err)
{
        struct flatten *f = ctx;

        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "canceled");
        if (bytes - f->shown >= PROGRESS_STEP) {
                f->shown = bytes;
                report(f, IMAGE_CONVERT, (int64_t)bytes);
        }
        return 0;
}

static int merge(struct flatten *f, int fd, const char *temp, struct cc_err *err)
{
        EROFS_WRITER struct erofs_writer *w = NULL;
        struct erofs_writer_args args = { .fd = fd, .temp_dir = temp };
        struct erofs_stats stats;
        uint8_t uuid[16];
        int r = erofs_writer_open(&args, &w, err);

        if (r == 0)
                r = erofs_flatten(f->readers, f->n_layers, w, temp, copied, f, err);
        if (r < 0)
                return r;
        erofs_uuid(f->hex, uuid);
        return erofs_writer_finish(w, uuid, &stats, err);
}

/* Into a scratch directory, checked, then to its place. */
static int build(struct flatten *f, struct cc_err *err)
{
        SCRATCH struct scratch scratch = { 0 };
        CC_FREE char *out = NULL;
        CC_CLOSE int fd = -1;
        int r = open_layers(f, err);

        if (r == 0)
                r = scratch_create(f->env->config, "import", &scratch, err);
        if (r < 0)
                return r;
        report(f, IMAGE_CONVERT, 0);
        out = cc_path_join(scratch.dir, "flat.erofs");
        fd = open(out, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", out);
        r = merge(f, fd, scratch.dir, err);
        if (r == 0)
                r = cc_failpoint("image.flat", err);
        if (r < 0)
                return r;
        if (fchmod(fd, 0444) < 0)
                return cc_fail_errno(err, errno, "chmod %s", out);
        return cc_publish_file(out, f->path, false, err);
}

static void collect_pins(const struct image_record *image, struct cc_strv *pins)
{
        const char *boot[] = { image->kernel_layer, image->initrd_layer };

        for (size_t i = 0; i < image->layers.len; i++) {
                const char *hex = digest_digits(image_layer_at(image, i)->digest);

                if (!cc_strv_has(pins, hex))
                        cc_strv_add(pins, hex);
        }
        for (size_t i = 0; i < 2; i++)
                if (boot[i] && digest_valid(boot[i]) && !cc_strv_has(pins, digest_digits(boot[i])))
                        cc_strv_add(pins, digest_digits(boot[i]));
        cc_strv_add(pins, image->flat);
}

/* In one transaction: the record as it is now, with the flat blob. A ref that was removed or moved
 * to another manifest meanwhile is not ours to touch: the VM's own pin is enough. */
static int record_locked(struct flatten *f, struct cc_err *err)
{
        IMAGE_RECORD struct image_record now = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv pins = { 0 };
        struct cc_err e = CC_ERR_INIT;
        int r = meta_image_get(f->env->meta, IMAGE_OCI, f->image->ref, &now, &e);
        char hex[DIGEST_HEX_LEN + 1];

        if (r < 0)
                return r == -CC_NOT_FOUND ? 0 : cc_err_copy(err, &e);
        if (!cc_streq(now.manifest_digest, f->image->manifest_digest))
                return 0;
        r = flatten_name(&now, hex, err);
        if (r < 0 || !cc_streq(hex, f->hex) || cc_streq(now.flat, hex))
                return r;
        cc_strset(&now.flat, f->hex);
        collect_pins(&now, &pins);
        return meta_image_put(f->env->meta, IMAGE_OCI, &now, &pins, err);
}

static int record(struct flatten *f, struct cc_err *err)
{
        struct meta *m = f->env->meta;
        int r = meta_begin(m, META_DURABLE, err);

        if (r < 0)
                return r;
        r = record_locked(f, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

int image_flatten(const struct image_env *env, struct image_record *image, struct cc_err *err)
{
        CC_CLEANUP(flatten_free) struct flatten f = { .env = env, .image = image };
        bool made = false;
        int r = flatten_name(image, f.hex, err);

        if (r < 0)
                return r;
        f.path = layout_oci_blob(env->config, f.hex);
        if (cc_streq(image->flat, f.hex) && cc_is_valid_file(f.path))
                return 0;
        r = lock(&f, err);
        if (r == 0 && !cc_is_valid_file(f.path)) {
                r = build(&f, err);
                made = r == 0;
        }
        if (r < 0)
                return r;
        report(&f, IMAGE_COMMIT, f.total);
        r = record(&f, err);
        if (r < 0) {
                /* The exclusive lock is still held: nobody uses it. */
                if (made)
                        (void)cc_unlink(f.path, NULL);
                return r;
        }
        cc_strset(&image->flat, f.hex);
        report(&f, IMAGE_DONE, f.total);
        return 0;
}
