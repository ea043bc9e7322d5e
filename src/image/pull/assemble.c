/* Blob locks, building, boot files, commit. Theory of operation: assemble.h. */
#include "image/pull/assemble.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "image/pull/bootfiles.h"
#include "image/pull/digest.h"
#include "image/pull/work.h"

/* One blob of the image; layers with equal digests share it. */
struct blob {
        size_t layer; /* first layer that has the digest */
        const char *hex;
        char *path;
        int lock;
        bool exists; /* valid when the lock was taken */
        bool build;  /* to be built by us */
        bool made;   /* we renamed it into place */
        bool known;  /* erofs_sha256 comes from a record */
        char erofs_sha256[DIGEST_HEX_LEN + 1];
        char diff_id[DIGEST_TEXT_LEN + 1];
        char builder[64];
};

struct state {
        const struct assembly *a;
        const struct config *config;
        struct blob *blobs; /* in hex order: the lock order */
        size_t n;
        size_t *todo; /* indices of blobs to build */
        size_t n_todo;
        struct boot_result boot;
        char *flat; /* the merged blob that a record of this very image already has */
};

size_t assembly_workers(const struct image_env *env, size_t n_layers)
{
        size_t pool = env->config->pool_size > 0 ? (size_t)env->config->pool_size : 1;

        return pool < n_layers ? pool : n_layers;
}

static void report(const struct assembly *a, enum image_phase phase)
{
        struct image_progress p = { .phase = phase, .total = a->n_layers };

        if (a->env->progress)
                a->env->progress(a->env->progress_ctx, &p);
}

static int by_hex(const void *a, const void *b)
{
        return strcmp(((const struct blob *)a)->hex, ((const struct blob *)b)->hex);
}

static void state_init(struct state *s, const struct assembly *a)
{
        size_t n = 0;

        *s = (struct state){ .a = a, .config = a->env->config };
        s->blobs = xcalloc(a->n_layers + 1, sizeof(*s->blobs));
        s->todo = xcalloc(a->n_layers + 1, sizeof(*s->todo));
        for (size_t i = 0; i < a->n_layers; i++)
                s->blobs[i] = (struct blob){ .layer = i,
                                             .hex = digest_digits(a->layers[i].digest),
                                             .lock = -1 };
        /* Equal digests end up side by side; keep the first of each. */
        qsort(s->blobs, a->n_layers, sizeof(*s->blobs), by_hex);
        for (size_t i = 0; i < a->n_layers; i++)
                if (n == 0 || strcmp(s->blobs[n - 1].hex, s->blobs[i].hex) != 0)
                        s->blobs[n++] = s->blobs[i];
        s->n = n;
        for (size_t i = 0; i < n; i++)
                s->blobs[i].path = layout_oci_blob(s->config, s->blobs[i].hex);
}

static void unlock(struct state *s)
{
        for (size_t i = 0; i < s->n; i++) {
                if (s->blobs[i].lock >= 0)
                        close(s->blobs[i].lock);
                s->blobs[i].lock = -1;
        }
}

static void state_free(struct state *s)
{
        unlock(s);
        for (size_t i = 0; i < s->n; i++)
                free(s->blobs[i].path);
        free(s->blobs);
        free(s->todo);
        free(s->flat);
        boot_result_clear(&s->boot);
}

int assembly_current(const struct image_env *env, const char *ref, const char *manifest_digest,
                     struct image_record *ret, bool *ret_same, struct cc_err *err)
{
        IMAGE_RECORD struct image_record old = IMAGE_RECORD_INIT;
        struct image_files files = { 0 };
        struct cc_err e = CC_ERR_INIT;
        int r = meta_image_get(env->meta, IMAGE_OCI, ref, &old, &e);

        *ret_same = false;
        if (r < 0)
                return r == -CC_NOT_FOUND ? 0 : cc_err_copy(err, &e);
        if (!cc_streq(old.manifest_digest, manifest_digest))
                return 0;
        if (image_files(env->config, IMAGE_OCI, &old, false, &files, NULL) < 0)
                return 0;
        image_files_clear(&files);
        *ret_same = true;
        *ret = old;
        memset(&old, 0, sizeof(old));
        return 0;
}

