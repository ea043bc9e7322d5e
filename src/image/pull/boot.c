/* Candidates, overlay resolution, pairing by version. See boot.h. */
#include "image/pull/boot.h"

#include <string.h>

#include "base/alloc.h"

enum { CANDIDATES_MAX = 256, CANDIDATES_SHOWN = 12 };

static const char *const boot_dirs[] = { "boot", "" };

void boot_file_clear(struct boot_file *f)
{
        free(f->path);
        memset(f, 0, sizeof(*f));
}

/* One layer's say about `path`: 1 decided (*ret_found), 0 look below. */
static int resolve_in(const struct layer_tree *tree, size_t layer, const char *path,
                      struct node *ret, bool *ret_found, struct cc_err *err)
{
        bool opaque = false;

        *ret_found = false;
        for (const char *end = path;; end++) {
                CC_FREE char *prefix = NULL;
                struct node node = { 0 };
                int r;

                /* The root itself comes first: it may be opaque. */
                if (end > path)
                        end = strchrnul(end, '/');
                prefix = xstrndup(path, (size_t)(end - path));
                r = tree->lookup(tree->ctx, layer, prefix, &node, err);
                if (r < 0)
                        return r;
                if (node.type == NODE_ABSENT)
                        return opaque ? 1 : 0;
                if (end > path && *end == '\0') {
                        *ret_found = node.type == NODE_FILE;
                        *ret = node;
                        return 1;
                }
                if (node.type != NODE_DIR)
                        return 1;
                opaque |= node.opaque;
        }
}

int boot_resolve(const struct layer_tree *tree, const char *path, struct boot_file *ret,
                 bool *ret_found, struct cc_err *err)
{
        for (size_t layer = tree->n; layer-- > 0;) {
                struct node node;
                int r = resolve_in(tree, layer, path, &node, ret_found, err);

                if (r < 0)
                        return r;
                if (r == 1) {
                        if (*ret_found)
                                *ret = (struct boot_file){ xstrdup(path), layer, node };
                        return 0;
                }
        }
        *ret_found = false;
        return 0;
}

/* "-6.1.0" of "vmlinuz-6.1.0"; NULL if the name is no candidate. */
static const char *version_of(const char *name, const char *prefix)
{
        if (!cc_startswith(name, prefix) || cc_endswith(name, ".old"))
                return NULL;
        return name + strlen(prefix);
}

static const char *file_version(const char *path, const char *prefix)
{
        const char *slash = strrchr(path, '/');

        return version_of(slash ? slash + 1 : path, prefix);
}

/* All paths of visible regular files dir/prefix*, /boot before /. */
static int collect(const struct layer_tree *tree, const char *prefix, struct cc_strv *ret,
                   struct cc_err *err)
{
        CC_STRV struct cc_strv seen = { 0 };

        for (size_t d = 0; d < CC_ARRAY_LEN(boot_dirs); d++) {
                for (size_t layer = 0; layer < tree->n; layer++) {
                        CC_STRV struct cc_strv names = { 0 };
                        const char *name;
                        int r = tree->list(tree->ctx, layer, boot_dirs[d], &names, err);

                        if (r < 0)
                                return r;
                        cc_strv_foreach (&names, i, name) {
                                CC_FREE char *path = NULL;
                                struct boot_file f = { 0 };
                                bool found;

                                if (!version_of(name, prefix))
                                        continue;
                                path = *boot_dirs[d] ? xasprintf("%s/%s", boot_dirs[d], name)
                                                     : xstrdup(name);
                                if (cc_strv_has(&seen, path))
                                        continue;
                                if (seen.len >= CANDIDATES_MAX)
                                        return cc_fail(err, CC_INVALID,
                                                       "more than %d files named %s*",
                                                       CANDIDATES_MAX, prefix);
                                cc_strv_add(&seen, path);
                                r = boot_resolve(tree, path, &f, &found, err);
                                if (r < 0)
                                        return r;
                                if (found)
                                        cc_strv_add(ret, path);
                                boot_file_clear(&f);
                        }
                }
        }
        return 0;
}

