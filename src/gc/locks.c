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

int gc_locks_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                  struct cc_err *err)
{
        CC_FREE char *dir = cc_path_join(gc->e->config->root_dir, "locks/vm");
        CC_STRV struct cc_strv known = { 0 };
        CC_STRV struct cc_strv names = { 0 };
        char id[CC_ID_LEN + 1];
        const char *name;
        int r = meta_vm_ids(gc->e->meta, &known, err);

        if (r == 0)
                r = gc_names(dir, &names, err);
        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);

                if (lock_owner(name, id) && !gc_has(&known, id) && gc_old(path))
                        gc_list_add(ret, id, "orphan-lease", TAKE_PTR(path));
        }
        return r;
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
        r = meta_vm_exists(gc->e->meta, c->id, &exists, err);
        if (r < 0 || exists)
                return r;
        *ret_bytes = gc_bytes(c->path);
        *ret_detail = xasprintf("id=%s lock=%s", c->id, cc_basename(c->path));
        if (!gc->dry_run)
                r = cc_unlink(c->path, err);
        return r < 0 ? r : 1;
}
