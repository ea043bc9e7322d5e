/* Lock files of objects that are gone. Nobody else ever unlinks one; the holder of a file that was
 * replaced notices (base/lock.c), so removing it while holding it is safe. */
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "config/layout.h"
#include "gc/internal.h"

/* "<id>.lock", "<id>.console.lock", ... → id. */
static bool lock_owner(const char *name, char id[CC_ID_LEN + 1])
{
        if (strlen(name) <= CC_ID_LEN || name[CC_ID_LEN] != '.' || !cc_endswith(name, ".lock"))
                return false;
        memcpy(id, name, CC_ID_LEN);
        id[CC_ID_LEN] = '\0';
        return cc_id_valid(id);
}

static int scan_dir(struct gc *gc, const char *sub, const struct cc_strv *known,
                    struct gc_list *ret, struct cc_err *err)
{
        CC_FREE char *dir = cc_path_join(gc->e->config->root_dir, sub);
        CC_STRV struct cc_strv names = { 0 };
        char id[CC_ID_LEN + 1];
        const char *name;
        int r = gc_names(dir, &names, err);

        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);

                if (lock_owner(name, id) && !gc_has(known, id) && gc_old(path))
                        gc_list_add(ret, id, "orphan-lease", TAKE_PTR(path));
        }
        return r;
}

int gc_locks_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                  struct cc_err *err)
{
        CC_STRV struct cc_strv known = { 0 };
        int r = meta_vm_ids(gc->e->meta, &known, err);

        if (r == 0)
                r = scan_dir(gc, "locks/vm", &known, ret, err);
        cc_strv_free(&known);
        if (r == 0)
                r = meta_snapshot_ids(gc->e->meta, false, &known, err);
        return r < 0 ? r : scan_dir(gc, "locks/snap", &known, ret, err);
}

/* VM and snapshot IDs are drawn from one space: one that is neither owns no lock. */
static int owner_exists(struct gc *gc, const char *id, bool *ret, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct cc_err why = CC_ERR_INIT;
        int r = meta_vm_exists(gc->e->meta, id, ret, err);

        if (r < 0 || *ret)
                return r;
        r = meta_snapshot_get(gc->e->meta, id, &s, &why);
        *ret = r == 0;
        return r < 0 && r != -CC_NOT_FOUND ? cc_err_copy(err, &why) : 0;
}

int gc_locks_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                     char **ret_detail, int64_t *ret_bytes, struct cc_err *err)
{
        CC_CLOSE int lock = -1;
        bool exists = true;
        int r;

        /* Taking the lock writes its holder, and would make it young. */
        if (!gc_old(c->path))
                return 0;
        r = gc_lock(c->path, &lock, err);
        if (r <= 0)
                return r;
        r = owner_exists(gc, c->id, &exists, err);
        if (r < 0 || exists)
                return r;
        *ret_bytes = cc_tree_bytes(c->path);
        *ret_detail = xasprintf("id=%s lock=%s", c->id, cc_basename(c->path));
        if (!gc->dry_run)
                r = cc_unlink(c->path, err);
        return r < 0 ? r : gc->dry_run ? GC_WOULD : GC_DONE;
}