static void append_names(struct cc_buf *b, const char *what, const struct cc_strv *paths)
{
        cc_buf_printf(b, "%s: ", what);
        for (size_t i = 0; i < paths->len && i < CANDIDATES_SHOWN; i++)
                cc_buf_printf(b, "%s/%s", i ? ", " : "", paths->v[i]);
        if (paths->len == 0)
                cc_buf_str(b, "none");
        else if (paths->len > CANDIDATES_SHOWN)
                cc_buf_str(b, ", ...");
        /* Names come from the image: keep the message one printable line. */
        for (size_t i = 0; i < b->len; i++)
                if ((unsigned char)b->data[i] < 0x20 || b->data[i] == 0x7f)
                        b->data[i] = '?';
}

static int no_pair(const struct cc_strv *kernels, const struct cc_strv *initrds, struct cc_err *err)
{
        CC_BUF struct cc_buf b = { 0 };

        append_names(&b, "kernels", kernels);
        cc_buf_str(&b, "; ");
        append_names(&b, "initramfs", initrds);
        return cc_fail(err, CC_INVALID,
                       "missing boot files (vmlinuz/initrd.img): no kernel and initramfs of one "
                       "version in / or /boot (%s)",
                       b.data);
}

static void pick(const struct cc_strv *kernels, const struct cc_strv *initrds,
                 const char **ret_kernel, const char **ret_initrd)
{
        const char *best = NULL;
        const char *kernel;
        const char *initrd;

        cc_strv_foreach (kernels, i, kernel) {
                const char *version = file_version(kernel, "vmlinuz");

                cc_strv_foreach (initrds, k, initrd) {
                        if (!cc_streq(version, file_version(initrd, "initrd.img")))
                                continue;
                        /* Strictly higher: of equal versions the first, that is /boot's, stays. */
                        if (best && strverscmp(version, best) <= 0)
                                continue;
                        best = version;
                        *ret_kernel = kernel;
                        *ret_initrd = initrd;
                }
        }
        if (!best && kernels->len == 1 && initrds->len == 1) {
                *ret_kernel = kernels->v[0];
                *ret_initrd = initrds->v[0];
        }
}

static int labelled(const struct layer_tree *tree, const char *label, const char *path,
                    struct boot_file *ret, struct cc_err *err)
{
        bool found;
        int r;

        while (*path == '/' || cc_startswith(path, "./"))
                path++;
        if (!*path)
                return cc_fail(err, CC_INVALID, "label %s is not a path", label);
        r = boot_resolve(tree, path, ret, &found, err);
        if (r == 0 && !found)
                return cc_fail(err, CC_INVALID, "label %s names /%s, which is no regular file",
                               label, path);
        return r;
}

int boot_choose(const struct layer_tree *tree, const char *kernel_label, const char *initrd_label,
                struct boot_file *ret_kernel, struct boot_file *ret_initrd, struct cc_err *err)
{
        CC_STRV struct cc_strv kernels = { 0 };
        CC_STRV struct cc_strv initrds = { 0 };
        CC_CLEANUP(boot_file_clear) struct boot_file kernel = { 0 };
        CC_CLEANUP(boot_file_clear) struct boot_file initrd = { 0 };
        const char *kernel_path = NULL;
        const char *initrd_path = NULL;
        bool found;
        int r;

        if (kernel_label && initrd_label) {
                r = labelled(tree, "cocoon.kernel", kernel_label, &kernel, err);
                if (r == 0)
                        r = labelled(tree, "cocoon.initrd", initrd_label, &initrd, err);
        } else if (kernel_label || initrd_label) {
                r = cc_fail(err, CC_INVALID,
                            "the image has only one of the labels cocoon.kernel and cocoon.initrd");
        } else {
                r = collect(tree, "vmlinuz", &kernels, err);
                if (r == 0)
                        r = collect(tree, "initrd.img", &initrds, err);
                if (r < 0)
                        return r;
                pick(&kernels, &initrds, &kernel_path, &initrd_path);
                if (!kernel_path)
                        return no_pair(&kernels, &initrds, err);
                r = boot_resolve(tree, kernel_path, &kernel, &found, err);
                if (r == 0)
                        r = boot_resolve(tree, initrd_path, &initrd, &found, err);
        }
        if (r < 0)
                return r;
        *ret_kernel = kernel;
        *ret_initrd = initrd;
        memset(&kernel, 0, sizeof(kernel));
        memset(&initrd, 0, sizeof(initrd));
        return 0;
}
