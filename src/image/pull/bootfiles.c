/* From chosen boot files to files on disk. See bootfiles.h. */
#include "image/pull/bootfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/sys.h"
#include "config/layout.h"
#include "image/pull/blobtree.h"
#include "image/pull/digest.h"

enum { BOOT_FILE_MAX = 512 << 20 };

void boot_result_clear(struct boot_result *b)
{
        free(b->kernel_layer);
        free(b->initrd_layer);
        cc_strv_free(&b->made);
        memset(b, 0, sizeof(*b));
}

static int file_digest(const char *path, char hex[DIGEST_HEX_LEN + 1], struct cc_err *err)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        return digest_of_fd(fd, hex, NULL, err);
}

static int copy_out(struct blobtree *tree, const struct boot_file *file, const char *path,
                    struct cc_err *err)
{
        CC_CLOSE int fd = -1;
        int r;

        if (file->node.size == 0 || file->node.size > BOOT_FILE_MAX)
                return cc_fail(err, CC_INVALID, "boot file /%s has %lld bytes", file->path,
                               (long long)file->node.size);
        fd = cc_sys.openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           0644);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", path);
        r = blobtree_copy(tree, file, fd, err);
        return r < 0 ? cc_wrap(err, "boot file /%s", file->path) : 0;
}

/* "boot1", the file's path and all layers: the same choice gets the same directory everywhere. */
static void synthetic_hex(const char *path, const struct cc_strv *digests,
                          char hex[DIGEST_HEX_LEN + 1])
{
        CC_BUF struct cc_buf b = { 0 };
        const char *d;

        cc_buf_printf(&b, "boot1\n%s\n", path);
        cc_strv_foreach (digests, i, d)
                cc_buf_printf(&b, "%s\n", d);
        digest_of(b.data, b.len, hex);
}

/* Put `tmp` at boot/<hex>/<name>. 1: that place holds something else. */
static int place(const struct config *config, const char *hex, const char *name, const char *tmp,
                 bool repair, struct cc_strv *made, struct cc_err *err)
{
        CC_FREE char *dir = layout_oci_boot_dir(config, hex);
        CC_FREE char *path = cc_path_join(dir, name);
        char mine[DIGEST_HEX_LEN + 1];
        char theirs[DIGEST_HEX_LEN + 1];
        int r;

        if (cc_is_valid_file(path)) {
                r = file_digest(tmp, mine, err);
                if (r == 0)
                        r = file_digest(path, theirs, err);
                if (r < 0)
                        return r;
                if (cc_streq(mine, theirs))
                        return 0;
                if (!repair)
                        return 1;
        }
        r = cc_mkdir_p(dir, 0750, err);
        if (r == 0)
                r = cc_publish_file(tmp, path, false, err);
        if (r == 0)
                cc_strv_add(made, path);
        return r;
}

static int publish_one(const struct config *config, struct blobtree *tree,
                       const struct boot_file *file, const char *name,
                       const struct cc_strv *digests, const char *scratch, const char *repair,
                       char **ret_layer, struct boot_result *b, struct cc_err *err)
{
        CC_FREE char *tmp = cc_path_join(scratch, name);
        const char *digest = digests->v[file->layer];
        char hex[DIGEST_HEX_LEN + 1];
        int r = copy_out(tree, file, tmp, err);

        if (r < 0)
                return r;
        (void)snprintf(hex, sizeof(hex), "%s", digest_digits(digest));
        r = place(config, hex, name, tmp, cc_streq(repair, digest), &b->made, err);
        if (r == 1) {
                synthetic_hex(file->path, digests, hex);
                r = place(config, hex, name, tmp, true, &b->made, err);
        }
        (void)cc_unlink(tmp, NULL);
        if (r < 0)
                return r;
        *ret_layer = xasprintf("sha256:%s", hex);
        b->size += file->node.size;
        return 0;
}

int bootfiles_publish(const struct config *config, const struct cc_strv *digests,
                      const struct image_config *labels, const char *scratch,
                      const char *repair_kernel, const char *repair_initrd, struct boot_result *ret,
                      struct cc_err *err)
{
        CC_CLEANUP(boot_file_clear) struct boot_file kernel = { 0 };
        CC_CLEANUP(boot_file_clear) struct boot_file initrd = { 0 };
        BLOBTREE struct blobtree *tree = NULL;
        CC_STRV struct cc_strv paths = { 0 };
        struct layer_tree view;
        const char *d;
        int r;

        cc_strv_foreach (digests, i, d)
                cc_strv_take(&paths, layout_oci_blob(config, digest_digits(d)));
        r = blobtree_open(&paths, &tree, err);
        if (r < 0)
                return r;
        view = blobtree_view(tree);
        r = boot_choose(&view, labels->kernel, labels->initrd, &kernel, &initrd, err);
        if (r == 0)
                r = publish_one(config, tree, &kernel, "vmlinuz", digests, scratch, repair_kernel,
                                &ret->kernel_layer, ret, err);
        if (r == 0)
                r = publish_one(config, tree, &initrd, "initrd.img", digests, scratch,
                                repair_initrd, &ret->initrd_layer, ret, err);
        return r;
}
