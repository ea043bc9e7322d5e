/*
 * The directory form of a snapshot: the files of its data directory and snapshot.json, which is
 * written last and so marks the directory as complete. Anyone may have made or changed one.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "snap/snap.h"

/* Make `dir`, or accept an empty one. */
static int take_dir(const char *dir, bool *ret_made, struct cc_err *err)
{
        CC_DIR DIR *d = NULL;
        struct dirent *e;

        *ret_made = mkdir(dir, 0750) == 0;
        if (*ret_made)
                return 0;
        if (errno != EEXIST)
                return cc_fail_errno(err, errno, "create directory %s", dir);
        d = opendir(dir);
        if (!d)
                return cc_fail_errno(err, errno, "open directory %s", dir);
        while ((e = readdir(d)))
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        return cc_fail(err, CC_CONFLICT, "directory %s is not empty", dir);
        return 0;
}

int snap_file_list(const char *dir, const struct cc_strv *names, struct record_array *ret,
                   struct cc_err *err)
{
        const char *name;

        cc_strv_foreach (names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);
                struct snap_file *f = record_array_add(&snap_file_type, ret);
                struct stat st;

                f->name = xstrdup(name);
                if (lstat(path, &st) < 0)
                        return cc_fail_errno(err, errno, "stat %s", path);
                f->size = st.st_size;
        }
        return 0;
}

static int fill_dir(const struct hv_driver *drv, const struct snapshot_record *s, const char *dir,
                    const struct cc_strv *names, struct cc_err *err)
{
        SNAP_ENVELOPE_CLEANUP struct snap_envelope e = { 0 };
        CC_FREE char *path = cc_path_join(dir, SNAP_ENVELOPE);
        CC_FREE char *text = NULL;
        /* Never linked: the user may do with these files what he likes. */
        int r = snap_stage(drv, s->data_dir, dir, false, err);

        if (r == 0)
                r = snap_sync(dir, err);
        if (r == 0)
                r = snap_file_list(dir, names, &e.files, err);
        if (r == 0)
                r = cc_failpoint("export.files", err);
        if (r < 0)
                return r;
        text = snap_envelope_text(s, &e.files);
        return cc_publish(path, text, strlen(text), 0644, err);
}

int snap_to_dir(const struct hv_driver *drv, const struct snapshot_record *s, const char *dir,
                struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        bool made = false;
        int r = snap_list(drv, s->data_dir, &names, err);

        if (r == 0)
                r = take_dir(dir, &made, err);
        if (r < 0)
                return r;
        r = fill_dir(drv, s, dir, &names, err);
        if (r == 0)
                return 0;
        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);

                (void)cc_unlink(path, NULL);
        }
        if (made)
                (void)rmdir(dir);
        return r;
}

static int read_envelope(const char *dir, struct snap_envelope *ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, SNAP_ENVELOPE);
        CC_FREE char *text = NULL;
        struct stat st;
        size_t n;
        int r;

        if (lstat(path, &st) < 0)
                return errno == ENOENT
                               ? cc_fail(err, CC_INVALID, "%s is not a complete snapshot: no %s",
                                         dir, SNAP_ENVELOPE)
                               : cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", path);
        r = cc_read_file(path, SNAP_ENVELOPE_MAX, &text, &n, err);
        return r < 0 ? r : snap_envelope_parse(text, n, ret, err);
}

int snap_files_check(const char *dir, const struct snap_envelope *e, struct cc_err *err)
{
        const struct snap_file *files = e->files.v;

        for (size_t i = 0; i < e->files.len; i++) {
                CC_FREE char *path = cc_path_join(dir, files[i].name);
                struct stat st;

                if (lstat(path, &st) < 0)
                        return errno == ENOENT
                                       ? cc_fail(err, CC_CORRUPT, "snapshot: file %s is missing",
                                                 files[i].name)
                                       : cc_fail_errno(err, errno, "stat %s", path);
                if (!S_ISREG(st.st_mode))
                        return cc_fail(err, CC_INVALID, "snapshot: %s is not a regular file",
                                       files[i].name);
                if (st.st_size != files[i].size)
                        return cc_fail(err, CC_CORRUPT,
                                       "snapshot: file %s has %lld bytes, should have %lld",
                                       files[i].name, (long long)st.st_size,
                                       (long long)files[i].size);
        }
        return 0;
}

int snap_from_dir(const char *dir, struct snapshot_record *ret, struct cc_err *err)
{
        SNAP_ENVELOPE_CLEANUP struct snap_envelope e = { 0 };
        CC_FREE char *path = realpath(dir, NULL);
        int r;

        if (!path)
                return cc_fail_errno(err, errno, "directory %s", dir);
        r = read_envelope(path, &e, err);
        if (r == 0)
                r = snap_files_check(path, &e, err);
        if (r < 0)
                return r;
        e.config.data_dir = TAKE_PTR(path);
        *ret = e.config;
        e.config = (struct snapshot_record)SNAPSHOT_RECORD_INIT;
        return 0;
}
