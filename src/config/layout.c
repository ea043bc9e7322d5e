/* Paths of state.md §1. See layout.h. */
#include "config/layout.h"

#include "base/alloc.h"
#include "base/fs.h"

char *layout_meta_dir(const struct config *c)
{
        return cc_path_join(c->root_dir, "meta");
}

char *layout_lock_dir(const struct config *c)
{
        return cc_path_join(c->root_dir, "locks");
}

char *layout_vm_lock(const struct config *c, const char *id)
{
        return xasprintf("%s/locks/vm/%s.lock", c->root_dir, id);
}

char *layout_blob_lock(const struct config *c, const char *hex)
{
        return xasprintf("%s/locks/blob/%s.lock", c->root_dir, hex);
}

char *layout_oci_blob(const struct config *c, const char *hex)
{
        return xasprintf("%s/oci/blobs/%s.erofs", c->root_dir, hex);
}

char *layout_oci_boot_dir(const struct config *c, const char *hex)
{
        return xasprintf("%s/oci/boot/%s", c->root_dir, hex);
}

char *layout_oci_temp(const struct config *c)
{
        return cc_path_join(c->root_dir, "oci/temp");
}

char *layout_cloudimg_blob(const struct config *c, const char *hex)
{
        return xasprintf("%s/cloudimg/blobs/%s.qcow2", c->root_dir, hex);
}

char *layout_cloudimg_temp(const struct config *c)
{
        return cc_path_join(c->root_dir, "cloudimg/temp");
}

char *layout_snap_lock(const struct config *c, const char *id)
{
        return xasprintf("%s/locks/snap/%s.lock", c->root_dir, id);
}

char *layout_snapshot_dir(const struct config *c, const char *id)
{
        return xasprintf("%s/snapshot/localfile/%s", c->root_dir, id);
}

char *layout_firmware_dir(const struct config *c)
{
        return cc_path_join(c->root_dir, "firmware");
}

char *layout_vms_dir(const struct config *c, const char *backend_dir)
{
        return cc_path_join(c->run_dir, backend_dir);
}

char *layout_cni_results(const struct config *c)
{
        return cc_path_join(c->root_dir, "cni/cache/results");
}

char *layout_vm_run_dir(const struct config *c, const char *backend_dir, const char *id)
{
        return xasprintf("%s/%s/%s", c->run_dir, backend_dir, id);
}

char *layout_vm_log_dir(const struct config *c, const char *backend_dir, const char *id)
{
        return xasprintf("%s/%s/%s", c->log_dir, backend_dir, id);
}

static int make(const char *path, mode_t mode, struct cc_err *err)
{
        int r = cc_mkdir_p(path, mode, err);

        if (r == -CC_DENIED)
                cc_hint(err, "run as root, or choose directories you may write with --root-dir, "
                             "--run-dir and --log-dir");
        return r;
}

void layout_dirs(const struct config *c, struct cc_strv *ret)
{
        static const char *const below[] = { "meta",       "locks/vm",       "locks/snap",
                                             "locks/blob", "oci/blobs",      "oci/boot",
                                             "oci/temp",   "cloudimg/blobs", "cloudimg/temp",
                                             "cni/cache",  "firmware",       "snapshot/localfile" };

        cc_strv_add(ret, c->root_dir);
        for (size_t i = 0; i < CC_ARRAY_LEN(below); i++)
                cc_strv_take(ret, cc_path_join(c->root_dir, below[i]));
        cc_strv_add(ret, c->run_dir);
        cc_strv_add(ret, c->log_dir);
}

mode_t layout_dir_mode(const struct config *c, const char *dir)
{
        CC_FREE char *meta = layout_meta_dir(c);

        return cc_streq(dir, meta) ? 0700 : 0750;
}

int layout_create(const struct config *c, struct cc_err *err)
{
        CC_STRV struct cc_strv dirs = { 0 };
        const char *dir;
        int r = 0;

        layout_dirs(c, &dirs);
        cc_strv_foreach (&dirs, i, dir) {
                if (r == 0)
                        r = make(dir, layout_dir_mode(c, dir), err);
        }
        return r;
}
