/*
 * Writing an archive: snapshot.json, then the files in order of their names. Files with holes
 * become sparse members. Small files get a digest (device state, configuration: where a flipped bit
 * would be silent); the large ones are the guest's own and protected by the tar's sizes and gzip's
 * CRC.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "snap/archive/digest.h"
#include "snap/archive/module.h"
#include "snap/archive/tar.h"

#define DIGEST_MAX    ((off_t)1 << 20)
#define MAX_EXTENTS   1000000
#define PROGRESS_STEP ((off_t)64 << 20)

struct file {
        char *path;
        int fd;
        struct stat st;
        struct tar_range *ranges;
        size_t n_ranges;
        bool sparse;
};

static void file_clear(struct file *f)
{
        free(f->path);
        free(f->ranges);
        if (f->fd >= 0)
                close(f->fd);
        *f = (struct file){ .fd = -1 };
}

/* The data ranges of a file; a file system that does not tell has one. */
static int find_ranges(struct file *f, struct cc_err *err)
{
        off_t off = 0;
        size_t cap = 0;

        while (off < f->st.st_size) {
                off_t data = lseek(f->fd, off, SEEK_DATA);
                off_t end;

                if (data < 0 && errno == ENXIO)
                        break;
                if (data < 0 && errno != EINVAL)
                        return cc_fail_errno(err, errno, "seek in %s", f->path);
                end = data < 0 ? f->st.st_size : lseek(f->fd, data, SEEK_HOLE);
                if (data < 0)
                        data = off;
                if (end < 0 || end > f->st.st_size || f->n_ranges == MAX_EXTENTS)
                        end = f->st.st_size;
                if (f->n_ranges == cap) {
                        cap = cap ? 2 * cap : 64;
                        f->ranges = xreallocarray(f->ranges, cap, sizeof(*f->ranges));
                }
                f->ranges[f->n_ranges++] = (struct tar_range){ data, end - data };
                off = end;
        }
        f->sparse = f->st.st_size > 0 && !(f->n_ranges == 1 && f->ranges[0].offset == 0 &&
                                           f->ranges[0].length == f->st.st_size);
        if (f->sparse && f->n_ranges)
                tar_fit_ranges(f->ranges, &f->n_ranges);
        return 0;
}

static int open_file(const char *dir, const char *name, struct file *f, struct cc_err *err)
{
        f->path = cc_path_join(dir, name);
        f->fd = open(f->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (f->fd < 0)
                return cc_fail_errno(err, errno, "open %s", f->path);
        if (fstat(f->fd, &f->st) < 0)
                return cc_fail_errno(err, errno, "stat %s", f->path);
        if (!S_ISREG(f->st.st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", f->path);
        return find_ranges(f, err);
}

struct progress {
        const struct snap_export *x;
        int64_t done, total;
};

static int put_range(struct sink *s, const struct file *f, struct tar_range range,
                     struct progress *p, struct cc_err *err)
{
        while (range.length > 0) {
                int64_t n = range.length < PROGRESS_STEP ? range.length : PROGRESS_STEP;
                int r = sink_copy(s, f->fd, range.offset, n, err);

                if (r < 0)
                        return cc_wrap(err, "archive %s", f->path);
                range.offset += n;
                range.length -= n;
                p->done += n;
                if (p->x->progress)
                        p->x->progress(p->x->ctx, p->done, p->total);
        }
        return 0;
}

static int put_file(struct sink *s, const char *name, const struct file *f, struct progress *p,
                    struct cc_err *err)
{
        struct tar_file header = {
                .name = name,
                .mode = SNAP_MODE,
                .mtime = f->st.st_mtime,
                .size = f->st.st_size,
                .sparse = f->sparse,
                .ranges = f->ranges,
                .n_ranges = f->n_ranges,
        };
        int64_t size = 0;
        int r = tar_put_header(s, &header, err);

        for (size_t i = 0; i < f->n_ranges && r == 0; i++) {
                size += f->ranges[i].length;
                r = put_range(s, f, f->ranges[i], p, err);
        }
        return r < 0 ? r : tar_put_padding(s, size, err);
}

static int put_envelope(struct sink *s, const struct snap_export *x,
                        const struct record_array *list, struct cc_err *err)
{
        CC_FREE char *text = snap_envelope_text(x->rec, list);
        struct tar_file header = {
                .name = SNAP_ENVELOPE,
                .mode = 0644,
                .mtime = (int64_t)time(NULL),
                .size = (int64_t)strlen(text),
        };
        int r = tar_put_header(s, &header, err);

        if (r == 0)
                r = sink_write(s, text, strlen(text), err);
        return r < 0 ? r : tar_put_padding(s, header.size, err);
}

/* Sizes, digests of the small ones, and how much there is to write. */
static int describe(const struct snap_export *x, const struct cc_strv *names, struct file *files,
                    struct record_array *list, int64_t *ret_total, struct cc_err *err)
{
        for (size_t i = 0; i < names->len; i++) {
                struct snap_file *f = record_array_add(&snap_file_type, list);
                char hex[65];
                int r = open_file(x->rec->data_dir, names->v[i], &files[i], err);

                if (r < 0)
                        return r;
                f->name = xstrdup(names->v[i]);
                f->size = files[i].st.st_size;
                for (size_t k = 0; k < files[i].n_ranges; k++)
                        *ret_total += files[i].ranges[k].length;
                if (f->size > DIGEST_MAX || files[i].sparse)
                        continue;
                r = digest_file(files[i].fd, hex, err);
                if (r < 0)
                        return r;
                f->sha256 = xstrdup(hex);
        }
        return 0;
}

static int put_all(struct sink *s, const struct snap_export *x, const struct cc_strv *names,
                   struct file *files, struct cc_err *err)
{
        SNAP_ENVELOPE_CLEANUP struct snap_envelope envelope = { 0 };
        struct progress p = { .x = x };
        int r = describe(x, names, files, &envelope.files, &p.total, err);

        if (r == 0)
                r = put_envelope(s, x, &envelope.files, err);
        for (size_t i = 0; i < names->len && r == 0; i++)
                r = put_file(s, names->v[i], &files[i], &p, err);
        if (r == 0)
                r = tar_put_end(s, err);
        return r < 0 ? r : sink_finish(s, err);
}

int archive_write(const struct snap_export *x, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        CC_FREE struct file *files = NULL;
        struct sink s;
        int r = snap_list(x->drv, x->rec->data_dir, &names, err);

        if (r < 0)
                return r;
        files = xcalloc(names.len + 1, sizeof(*files));
        for (size_t i = 0; i < names.len; i++)
                files[i].fd = -1;
        r = sink_open(&s, x->fd, x->gzip, err);
        if (r == 0)
                r = put_all(&s, x, &names, files, err);
        sink_close(&s);
        for (size_t i = 0; i < names.len; i++)
                file_clear(&files[i]);
        return r;
}
