/* What networks left for VMs that are gone: src/net knows what that is (network.md §11). */
#include <string.h>

#include "base/alloc.h"
#include "gc/internal.h"
#include "net/gc.h"

static const char orphan[] = "orphan";

static struct net_env env_of(struct gc *gc)
{
        return (struct net_env){ .config = gc->e->config, .meta = gc->e->meta };
}

int gc_net_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret, struct cc_err *err)
{
        NET_ORPHANS struct net_orphans found = { 0 };
        struct net_env env = env_of(gc);
        int r = net_gc_candidates(&env, &found, err);

        for (size_t i = 0; i < found.len && r == 0; i++)
                gc_list_add(ret, found.v[i].id, orphan, xstrdup(found.v[i].provider->name));
        return r;
}

int gc_net_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                   char **ret_detail, int64_t *ret_bytes, struct cc_err *err)
{
        struct net_env env = env_of(gc);
        struct net_orphan one = { 0 };
        struct cc_err why = CC_ERR_INIT;
        int r = net_provider_find(c->path, &one.provider, err);

        if (r < 0)
                return r;
        (void)snprintf(one.id, sizeof(one.id), "%s", c->id);
        *ret_detail = xasprintf("id=%s network=%s", c->id, c->path);
        if (gc->dry_run)
                return GC_WOULD;
        r = net_gc_collect(&env, &one, &why);
        if (r == -CC_BUSY)
                return 0;
        return r < 0 ? cc_err_copy(err, &why) : GC_DONE;
}
