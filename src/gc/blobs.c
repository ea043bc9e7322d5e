/*
 * The image modules: layers, boot files and cloud images that no image, VM or snapshot pins, and
 * what interrupted pulls left in temp/. A blob is deleted under its lock and behind a tombstone:
 * from the commit of that on nobody can pin it, and a killed cycle is finished by the next.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "gc/internal.h"

static const char unreferenced[] = "unreferenced";
static const char abandoned[] = "abandoned-temp";

#define HEX_LEN 64

/* "<64 hex><suffix>" → hex. */
static bool blob_name(const char *name, const char *suffix, char hex[HEX_LEN + 1])
{
        if (strlen(name) != HEX_LEN + strlen(suffix) || !cc_endswith(name, suffix))
                return false;
        memcpy(hex, name, HEX_LEN);
        hex[HEX_LEN] = '\0';
        return cc_is_hex(hex, HEX_LEN);
}

/* Blobs below root/`dir` that nothing pins. The few files are asked about one by one: the pins of
 * many VMs would be a long list. */
static int scan_blobs(struct gc *gc, const char *dir, const char *suffix, struct gc_list *ret,
                      struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(gc->e->config->root_dir, dir);
        CC_STRV struct cc_strv names = { 0 };
        char hex[HEX_LEN + 1];
        const char *name;
        int r = gc_names(path, &names, err);

        cc_strv_foreach (&names, i, name) {
                bool pinned = true;

                if (r < 0)
                        break;
                if (!blob_name(name, suffix, hex))
                        continue;
                r = meta_blob_pinned(gc->e->meta, hex, &pinned, err);
                if (!pinned)
                        gc_list_add(ret, hex, unreferenced, NULL);
        }
        return r;
}

/* Drop from position `from` on what is listed before it: a kernel's blob has boot files, too. */
static void drop_doubles(struct gc_list *l, size_t from)
{
        CC_STRV struct cc_strv seen = { 0 };
        size_t kept = from;

        for (size_t i = 0; i < from; i++)
                cc_strv_add(&seen, l->v[i].id);
        cc_strv_sort(&seen);
        for (size_t i = from; i < l->n; i++) {
                if (gc_has(&seen, l->v[i].id))
                        free(l->v[i].id);
                else
                        l->v[kept++] = l->v[i];
        }
        l->n = kept;
}

/* Downloads keep their lock files, which are never removed while somebody may hold them. */
static int scan_temp(const char *dir, struct gc_list *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int r = gc_names(dir, &names, err);

        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);

                if (!cc_endswith(name, ".lock") && gc_old(path))
                        gc_list_add(ret, name, abandoned, TAKE_PTR(path));
        }
        return r;
}

/* Names under which files are written before they get their own (cc_publish), in `dir`. */
static int scan_unpublished(const char *dir, struct gc_list *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int r = gc_names(dir, &names, err);

        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);

                if (cc_startswith(name, ".tmp-") && gc_old(path))
                        gc_list_add(ret, name, abandoned, TAKE_PTR(path));
        }
        return r;
}

static int scan_boot_dirs(struct gc *gc, struct gc_list *ret, struct cc_err *err)
{
        CC_FREE char *boot = cc_path_join(gc->e->config->root_dir, "oci/boot");
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int r = gc_names(boot, &names, err);

        cc_strv_foreach (&names, i, name) {
                CC_FREE char *dir = cc_path_join(boot, name);

                if (r == 0 && cc_is_hex(name, HEX_LEN))
                        r = scan_unpublished(dir, ret, err);
        }
        return r;
}

int gc_oci_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret, struct cc_err *err)
{
        CC_FREE char *temp = layout_oci_temp(gc->e->config);
        size_t layers;
        int r = scan_blobs(gc, "oci/blobs", ".erofs", ret, err);

        if (r < 0)
                return r;
        layers = ret->n;
        r = scan_blobs(gc, "oci/boot", "", ret, err);
        drop_doubles(ret, layers);
        if (r == 0)
                r = scan_boot_dirs(gc, ret, err);
        return r < 0 ? r : scan_temp(temp, ret, err);
}

int gc_cloudimg_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                     struct cc_err *err)
{
        CC_FREE char *temp = layout_cloudimg_temp(gc->e->config);
        int r = scan_blobs(gc, "cloudimg/blobs", ".qcow2", ret, err);

        return r < 0 ? r : scan_temp(temp, ret, err);
}

