/*
 * image import: tar layers and image archives from files or standard input (images.md §4); disks
 * are handed on to import_disk.c. Every input becomes a plain file first: streams are spooled,
 * because what they hold shows only at their end.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/sys.h"
#include "image/pull/assemble.h"
#include "image/pull/import_disk.h"
#include "image/pull/layer.h"
#include "image/pull/layout.h"
#include "image/pull/pull.h"
#include "image/pull/reporter.h"
#include "image/pull/sniff.h"
#include "image/pull/work.h"

enum { CHUNK = 1 << 18, NAME_LEN_MAX = 255 };

struct import {
        const struct image_env *env;
        const char *name;
        struct cancel cancel;
        struct scratch scratch;
        struct reporter reporter;
        struct cc_strv files;           /* plain tars, or empty with a layout */
        struct descriptor *descriptors; /* of tar layers */
        struct built_layer *built;
        size_t n_built;
        struct layout layout;
};

static void import_free(struct import *m)
{
        scratch_remove(&m->scratch);
        reporter_free(&m->reporter);
        cancel_free(&m->cancel);
        for (size_t i = 0; m->descriptors && i < m->files.len; i++)
                descriptor_clear(&m->descriptors[i]);
        free(m->descriptors);
        free(m->built);
        cc_strv_free(&m->files);
        layout_clear(&m->layout);
}

/* A name must not be mistaken for a URL or a digest when it is looked up. */
static int check_name(const char *name, struct cc_err *err)
{
        const char *hex = cc_startswith(name, "sha256:") ? name + 7 : name;
        size_t n = strlen(name);
        size_t digits = strlen(hex);

        if (n == 0 || n > NAME_LEN_MAX)
                return cc_fail(err, CC_INVALID, "image name must have 1 to %d characters",
                               NAME_LEN_MAX);
        for (size_t i = 0; i < n; i++)
                if (name[i] <= ' ' || name[i] > '~')
                        return cc_fail(err, CC_INVALID,
                                       "image name \"%s\" has a blank or a "
                                       "non-printable character",
                                       name);
        if (strstr(name, "://"))
                return cc_fail(err, CC_INVALID, "image name \"%s\" is a URL", name);
        if (hex != name || (digits >= 12 && digits <= 64 && cc_is_hex(hex, digits)))
                return cc_fail(err, CC_INVALID, "image name \"%s\" looks like a digest", name);
        return 0;
}

/* A name in both stores means neither image (images.md §5). */
static void warn_shadow(const struct image_env *env, const char *name, bool disk)
{
        IMAGE_RECORD struct image_record other = IMAGE_RECORD_INIT;

        if (meta_image_get(env->meta, disk ? IMAGE_OCI : IMAGE_CLOUDIMG, name, &other, NULL) == 0)
                cc_warn("image", "\"%s\" is also the name of %s image", name,
                        disk ? "an OCI" : "a cloud");
}

struct fd_source {
        int fd;
};

static int read_fd(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        const struct fd_source *s = ctx;

        for (;;) {
                ssize_t r = read(s->fd, buf, n);

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "canceled");
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return cc_fail_errno(err, errno, "read");
                *ret = (size_t)r;
                return 0;
        }
}

static int64_t size_limit(const struct config *config)
{
        return config->layer_max_size > 0 ? config->layer_max_size : INT64_MAX;
}

static bool is_disk(enum sniff kind)
{
        return kind == SNIFF_QCOW2 || kind == SNIFF_DISK;
}

static int refuse_unknown(const char *shown, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "cannot detect file type for %s (expected qcow2 or tar)",
                       shown);
}

/* The rest of a stream behind its head into a file of the scratch. */
static int spool(struct import *m, const char *head, size_t n, struct inflate *s, const char *shown,
                 struct cc_err *err)
{
        CC_FREE char *path = NULL;
        CC_FREE char *buf = xmalloc(CHUNK);
        int64_t left = size_limit(m->env->config);
        CC_CLOSE int out = -1;
        int r = scratch_create(m->env->config, "import", &m->scratch, err);