/* Shared locks on what exists, exclusive ones on what is missing, in hex order. */
static int lock_blobs(struct state *s, struct cc_err *err)
{
        for (;;) {
                bool again = false;

                for (size_t i = 0; i < s->n && !again; i++) {
                        struct blob *b = &s->blobs[i];
                        CC_FREE char *path = layout_blob_lock(s->config, b->hex);
                        bool shared = !s->a->force && cc_is_valid_file(b->path);
                        int r = cc_lock(path, shared ? CC_LOCK_SHARED : CC_LOCK_EXCLUSIVE, "image",
                                        0, &b->lock, err);

                        if (r < 0)
                                return r;
                        b->exists = cc_is_valid_file(b->path);
                        /* gc took it in between: start over, for the order's sake. */
                        again = shared && !b->exists;
                }
                if (!again)
                        return 0;
                unlock(s);
        }
}

/* What records say about blobs that exist, and about the image itself. */
static int take_known(void *ctx, const char *kind, struct image_record *image, struct cc_err *err)
{
        struct state *s = ctx;

        if (cc_streq(image->manifest_digest, s->a->manifest_digest) && image->flat &&
            cc_is_hex(image->flat, DIGEST_HEX_LEN))
                cc_strset(&s->flat, image->flat);
        for (size_t i = 0; i < image->layers.len; i++) {
                const struct image_layer *l = image_layer_at(image, i);

                if (!digest_valid(l->digest) || !l->erofs_sha256 ||
                    !cc_is_hex(l->erofs_sha256, DIGEST_HEX_LEN))
                        continue;
                for (size_t k = 0; k < s->n; k++) {
                        struct blob *b = &s->blobs[k];

                        if (b->known || !cc_streq(b->hex, digest_digits(l->digest)))
                                continue;
                        b->known = true;
                        (void)snprintf(b->erofs_sha256, sizeof(b->erofs_sha256), "%s",
                                       l->erofs_sha256);
                        (void)snprintf(b->builder, sizeof(b->builder), "%s",
                                       l->builder ? l->builder : "");
                        if (digest_valid(l->diff_id))
                                (void)snprintf(b->diff_id, sizeof(b->diff_id), "%s", l->diff_id);
                }
        }
        return 0;
}

