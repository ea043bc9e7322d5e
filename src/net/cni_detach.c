/* Taking apart what plugins made. See cni_detach.h. */
#include "net/cni_detach.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "config/layout.h"
#include "net/cni_eth.h"
#include "net/cni_exec.h"
#include "net/netns.h"
#include "net/wire.h"

void cni_context_close(struct cni_context *p)
{
        cni_runtime_clear(&p->rt);
        conflists_clear(&p->lists);
        cni_rows_clear(&p->rows);
}

int cni_context_open(const struct net_env *env, const char *vm_id, struct cni_context *p,
                     struct cc_err *err)
{
        const struct config *c = env->config;
        struct cc_err why = CC_ERR_INIT;

        p->env = env;
        p->rt.deadline = env->deadline;
        if (c) {
                p->rt.cache_dir = layout_cni_results(c);
                p->rt.timeout_ms = (int)(c->cni_timeout_seconds * 1000);
                if (conflists_load(c->cni_conf_dir, &p->lists, &why) < 0)
                        cc_warn("net.cni", "%s", why.msg);
        }
        cni_plugin_path(c ? c->cni_bin_dir : NULL, &p->rt.path);
        return cni_rows_load(env->meta, vm_id, &p->rows, err);
}

static bool has_ip_masq(const struct conflist *list)
{
        const json_t *plugin;
        size_t i;

        json_array_foreach (list->plugins, i, plugin)
                if (json_is_true(json_object_get(plugin, "ipMasq")))
                        return true;
        return false;
}

char *cni_container_id(const char *vm_id, const struct conflist *list, size_t index)
{
        return index > 0 && has_ip_masq(list) ? xasprintf("%s-%zu", vm_id, index) : xstrdup(vm_id);
}

/* The addresses that the plugin expects on the interface: of its own result, else the recorded one.
 */
static void expected_addresses(const struct cni_cached *cached, const struct cni_row *row,
                               struct cni_result *ret)
{
        struct cc_err why = CC_ERR_INIT;

        if (cached->result && cni_result_parse(cached->result, row->if_name, ret, &why) < 0)
                cc_debug("net.cni", "cached result: %s", why.msg);
        if (ret->n == 0 && row->network.ip)
                (void)cni_result_add(ret, row->network.ip, row->network.prefix);
}

/* Puts the interface in order for a DEL, says whether the namespace is ours to delete. */
static bool restore(const char *vm_id, const char *netns, const char *if_name,
                    const struct cni_result *result)
{
        struct cc_err why = CC_ERR_INIT;
        bool made = false;

        if (cni_eth_restore(netns, if_name, result, &made, &why) < 0)
                cc_warn("net.cni", "vm %s: restore %s for its removal: %s", vm_id, if_name,
                        why.msg);
        return made;
}

/*
 * A plugin may take the interface away and then fail on what belongs to its addresses. The second
 * attempt has a stand-in with these addresses, in case it was bad luck. The last one has none:
 * after a reboot there is nothing to undo for an address, and the bridge plugin fails for want of
 * the chain it wants to remove, now and for ever.
 */
#define ATTEMPTS 3

static int run_del(struct cni_context *p, const char *vm_id, const char *netns,
                   const struct conflist *list, const struct cni_cached *cached,
                   const struct cni_row *row, struct cc_err *err)
{
        CC_FREE char *container = cached->container ? xstrdup(cached->container)
                                                    : cni_container_id(vm_id, list, row->index);
        struct cni_attachment a = {
                .vm_id = vm_id,
                .container = container,
                .if_name = row->if_name,
                .args = cached->args ? cached->args : "",
                .caps = cached->caps,
        };
        CNI_RESULT struct cni_result result = { 0 };
        bool made = false;

        expected_addresses(cached, row, &result);
        for (int i = 1;; i++) {
                struct cc_err why = CC_ERR_INIT;
                int r;

                if (i < ATTEMPTS && restore(vm_id, netns, row->if_name, &result))
                        made = true;
                a.netns = netns_exists(netns) ? netns : "";
                r = cni_del(&p->rt, list, &a, cached->result, &why);
                (void)cni_eth_clean(netns, NULL);
                if (r == -CC_IO && i < ATTEMPTS && result.n > 0 &&
                    !cni_eth_exists(netns, row->if_name)) {
                        cc_debug("net.cni", "%s: trying again", why.msg);
                        continue;
                }
                if (made)
                        (void)netns_delete(netns, NULL);
                return r < 0 ? cc_err_copy(err, &why) : 0;
        }
}

static int del_nic(struct cni_context *p, const char *vm_id, const char *netns,
                   const struct cni_row *row, enum cni_missing missing, struct cc_err *err)
{
        CNI_CACHED struct cni_cached cached = { 0 };
        const struct conflist *list = NULL;
        struct cc_err why = CC_ERR_INIT;
        int r = p->rt.cache_dir ? cni_cache_load(p->rt.cache_dir, row->type, vm_id, row->if_name,
                                                 &cached, &why)
                                : -CC_NOT_FOUND;

        if (r < 0 && r != -CC_NOT_FOUND) {
                cc_warn("net.cni", "vm %s: cached attachment of %s left out: %s", vm_id,
                        row->if_name, why.msg);
                (void)cni_cache_drop(p->rt.cache_dir, row->type, vm_id, row->if_name, NULL);
        }
        list = r == 0 ? &cached.list : conflists_find(&p->lists, row->type);
        if (list)
                return run_del(p, vm_id, netns, list, &cached, row, err);
        if (missing == CNI_MISSING_FAILS)
                return cc_fail(err, CC_NOT_FOUND,
                               "cni del %s/%s: conflist \"%s\" is gone and nothing is cached",
                               vm_id, row->if_name, row->type);
        cc_warn("net.cni",
                "vm %s: conflist \"%s\" is gone and nothing is cached: %s is removed without its "
                "plugins",
                vm_id, row->type, row->if_name);
        return 0;
}

int cni_tear_down(struct cni_context *p, const char *vm_id, const char *netns,
                  const struct cni_row *row, enum cni_missing missing, struct cc_err *err)
{
        struct cc_err all = CC_ERR_INIT;
        struct cc_err one = CC_ERR_INIT;
        char tap[16];

        if (del_nic(p, vm_id, netns, row, missing, &one) < 0)
                cc_join(&all, &one);
        wire_tap_name(vm_id, row->index, tap);
        one = (struct cc_err)CC_ERR_INIT;
        if (wire_remove_tap(netns, tap, &one) < 0)
                cc_join(&all, &one);
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

int cni_sweep(struct cni_context *p, const char *vm_id, const char *netns,
              const struct cni_row *row, enum cni_missing missing, struct cc_err *err)
{
        int r = cni_tear_down(p, vm_id, netns, row, missing, err);

        return r < 0 ? r : cni_row_drop(p->env->meta, vm_id, row->if_name, err);
}
