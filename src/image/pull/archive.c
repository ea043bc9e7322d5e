/* Image archives through libarchive's tar reader. See archive.h. */
#include "image/pull/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/str.h"
#include "base/sys.h"

enum { READ_BLOCK = 1 << 16, NAME_MAX_LEN = 160, COMPONENTS_MAX = 3, ENTRIES_MAX = 1 << 20 };

static void close_archive(struct archive **a)
{
        if (*a)
                (void)archive_read_free(*a);
}

static int open_tar(const char *path, struct archive **ret, struct cc_err *err)
{
        struct archive *a = archive_read_new();

        if (!a)
                return cc_fail(err, CC_INTERNAL, "start libarchive");
        *ret = a;
        (void)archive_read_support_format_tar(a);
        (void)archive_read_support_format_empty(a);
        if (archive_read_open_filename(a, path, READ_BLOCK) != ARCHIVE_OK)
                return cc_fail(err, CC_INVALID, "%s: %s", path, archive_error_string(a));
        return 0;
}

/* 1: an entry; 0: the end. */
static int next_entry(struct archive *a, const char *path, struct archive_entry **ret,
                      struct cc_err *err)
{
        int r = archive_read_next_header(a, ret);

        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "canceled");
        if (r == ARCHIVE_EOF)
                return 0;
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
                return cc_fail(err, CC_INVALID, "%s: %s", path, archive_error_string(a));
        return 1;
}

/* Without "./"; NULL for names we never take. */
static const char *plain_name(const char *name)
{
        size_t components = 1;

        while (name && cc_startswith(name, "./"))
                name += 2;
        if (cc_isempty(name) || strlen(name) > NAME_MAX_LEN)
                return NULL;
        for (const char *p = name; *p; p++) {
                bool start = p == name || p[-1] == '/';

                /* No component may be empty or begin with a dot: that excludes . and .. too. */
                if (start && (*p == '/' || *p == '.'))
                        return NULL;
                if (*p == '/')
                        components++;
                else if (*p <= ' ' || *p > '~')
                        return NULL;
        }
        return components <= COMPONENTS_MAX && name[strlen(name) - 1] != '/' ? name : NULL;
}

static enum archive_kind judge(bool layout, bool index, bool manifest)
{
        if (layout && index)
                return ARCHIVE_OCI;
        return manifest ? ARCHIVE_DOCKER : ARCHIVE_NONE;
}

int archive_probe(const char *path, enum archive_kind *ret, struct cc_err *err)
{
        CC_CLEANUP(close_archive) struct archive *a = NULL;
        bool layout = false;
        bool index = false;
        bool manifest = false;
        bool other = false;
        size_t entries = 0;
        int r = open_tar(path, &a, err);

        while (r == 0 && !(layout && index)) {
                struct archive_entry *e;
                const char *name;

                r = next_entry(a, path, &e, err);
                if (r <= 0)
                        break;
                r = 0;
                name = plain_name(archive_entry_pathname(e));
                layout |= cc_streq(name, "oci-layout");
                index |= cc_streq(name, "index.json");
                manifest |= cc_streq(name, "manifest.json");
                /* A root file system that happens to have a /manifest.json has these too. */
                other |= cc_streq(name, "etc/passwd") || cc_streq(name, "sbin/init") ||
                         cc_streq(name, "usr/bin/env");
                if (++entries > ENTRIES_MAX)
                        break;
        }
        if (r < 0)
                return r;
        *ret = judge(layout, index, manifest && !other);
        return 0;
}

enum archive_kind archive_probe_dir(const char *dir)
{
        CC_FREE char *layout = cc_path_join(dir, "oci-layout");
        CC_FREE char *index = cc_path_join(dir, "index.json");
        CC_FREE char *manifest = cc_path_join(dir, "manifest.json");

        return judge(cc_is_valid_file(layout), cc_is_valid_file(index), cc_is_valid_file(manifest));
}

static int unpack_file(struct archive *a, const char *path, const char *to, int64_t *left,
                       struct cc_err *err)
{
        CC_FREE char *parent = xstrndup(to, (size_t)(cc_basename(to) - to - 1));
        CC_CLOSE int fd = -1;
        int r = cc_mkdir_p(parent, 0700, err);

        if (r < 0)
                return r;
        /* A repeated member replaces the earlier one, as tar says. */
        (void)cc_unlink(to, NULL);
        fd = cc_sys.openat(AT_FDCWD, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           0600);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", to);
        for (;;) {
                char buf[READ_BLOCK];
                la_ssize_t n = archive_read_data(a, buf, sizeof(buf));

                if (n < 0)
                        return cc_fail(err, CC_INVALID, "%s: %s", path, archive_error_string(a));
                if (n == 0)
                        return 0;
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "canceled");
                if (n > *left)
                        return cc_fail(err, CC_INVALID,
                                       "%s: the archive is larger than layer_max_size", path);
                *left -= n;
                r = cc_write_all(fd, buf, (size_t)n, err);
                if (r < 0)
                        return cc_wrap(err, "unpack %s", path);
        }
}

int archive_unpack(const char *path, const char *dir, int64_t max, struct cc_err *err)
{
        CC_CLEANUP(close_archive) struct archive *a = NULL;
        int r = open_tar(path, &a, err);

        if (r < 0)
                return r;
        for (;;) {
                struct archive_entry *e;
                CC_FREE char *to = NULL;
                const char *name;

                r = next_entry(a, path, &e, err);
                if (r <= 0)
                        return r;
                name = plain_name(archive_entry_pathname(e));
                if (!name || archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e))
                        continue;
                to = cc_path_join(dir, name);
                r = unpack_file(a, path, to, &max, err);
                if (r < 0)
                        return r;
        }
}