        if (r < 0)
                return r;
        path = cc_path_join(m->scratch.dir, "stream.tar");
        out = cc_sys.openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (out < 0)
                return cc_fail_errno(err, errno, "create %s", path);
        memcpy(buf, head, n);
        while (r == 0 && n > 0) {
                left -= (int64_t)n;
                if (left < 0)
                        return cc_fail(err, CC_INVALID, "%s unpacks to more than layer_max_size",
                                       shown);
                r = cc_write_all(out, buf, n, err);
                if (r == 0)
                        r = inflate_read(s, buf, CHUNK, &n, err);
        }
        if (r < 0)
                return cc_wrap(err, "spool %s", shown);
        cc_strv_take(&m->files, TAKE_PTR(path));
        return 0;
}

/* The first SNIFF_LEN bytes, or all if there are fewer. */
static int read_head(struct inflate *s, char head[SNIFF_LEN], size_t *ret, struct cc_err *err)
{
        size_t have = 0;
        size_t n = 1;
        int r = 0;

        while (r == 0 && n > 0 && have < SNIFF_LEN) {
                r = inflate_read(s, head + have, SNIFF_LEN - have, &n, err);
                have += r == 0 ? n : 0;
        }
        *ret = have;
        return r;
}

/* One stream: standard input, a pipe or a compressed file. *ret_disk: it was a disk, and is
 * imported. */
static int take_stream(struct import *m, int fd, const char *shown, size_t n,
                       struct image_record *ret, bool *ret_disk, struct cc_err *err)
{
        struct fd_source source = { .fd = fd };
        INFLATE struct inflate *s = NULL;
        char head[SNIFF_LEN];
        enum sniff kind;
        size_t have = 0;
        int r;

        if (n > 1)
                return cc_fail(err, CC_INVALID, "stream imports accept exactly one file, got %zu",
                               n);
        r = inflate_open(INFLATE_DISK, read_fd, &source, shown, &s, err);
        if (r == 0)
                r = read_head(s, head, &have, err);
        if (r < 0)
                return r;
        kind = sniff_bytes(head, have);
        if (is_disk(kind)) {
                *ret_disk = true;
                warn_shadow(m->env, m->name, true);
                return import_disk_stream(m->env, &m->reporter, m->name, head, have, s, ret, err);
        }
        if (kind != SNIFF_TAR)
                return refuse_unknown(shown, err);
        return spool(m, head, have, s, shown, err);
}

