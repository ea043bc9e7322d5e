/* Network leftovers of VMs that are gone. See gc.h. */
#include "net/gc.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "config/layout.h"

void net_orphans_clear(struct net_orphans *o)
{
        free(o->v);
        *o = (struct net_orphans){ 0 };
}

/* `id` may be a prefix; the IDs are sorted. */
static bool is_known(const struct cc_strv *vms, const char *id)
{
        size_t low = 0;
        size_t high = vms->len;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (strcmp(vms->v[middle], id) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < vms->len && cc_startswith(vms->v[low], id);
}

static void add(struct net_orphans *o, const char *id, const struct net_provider *p)
{
        struct net_orphan *new;

        o->v = xreallocarray(o->v, o->len + 1, sizeof(*o->v));
        new = &o->v[o->len++];
        (void)snprintf(new->id, sizeof(new->id), "%s", id);
        new->provider = p;
}

int net_gc_candidates_of(const struct net_env *env, const struct net_provider *p,
                         struct net_orphans *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        CC_STRV struct cc_strv vms = { 0 };
        int r = p->orphans ? p->orphans(env, &ids, err) : 0;

        if (r == 0)
                r = meta_vm_ids(env->meta, &vms, err);
        if (r < 0)
                return r;
        cc_strv_sort(&ids);
        for (size_t i = 0; i < ids.len; i++)
                if (!is_known(&vms, ids.v[i]))
                        add(ret, ids.v[i], p);
        return 0;
}

struct search {
        const struct net_env *env;
        struct net_orphans found;
};

static int ask(void *ctx, const struct net_provider *p, struct cc_err *err)
{
        struct search *s = ctx;

        return net_gc_candidates_of(s->env, p, &s->found, err);
}

int net_gc_candidates(const struct net_env *env, struct net_orphans *ret, struct cc_err *err)
{
        struct search s = { .env = env };
        int r = net_provider_each(ask, &s, err);

        if (r < 0)
                net_orphans_clear(&s.found);
        else
                *ret = s.found;
        return r;
}

int net_gc_collect(const struct net_env *env, const struct net_orphan *orphan, struct cc_err *err)
{
        struct vm_record vm = { .id = (char *)(uintptr_t)orphan->id };
        CC_STRV struct cc_strv vms = { 0 };
        CC_CLOSE int lock = -1;
        int r = 0;

        /* Without the whole ID there is no lock to take, and no VM could have been made of it
         * meanwhile: IDs are drawn at random. */
        if (cc_id_valid(orphan->id)) {
                CC_FREE char *path = layout_vm_lock(env->config, orphan->id);

                r = cc_lock_try(path, CC_LOCK_EXCLUSIVE, "net.gc", &lock, err);
        }
        if (r == 0)
                r = meta_vm_ids(env->meta, &vms, err);
        if (r < 0 || is_known(&vms, orphan->id))
                return r;
        r = orphan->provider->delete (env, &vm, err);
        return r < 0 ? cc_wrap(err, "collect network of %s", orphan->id) : 0;
}