static int hash_blob(const struct blob *b, char hex[DIGEST_HEX_LEN + 1], struct cc_err *err)
{
        CC_CLOSE int fd = open(b->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", b->path);
        return digest_of_fd(fd, hex, NULL, err);
}

/* Decide per blob: keep or build. */
static int examine(struct state *s, struct cc_err *err)
{
        int r = meta_image_each(s->a->env->meta, IMAGE_OCI, take_known, s, err);

        for (size_t i = 0; i < s->n && r == 0; i++) {
                struct blob *b = &s->blobs[i];
                char hex[DIGEST_HEX_LEN + 1];
                const struct cc_strv *ids = &s->a->config->diff_ids;

                if (b->exists && (s->a->force || !b->known)) {
                        r = hash_blob(b, hex, err);
                        if (r < 0)
                                break;
                        if (b->known && !cc_streq(hex, b->erofs_sha256)) {
                                cc_warn("image", "layer sha256:%.12s is damaged and made again",
                                        b->hex);
                                b->exists = false;
                        } else if (!b->known) {
                                /* Left by an interrupted pull of ours: complete when renamed. */
                                (void)snprintf(b->erofs_sha256, sizeof(b->erofs_sha256), "%s", hex);
                                if (b->layer < ids->len)
                                        (void)snprintf(b->diff_id, sizeof(b->diff_id), "%s",
                                                       ids->v[b->layer]);
                                (void)snprintf(b->builder, sizeof(b->builder), "%s",
                                               convert_builder());
                        }
                }
                b->build = !b->exists;
                if (b->build)
                        s->todo[s->n_todo++] = i;
        }
        return r;
}

static int build_one(void *ctx, size_t worker, size_t item, struct cc_err *err)
{
        struct state *s = ctx;
        struct blob *b = &s->blobs[s->todo[item]];
        CC_FREE char *out = xasprintf("%s/layer-%zu.erofs", s->a->scratch->dir, b->layer);
        struct built_layer built;
        int r = s->a->build(s->a->ctx, worker, b->layer, out, &built, err);

        if (r < 0)
                return r;
        /* A VM may be bound to the lost bytes: only the same ones may take their place. */
        if (b->known && !cc_streq(b->erofs_sha256, built.erofs_sha256)) {
                (void)cc_unlink(out, NULL);
                return cc_fail(err, CC_CORRUPT,
                               "layer sha256:%.12s was made by %s as %.12s and now comes out as "
                               "%.12s: it is not replaced",
                               b->hex, *b->builder ? b->builder : "another builder",
                               b->erofs_sha256, built.erofs_sha256);
        }
        (void)snprintf(b->erofs_sha256, sizeof(b->erofs_sha256), "%s", built.erofs_sha256);
        (void)snprintf(b->diff_id, sizeof(b->diff_id), "%s", built.diff_id);
        (void)snprintf(b->builder, sizeof(b->builder), "%s", convert_builder());
        if (chmod(out, 0444) < 0)
                return cc_fail_errno(err, errno, "chmod %s", out);
        r = cc_publish_file(out, b->path, false, err);
        if (r < 0)
                return r;
        b->made = true;
        return cc_failpoint("image.layer", err);
}

/* Undo what this call added. The exclusive locks are still held, so nobody uses it. */
static void roll_back(struct state *s)
{
        const char *path;

        cc_strv_foreach (&s->boot.made, i, path) {
                CC_FREE char *dir = xstrndup(path, (size_t)(cc_basename(path) - path - 1));

                (void)cc_unlink(path, NULL);
                /* Refuses unless it is empty. */
                (void)rmdir(dir);
        }
        for (size_t i = 0; i < s->n; i++)
                if (s->blobs[i].made)
                        (void)cc_unlink(s->blobs[i].path, NULL);
}

static int blob_sizes(const struct state *s, int64_t *ret, struct cc_err *err)
{
        int64_t total = 0;

        for (size_t i = 0; i < s->n; i++) {
                struct stat st;

                if (stat(s->blobs[i].path, &st) < 0)
                        return cc_fail_errno(err, errno, "stat %s", s->blobs[i].path);
                if (!S_ISREG(st.st_mode) || st.st_size == 0)
                        return cc_fail(err, CC_CORRUPT, "%s is not a valid blob", s->blobs[i].path);
                total += st.st_size;
        }
        *ret = total;
        return 0;
}

static const struct blob *blob_of_layer(const struct state *s, size_t layer)
{
        const char *hex = digest_digits(s->a->layers[layer].digest);

        for (size_t i = 0; i < s->n; i++)
                if (cc_streq(s->blobs[i].hex, hex))
                        return &s->blobs[i];
        return NULL;
}

static void fill_record(const struct state *s, int64_t size, struct image_record *ret,
                        struct cc_strv *pins)
{
        ret->ref = xstrdup(s->a->ref);
        ret->manifest_digest = xstrdup(s->a->manifest_digest);
        ret->kernel_layer = xstrdup(s->boot.kernel_layer);
        ret->initrd_layer = xstrdup(s->boot.initrd_layer);
        ret->size = size + s->boot.size;
        ret->created_at = cc_now();
        for (size_t i = 0; i < s->a->n_layers; i++) {
                const struct blob *b = blob_of_layer(s, i);
                struct image_layer *l = record_array_add(&image_layer_type, &ret->layers);

                l->digest = xstrdup(s->a->layers[i].digest);
                l->erofs_sha256 = xstrdup(b->erofs_sha256);
                l->builder = *b->builder ? xstrdup(b->builder) : NULL;
                l->diff_id = *b->diff_id ? xstrdup(b->diff_id) : NULL;
        }
        for (size_t i = 0; i < s->n; i++)
                cc_strv_add(pins, s->blobs[i].hex);
        if (!cc_strv_has(pins, digest_digits(ret->kernel_layer)))
                cc_strv_add(pins, digest_digits(ret->kernel_layer));
        if (!cc_strv_has(pins, digest_digits(ret->initrd_layer)))
                cc_strv_add(pins, digest_digits(ret->initrd_layer));
        if (s->flat) {
                ret->flat = xstrdup(s->flat);
                cc_strv_add(pins, s->flat);
        }
}

static int commit(struct state *s, struct image_record *ret, struct cc_err *err)
{
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv pins = { 0 };
        struct meta *m = s->a->env->meta;
        int64_t size = 0;
        int r = blob_sizes(s, &size, err);

        if (r < 0)
                return r;
        fill_record(s, size, &record, &pins);
        r = meta_begin(m, META_DURABLE, err);
        if (r < 0)
                return r;
        r = meta_image_put(m, IMAGE_OCI, &record, &pins, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        r = meta_commit(m, err);
        if (r < 0)
                return r;
        *ret = record;
        memset(&record, 0, sizeof(record));
        return 0;
}

static int find_boot_files(struct state *s, struct cc_err *err)
{
        IMAGE_RECORD struct image_record old = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv digests = { 0 };
        bool mine = s->a->force &&
                    meta_image_get(s->a->env->meta, IMAGE_OCI, s->a->ref, &old, NULL) == 0 &&
                    cc_streq(old.manifest_digest, s->a->manifest_digest);

        for (size_t i = 0; i < s->a->n_layers; i++)
                cc_strv_add(&digests, s->a->layers[i].digest);
        return bootfiles_publish(s->config, &digests, s->a->config, s->a->scratch->dir,
                                 mine ? old.kernel_layer : NULL, mine ? old.initrd_layer : NULL,
                                 &s->boot, err);
}

static int make(struct state *s, struct image_record *ret, struct cc_err *err)
{
        const struct assembly *a = s->a;
        int r = examine(s, err);

        if (r == 0 && !a->scratch->dir)
                r = scratch_create(s->config, "pull", a->scratch, err);
        if (r == 0)
                r = work_run(s->n_todo, assembly_workers(a->env, s->n_todo), a->cancel, build_one,
                             s, err);
        if (r < 0)
                return r;
        report(a, IMAGE_COMMIT);
        r = find_boot_files(s, err);
        if (r == 0)
                r = cc_failpoint("image.boot", err);
        if (r == 0)
                r = commit(s, ret, err);
        return r;
}

int assembly_run(const struct assembly *a, struct image_record *ret, bool *ret_unchanged,
                 struct cc_err *err)
{
        CC_CLEANUP(state_free) struct state s;
        bool same = false;
        int r = 0;

        state_init(&s, a);
        if (!a->force)
                r = assembly_current(a->env, a->ref, a->manifest_digest, ret, &same, err);
        if (r == 0 && !same)
                r = lock_blobs(&s, err);
        /* While we waited for a lock, the process that held it may have made the very image. */
        if (r == 0 && !same && !a->force)
                r = assembly_current(a->env, a->ref, a->manifest_digest, ret, &same, err);
        if (r == 0 && !same) {
                struct cc_err e = CC_ERR_INIT;

                r = make(&s, ret, &e);
                if (r < 0) {
                        cc_uninterruptible_begin();
                        if (e.class != CC_CANCELED && e.class != CC_NETWORK)
                                roll_back(&s);
                        cc_uninterruptible_end();
                        return cc_err_copy(err, &e);
                }
        }
        if (r < 0)
                return r;
        report(a, IMAGE_DONE);
        if (ret_unchanged)
                *ret_unchanged = same;
        return 0;
}