/* The kind of a file by its first bytes; those of a disk may go on in its next part. */
static int sniff_files(const char *const *files, size_t n, enum sniff *ret, struct cc_err *err)
{
        char head[SNIFF_LEN];
        size_t have = 0;

        *ret = SNIFF_UNKNOWN;
        for (size_t i = 0; i < n && have < sizeof(head); i++) {
                CC_CLOSE int fd = open(files[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
                enum sniff kind;
                ssize_t got = 1;

                if (fd < 0)
                        return cc_fail_errno(err, errno, "open %s", files[i]);
                while (got > 0 && have < sizeof(head)) {
                        got = read(fd, head + have, sizeof(head) - have);
                        if (got < 0 && errno == EINTR)
                                got = 1;
                        else if (got < 0)
                                return cc_fail_errno(err, errno, "read %s", files[i]);
                        else
                                have += (size_t)got;
                }
                kind = sniff_bytes(head, have);
                if (i == 0 || is_disk(kind))
                        *ret = kind;
                if (*ret != SNIFF_UNKNOWN)
                        break;
        }
        return 0;
}

/* The first file decides what all are. */
static int take_files(struct import *m, const char *const *files, size_t n,
                      struct image_record *ret, bool *ret_disk, struct cc_err *err)
{
        CC_CLOSE int fd = open(files[0], O_RDONLY | O_CLOEXEC);
        enum sniff kind;
        struct stat st;
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", files[0]);
        if (fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", files[0]);
        if (!S_ISREG(st.st_mode))
                return take_stream(m, fd, files[0], n, ret, ret_disk, err);
        r = sniff_files(files, n, &kind, err);
        if (r < 0)
                return r;
        if (kind == SNIFF_GZIP || kind == SNIFF_ZSTD || kind == SNIFF_XZ)
                return take_stream(m, fd, files[0], n, ret, ret_disk, err);
        if (is_disk(kind)) {
                *ret_disk = true;
                warn_shadow(m->env, m->name, true);
                return import_disk_files(m->env, &m->reporter, m->name, files, n, ret, err);
        }
        if (kind != SNIFF_TAR)
                return refuse_unknown(files[0], err);
        for (size_t i = 0; i < n; i++)
                cc_strv_add(&m->files, files[i]);
        return 0;
}

/* ---- tar layers ---- */

struct tar_source {
        int fd;
        off_t pos;
        struct cancel *cancel;
};

static int read_tar(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct tar_source *s = ctx;

        for (;;) {
                ssize_t r = pread(s->fd, buf, n, s->pos);

                if (cancel_pending(s->cancel))
                        return cc_fail(err, CC_CANCELED, "canceled");
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return cc_fail_errno(err, errno, "read");
                s->pos += r;
                *ret = (size_t)r;
                return 0;
        }
}

static char *built_path(const struct import *m, size_t i)
{
        return xasprintf("%s/tar-%zu.erofs", m->scratch.dir, i);
}

/* A work_fn: the layer's digest is known only when it is converted. */
static int convert_tar(void *ctx, size_t worker, size_t i, struct cc_err *err)
{
        struct import *m = ctx;
        CC_FREE char *out = built_path(m, i);
        CC_CLOSE int fd = open(m->files.v[i], O_RDONLY | O_CLOEXEC);
        struct tar_source source = { .fd = fd, .cancel = &m->cancel };
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "open %s", m->files.v[i]);
        r = convert_layer(m->env->config, read_tar, &source, NULL, out, &m->built[i], err);
        if (r < 0)
                return cc_wrap(err, "layer %s", cc_basename(m->files.v[i]));
        m->descriptors[i].digest = xstrdup(m->built[i].diff_id);
        m->descriptors[i].size = st.st_size;
        return 0;
}

static int take_built(void *ctx, size_t worker, size_t layer, const char *out,
                      struct built_layer *ret, struct cc_err *err)
{
        struct import *m = ctx;
        CC_FREE char *path = built_path(m, layer);

        if (rename(path, out) < 0)
                return cc_fail_errno(err, errno, "rename %s", path);
        *ret = m->built[layer];
        return 0;
}

static int import_tars(struct import *m, struct image_record *ret, struct cc_err *err)
{
        static const struct image_config no_config;
        size_t n = m->files.len;
        struct assembly a = { .env = m->env, .ref = m->name, .n_layers = n };
        char digest[DIGEST_TEXT_LEN + 1];
        int r;

        if (n > LAYERS_MAX)
                return cc_fail(err, CC_INVALID, "%zu layers, more than the %d a VM can have", n,
                               LAYERS_MAX);
        m->descriptors = xcalloc(n, sizeof(*m->descriptors));
        m->built = xcalloc(n, sizeof(*m->built));
        m->reporter.total = n;
        reporter_phase(&m->reporter, IMAGE_CONVERT);
        r = work_run(n, assembly_workers(m->env, n), &m->cancel, convert_tar, m, err);
        if (r < 0)
                return r;
        layout_digest_of_layers(m->descriptors, n, digest);
        a.manifest_digest = digest;
        a.layers = m->descriptors;
        a.config = &no_config;
        a.scratch = &m->scratch;
        a.cancel = &m->cancel;
        a.build = take_built;
        a.ctx = m;
        return assembly_run(&a, ret, NULL, err);
}

/* ---- image archives ---- */

static int build_from_layout(void *ctx, size_t worker, size_t layer, const char *out,
                             struct built_layer *ret, struct cc_err *err)
{
        struct import *m = ctx;
        const struct descriptor *d = &m->layout.manifest.layers[layer];
        struct layer_request rq = { .config = m->env->config, .descriptor = d, .out = out };
        struct reporter_layer progress = { .reporter = &m->reporter, .index = layer };
        int r;

        rq.diff_id =
                layer < m->layout.config.diff_ids.len ? m->layout.config.diff_ids.v[layer] : NULL;
        r = layer_from_file(&rq, m->layout.files.v[layer], ret, err);
        progress.digest = d->digest;
        progress.total_bytes = d->size;
        if (r == 0)
                reporter_layer_bytes(&progress, d->size);
        return r;
}

static int import_layout(struct import *m, const char *dir, enum archive_kind kind,
                         struct image_record *ret, struct cc_err *err)
{
        struct assembly a = { .env = m->env, .ref = m->name };
        int r = layout_open(dir, kind, m->name, &m->layout, err);

        if (r < 0)
                return r;
        m->reporter.total = m->layout.manifest.n_layers;
        a.manifest_digest = m->layout.digest;
        a.layers = m->layout.manifest.layers;
        a.n_layers = m->layout.manifest.n_layers;
        a.config = &m->layout.config;
        a.scratch = &m->scratch;
        a.cancel = &m->cancel;
        a.build = build_from_layout;
        a.ctx = m;
        return assembly_run(&a, ret, NULL, err);
}

static int import_archive(struct import *m, enum archive_kind kind, struct image_record *ret,
                          struct cc_err *err)
{
        CC_FREE char *dir = cc_path_join(m->scratch.dir, "layout");
        int r = cc_mkdir_p(dir, 0700, err);

        if (r == 0)
                r = archive_unpack(m->files.v[0], dir, size_limit(m->env->config), err);
        return r < 0 ? r : import_layout(m, dir, kind, ret, err);
}

static bool is_dir(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int run(struct import *m, const char *const *files, size_t n, struct image_record *ret,
               bool *ret_disk, struct cc_err *err)
{
        enum archive_kind kind = ARCHIVE_NONE;
        int r;

        if (n == 1 && is_dir(files[0])) {
                kind = archive_probe_dir(files[0]);
                if (kind == ARCHIVE_NONE)
                        return cc_fail(err, CC_INVALID, "%s is a directory but no image layout",
                                       files[0]);
                warn_shadow(m->env, m->name, false);
                return import_layout(m, files[0], kind, ret, err);
        }
        if (n == 0)
                r = take_stream(m, STDIN_FILENO, "standard input", 1, ret, ret_disk, err);
        else
                r = take_files(m, files, n, ret, ret_disk, err);
        if (r < 0 || *ret_disk)
                return r;
        warn_shadow(m->env, m->name, false);
        if (!m->scratch.dir)
                r = scratch_create(m->env->config, "import", &m->scratch, err);
        if (r == 0 && m->files.len == 1)
                r = archive_probe(m->files.v[0], &kind, err);
        if (r < 0)
                return r;
        return kind == ARCHIVE_NONE ? import_tars(m, ret, err) : import_archive(m, kind, ret, err);
}

int image_import(const struct image_env *env, const char *name, const char *const *files, size_t n,
                 char ret_kind[16], struct image_record *ret, struct cc_err *err)
{
        CC_CLEANUP(import_free) struct import m = { .env = env, .name = name };
        bool disk = false;
        int r;

        cancel_init(&m.cancel);
        reporter_init(&m.reporter, env, 0);
        r = check_name(name, err);
        if (r == 0)
                r = run(&m, files, n, ret, &disk, err);
        if (r == 0)
                (void)snprintf(ret_kind, 16, "%s", disk ? IMAGE_CLOUDIMG : IMAGE_OCI);
        return r;
}
