/*
 * What a VM needs from an image on disk: paths that were checked, the blobs to pin, and the blob
 * locks that keep them alive until the pin is recorded (images.md §5). Paths are derived from
 * digests and never stored.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "config/layout.h"
#include "image/image.h"

static const char *hex_of(const char *digest)
{
        return digest && cc_startswith(digest, "sha256:") ? digest + 7 : digest;
}

/* A digest from a record becomes a file name: nothing but 64 hex digits may. */
static int add_hex(struct cc_strv *set, const char *digest, struct cc_err *err)
{
        const char *hex = hex_of(digest);

        if (!hex || !cc_is_hex(hex, 64))
                return cc_fail(err, CC_CORRUPT, "image record holds the invalid digest \"%s\"",
                               digest ? digest : "");
        if (!cc_strv_has(set, hex))
                cc_strv_add(set, hex);
        return 0;
}

static int blob_set(const struct image_record *image, const char *kind, bool flat,
                    struct cc_strv *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv set = { 0 };
        int r = 0;

        if (cc_streq(kind, IMAGE_OCI)) {
                for (size_t i = 0; i < image->layers.len && r == 0; i++)
                        r = add_hex(&set, image_layer_at(image, i)->digest, err);
                if (r == 0 && image->kernel_layer)
                        r = add_hex(&set, image->kernel_layer, err);
                if (r == 0 && image->initrd_layer)
                        r = add_hex(&set, image->initrd_layer, err);
                if (r == 0 && flat && image->flat)
                        r = add_hex(&set, image->flat, err);
        } else {
                r = add_hex(&set, image->content_sum, err);
        }
        if (r < 0)
                return r;
        cc_strv_sort(&set);
        *ret = set;
        memset(&set, 0, sizeof(set));
        return 0;
}

void image_files_clear(struct image_files *f)
{
        cc_strv_free(&f->layers);
        cc_strv_free(&f->layer_hex);
        cc_strv_free(&f->pins);
        free(f->kernel);
        free(f->initrd);
        memset(f, 0, sizeof(*f));
}

static int check_file(const struct image_record *image, const char *path, const char *what,
                      struct cc_err *err)
{
        int r;

        if (cc_is_valid_file(path))
                return 0;
        r = cc_fail(err, CC_CORRUPT, "image %s: %s %s is missing or empty", image->ref, what, path);
        cc_hint(err, "cocoon image pull %s fetches it again", image->ref);
        return r;
}

static int boot_file(const struct config *c, const struct image_record *image, const char *digest,
                     const char *name, char **ret, struct cc_err *err)
{
        CC_FREE char *dir = NULL;
        CC_FREE char *path = NULL;
        int r;

        if (!digest)
                return cc_fail(err, CC_CORRUPT, "image %s: the record names no %s", image->ref,
                               name);
        dir = layout_oci_boot_dir(c, hex_of(digest));
        path = cc_path_join(dir, name);
        r = check_file(image, path, "boot file", err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(path);
        return 0;
}

static int oci_files(const struct config *c, const struct image_record *image, bool flat,
                     struct image_files *f, struct cc_err *err)
{
        int r;

        if (flat) {
                if (!image->flat)
                        return cc_fail(err, CC_STATE, "image %s has no merged layer", image->ref);
                cc_strv_add(&f->layer_hex, hex_of(image->flat));
        } else {
                for (size_t i = 0; i < image->layers.len; i++)
                        cc_strv_add(&f->layer_hex, hex_of(image_layer_at(image, i)->digest));
        }
        if (f->layer_hex.len == 0)
                return cc_fail(err, CC_CORRUPT, "image %s: the record has no layers", image->ref);
        for (size_t i = 0; i < f->layer_hex.len; i++) {
                CC_FREE char *path = layout_oci_blob(c, f->layer_hex.v[i]);

                r = check_file(image, path, "layer", err);
                if (r < 0)
                        return r;
                cc_strv_take(&f->layers, TAKE_PTR(path));
        }
        r = boot_file(c, image, image->kernel_layer, "vmlinuz", &f->kernel, err);
        if (r < 0)
                return r;
        return boot_file(c, image, image->initrd_layer, "initrd.img", &f->initrd, err);
}

int image_files(const struct config *c, const char *kind, const struct image_record *image,
                bool flat, struct image_files *ret, struct cc_err *err)
{
        CC_CLEANUP(image_files_clear) struct image_files f = { 0 };
        int r = blob_set(image, kind, flat, &f.pins, err);

        if (r < 0)
                return r;
        if (cc_streq(kind, IMAGE_OCI)) {
                r = oci_files(c, image, flat, &f, err);
        } else {
                CC_FREE char *path = layout_cloudimg_blob(c, hex_of(image->content_sum));

                r = check_file(image, path, "blob", err);
                cc_strv_add(&f.layer_hex, hex_of(image->content_sum));
                cc_strv_take(&f.layers, TAKE_PTR(path));
        }
        if (r < 0)
                return r;
        *ret = f;
        memset(&f, 0, sizeof(f));
        return 0;
}

void image_unlock(struct image_locks *locks)
{
        for (size_t i = 0; i < locks->n; i++)
                close(locks->fds[i]);
        free(locks->fds);
        *locks = (struct image_locks){ 0 };
}

int image_lock_blobs(const struct config *c, const struct image_record *image, const char *kind,
                     struct image_locks *ret, struct cc_err *err)
{
        CC_CLEANUP(image_unlock) struct image_locks locks = { 0 };
        CC_STRV struct cc_strv set = { 0 };
        int r = blob_set(image, kind, true, &set, err);

        if (r < 0)
                return r;
        locks.fds = xcalloc(set.len + 1, sizeof(int));
        for (size_t i = 0; i < set.len; i++) {
                CC_FREE char *path = layout_blob_lock(c, set.v[i]);

                r = cc_lock(path, CC_LOCK_SHARED, "image", 0, &locks.fds[locks.n], err);
                if (r < 0)
                        return r;
                locks.n++;
        }
        *ret = locks;
        locks = (struct image_locks){ 0 };
        return 0;
}