static void blob_paths(const struct config *c, const char *hex, struct cc_strv *ret)
{
        cc_strv_take(ret, layout_oci_blob(c, hex));
        cc_strv_take(ret, layout_oci_boot_dir(c, hex));
        cc_strv_take(ret, layout_cloudimg_blob(c, hex));
}

int gc_blob_files_remove(struct engine *e, const char *hex, struct cc_err *err)
{
        CC_STRV struct cc_strv paths = { 0 };
        int r = 0;

        blob_paths(e->config, hex, &paths);
        for (size_t i = 0; i < paths.len && r == 0; i++)
                r = cc_rm_rf(paths.v[i], err);
        return r;
}

/* 1 the tombstone is durable, 0 the blob is pinned. */
static int bury(struct gc *gc, const char *hex, struct cc_err *err)
{
        struct meta *m = gc->e->meta;
        char lease[CC_ID_LEN + 1];
        struct tombstone t = {
                .kind = "blob",
                .id = hex,
                .lease_id = lease,
                .phase = TOMBSTONE_DELETING,
                .leased_at = cc_now(),
                .payload = "{}",
        };
        bool pinned = true;
        int r = meta_begin(m, META_DURABLE, err);

        if (r < 0)
                return r;
        cc_id_new(lease);
        r = meta_blob_pinned(m, hex, &pinned, err);
        if (r == 0 && !pinned)
                r = meta_tombstone_put(m, &t, err);
        if (r < 0 || pinned) {
                meta_rollback(m);
                return r;
        }
        r = meta_commit(m, err);
        return r < 0 ? r : 1;
}

static int forget(struct gc *gc, const char *hex, struct cc_err *err)
{
        struct meta *m = gc->e->meta;
        int r = meta_begin(m, META_DURABLE, err);

        if (r < 0)
                return r;
        r = meta_tombstone_delete(m, "blob", hex, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

static int64_t blob_bytes(struct gc *gc, const char *hex)
{
        CC_STRV struct cc_strv paths = { 0 };
        int64_t bytes = 0;

        blob_paths(gc->e->config, hex, &paths);
        for (size_t i = 0; i < paths.len; i++)
                bytes += cc_tree_bytes(paths.v[i]);
        return bytes;
}

static int collect_blob(struct gc *gc, const char *hex, char **ret_detail, int64_t *ret_bytes,
                        struct cc_err *err)
{
        CC_FREE char *lock_path = layout_blob_lock(gc->e->config, hex);
        CC_CLOSE int lock = -1;
        bool pinned = true;
        int r = gc_lock(lock_path, &lock, err);

        if (r <= 0)
                return r;
        *ret_bytes = blob_bytes(gc, hex);
        *ret_detail = xasprintf("blob=%s", hex);
        if (gc->dry_run) {
                r = meta_blob_pinned(gc->e->meta, hex, &pinned, err);
                return r < 0 || pinned ? r : GC_WOULD;
        }
        r = bury(gc, hex, err);
        if (r <= 0)
                return r;
        r = cc_failpoint("gc.deleting", err);
        if (r == 0)
                r = gc_blob_files_remove(gc->e, hex, err);
        if (r == 0)
                r = cc_failpoint("gc.removed", err);
        if (r == 0)
                r = forget(gc, hex, err);
        return r < 0 ? r : GC_DONE;
}

static int collect_temp(struct gc *gc, const struct gc_candidate *c, char **ret_detail,
                        int64_t *ret_bytes, struct cc_err *err)
{
        int r = 0;

        if (!gc_old(c->path))
                return 0;
        *ret_bytes = cc_tree_bytes(c->path);
        *ret_detail = xasprintf("temp=%s", c->id);
        if (!gc->dry_run)
                r = cc_rm_rf(c->path, err);
        return r < 0 ? r : gc->dry_run ? GC_WOULD : GC_DONE;
}

int gc_blob_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                    char **ret_detail, int64_t *ret_bytes, struct cc_err *err)
{
        if (c->reason == abandoned)
                return collect_temp(gc, c, ret_detail, ret_bytes, err);
        return collect_blob(gc, c->id, ret_detail, ret_bytes, err);
}
