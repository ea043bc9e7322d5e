/*
 * Layers and images as text, for tests of the reader and of flat mode. A layer is a list of
 * statements separated by "; ":
 *
 *      d PATH MODE      directory            f PATH TEXT      file
 *      l PATH TARGET    symbolic link        h PATH TARGET    hard link
 *      c PATH           character device 1:3
 *      w DIR NAME       whiteout             o DIR            opaque
 *
 * and an image is shown in the same way, depth first, files with their link count behind a comma.
 */
#pragma once

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../../tools/erofs_check.h"
#include "../unit.h"
#include "base/str.h"
#include "image/erofs/flat.h"

#define MAX_TEST_LAYERS 8

static const uint8_t test_uuid[16] = "0123456789abcdef";

static inline struct erofs_writer *layer_open(int fd)
{
        struct cc_err err = CC_ERR_INIT;
        struct erofs_writer_args args = { .fd = fd, .temp_dir = "/tmp" };
        struct erofs_writer *w = NULL;

        assert_ok(erofs_writer_open(&args, &w, &err));
        return w;
}

static inline void layer_statement(struct erofs_writer *w, const char *s)
{
        struct cc_err err = CC_ERR_INIT;
        char path[256] = "";
        char rest[256] = "";
        struct erofs_entry e = { .path = path, .mtime = 1700000000, .uid = 1, .gid = 2 };

        assert_true(sscanf(s + 1, " %255s %255s", path, rest) >= 1);
        if (strcmp(path, "/") == 0)
                path[0] = '\0';
        if (*s == 'w') {
                assert_ok(erofs_writer_whiteout(w, path, rest, &err));
                return;
        }
        if (*s == 'o') {
                assert_ok(erofs_writer_opaque(w, path, &err));
                return;
        }
        switch (*s) {
        case 'd':
                e.mode = S_IFDIR | (mode_t)strtoul(rest, NULL, 8);
                break;
        case 'f':
                e.mode = S_IFREG | 0644;
                e.size = strlen(rest);
                break;
        case 'l':
                e.mode = S_IFLNK | 0777;
                e.target = rest;
                break;
        case 'h':
                e.hardlink = true;
                e.target = rest;
                break;
        case 'c':
                e.mode = S_IFCHR | 0600;
                e.major = 1;
                e.minor = 3;
                break;
        default:
                fail_msg("statement \"%s\"", s);
        }
        assert_ok(erofs_writer_entry(w, &e, &err));
        if (*s == 'f')
                assert_ok(erofs_writer_data(w, rest, strlen(rest), 0, &err));
}

/* Finish the writer, check the result with the test's own reader and with ours. */
static inline void layer_finish(struct erofs_writer *w, int fd)
{
        struct cc_err err = CC_ERR_INIT;
        struct erofs_stats stats;
        const char *wrong;
        void *p;

        assert_ok(erofs_writer_finish(w, test_uuid, &stats, &err));
        erofs_writer_close(w);
        p = mmap(NULL, stats.bytes, PROT_READ, MAP_SHARED, fd, 0);
        assert_true(p != MAP_FAILED);
        wrong = erofs_check(&(struct erofs_image){ p, stats.bytes });
        (void)munmap(p, stats.bytes);
        if (wrong)
                fail_msg("image: %s", wrong);
        assert_ok(erofs_reader_check(fd, "image", &err));
}

static inline int layer_make(const char *text)
{
        int fd = memfd_create("layer", MFD_CLOEXEC);
        struct erofs_writer *w = layer_open(fd);
        CC_FREE char *copy = xstrdup(text);
        char *save = NULL;

        for (char *s = strtok_r(copy, ";", &save); s; s = strtok_r(NULL, ";", &save)) {
                s += strspn(s, " \n");
                if (*s)
                        layer_statement(w, s);
        }
        layer_finish(w, fd);
        return fd;
}

static inline int flat_make(const char *const *layers)
{
        struct cc_err err = CC_ERR_INIT;
        struct erofs_reader readers[MAX_TEST_LAYERS];
        int fds[MAX_TEST_LAYERS];
        int fd = memfd_create("flat", MFD_CLOEXEC);
        struct erofs_writer *w = layer_open(fd);
        size_t n = 0;

        for (; layers[n]; n++) {
                fds[n] = layer_make(layers[n]);
                assert_ok(erofs_reader_init(fds[n], "layer", &readers[n], &err));
        }
        assert_ok(erofs_flatten(readers, n, w, "/tmp", NULL, NULL, &err));
        while (n-- > 0)
                close(fds[n]);
        layer_finish(w, fd);
        return fd;
}

static inline void show_inode(const struct erofs_reader *r, const struct erofs_inode *inode,
                              const char *path, struct cc_buf *out)
{
        EROFS_XATTRS struct erofs_xattrs x = { 0 };
        struct cc_err err = CC_ERR_INIT;
        char text[PATH_MAX] = "";

        if (S_ISDIR(inode->mode)) {
                cc_buf_printf(out, "d %s %o", path, inode->mode & 07777);
        } else if (S_ISREG(inode->mode)) {
                assert_true(inode->size < sizeof(text));
                assert_ok(erofs_read(r, inode, 0, text, inode->size, &err));
                cc_buf_printf(out, "f %s %s,%u", path, text, inode->nlink);
        } else if (S_ISLNK(inode->mode)) {
                assert_ok(erofs_readlink(r, inode, text, &err));
                cc_buf_printf(out, "l %s %s", path, text);
        } else if (erofs_is_whiteout(inode)) {
                cc_buf_printf(out, "w %s", path);
        } else {
                cc_buf_printf(out, "c %s", path);
        }
        assert_ok(erofs_xattrs_get(r, inode, &x, &err));
        for (size_t i = 0; i < x.n; i++)
                cc_buf_printf(out, " %s", x.v[i].name);
        cc_buf_str(out, "; ");
}

/* Recursion is fine here: the trees are the tests' own. */
static inline void show_dir(const struct erofs_reader *r, const struct erofs_inode *dir,
                            const char *path, struct cc_buf *out)
{
        struct cc_err err = CC_ERR_INIT;
        struct erofs_dirpos pos = { 0 };
        struct erofs_dirbuf buf = { 0 };
        struct erofs_dirent d;
        int e;

        while ((e = erofs_dir_next(r, dir, &pos, &buf, &d, &err)) > 0) {
                CC_FREE char *sub =
                        xasprintf("%s%s%.*s", path, *path ? "/" : "", (int)d.len, d.name);
                struct erofs_inode inode;

                if (erofs_is_dots(&d))
                        continue;
                assert_ok(erofs_inode_get(r, d.nid, &inode, &err));
                show_inode(r, &inode, sub, out);
                if (S_ISDIR(inode.mode))
                        show_dir(r, &inode, sub, out);
        }
        assert_ok(e);
}

/* All but the root. Caller frees. */
static inline char *image_show(int fd)
{
        struct cc_err err = CC_ERR_INIT;
        struct cc_buf out = { 0 };
        struct erofs_reader r;
        struct erofs_inode root;

        assert_ok(erofs_reader_init(fd, "image", &r, &err));
        assert_ok(erofs_inode_get(&r, r.root, &root, &err));
        show_dir(&r, &root, "", &out);
        return cc_buf_take(&out);
}
