/*
 * NICs made by CNI plugins, a source of the provider `cni` (network.md §2, §4).
 *
 * Order of an add: intent rows in the index, then per NIC the cache entry, ADD, TAP and redirect;
 * at last the rows are completed. A row stays until its DEL succeeded, and with it (or with the
 * cache entry) the knowledge of what a plugin still holds: leases outlive reboots.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "net/cni_detach.h"
#include "net/cni_result.h"
#include "net/cni_source.h"
#include "net/netns.h"
#include "net/wire.h"

/* ---- add ---- */

struct job {
        struct cni_context p;
        struct vm_record *vm;
        const char *netns;
        const struct net_spec *specs;
        size_t n;
        struct cni_row *rows; /* parallel to specs; strings borrowed */
        char (*if_names)[16];
        struct cc_strv networks;
        struct record_array nics;
        struct cc_strv dns; /* of the first NIC that brings any */
        bool intended;      /* the rows are written */
        size_t attempted;
};

static void job_close(struct job *j)
{
        cni_context_close(&j->p);
        cc_strv_free(&j->networks);
        cc_strv_free(&j->dns);
        cni_drop_nics(&j->nics);
        free(j->rows);
        free(j->if_names);
}
#define JOB CC_CLEANUP(job_close)

static bool declares(const struct conflist *list, const char *capability)
{
        const json_t *plugin;
        size_t i;

        json_array_foreach (list->plugins, i, plugin)
                if (json_is_true(
                            json_object_get(json_object_get(plugin, "capabilities"), capability)))
                        return true;
        return false;
}

static int plan_rows(struct job *j, struct cc_err *err)
{
        j->rows = xcalloc(j->n + 1, sizeof(*j->rows));
        j->if_names = xcalloc(j->n + 1, sizeof(*j->if_names));
        cni_networks(j->vm, &j->networks);
        if (j->networks.len == 0)
                return cc_fail(err, CC_INVALID, "the record names no network");
        for (size_t i = 0; i < j->n; i++) {
                const struct net_spec *spec = &j->specs[i];
                size_t k = spec->index < j->networks.len ? spec->index : j->networks.len - 1;
                struct cni_row *row = &j->rows[i];
                const struct conflist *list = conflists_find(&j->p.lists, j->networks.v[k]);

                if (!list)
                        return conflists_not_found(&j->p.lists, j->networks.v[k], NULL, err);
                wire_eth_name(spec->index, j->if_names[i]);
                if (cni_check(&j->p.rt, list, err) < 0)
                        return cc_wrap(err, "cni add %s/%s", j->vm->id, j->if_names[i]);
                row->type = j->networks.v[k];
                row->if_name = j->if_names[i];
                row->index = spec->index;
                if (spec->existing && spec->existing->network)
                        row->network = *spec->existing->network;
                if (spec->index == 0 && j->vm->config.publish.len &&
                    !declares(list, "portMappings"))
                        return cc_fail(err, CC_UNSUPPORTED,
                                       "--publish: network %s cannot forward ports (no plugin "
                                       "with the capability portMappings)",
                                       list->name);
        }
        return 0;
}

/* What an earlier, failed removal left at an index goes first. */
static int reclaim_stale(struct job *j, struct cc_err *err)
{
        for (size_t i = 0; i < j->n; i++) {
                const struct cni_row *old = cni_rows_find(&j->p.rows, j->rows[i].if_name);
                int r;

                if (!old || j->specs[i].existing)
                        continue;
                r = cni_tear_down(&j->p, j->vm->id, j->netns, old, CNI_MISSING_FAILS, err);
                if (r < 0)
                        return cc_wrap(err, "reclaim stale NIC %s/%s", j->vm->id, old->if_name);
        }
        return 0;
}

/* Recovering, what is left of the NIC goes first: leases on disk would refuse the new ADD. */
static void clear_old(struct job *j, size_t i)
{
        const struct cni_row *old = cni_rows_find(&j->p.rows, j->rows[i].if_name);
        struct cc_err why = CC_ERR_INIT;

        if (cni_tear_down(&j->p, j->vm->id, j->netns, old ? old : &j->rows[i], CNI_MISSING_WARNS,
                          &why) < 0)
                cc_warn("net.cni", "vm %s: %s", j->vm->id, why.msg);
}

static int add_ports(const struct vm_record *vm, json_t *caps, struct cc_err *err)
{
        json_t *list = json_array();

        (void)json_object_set_new(caps, "portMappings", list);
        for (size_t i = 0; i < vm->config.publish.len; i++) {
                uint16_t host;
                uint16_t guest;
                int r = net_publish_parse(vm->config.publish.v[i], &host, &guest, err);

                if (r < 0)
                        return r;
                (void)json_array_append_new(list,
                                            json_pack("{s:i, s:i, s:s}", "hostPort", host,
                                                      "containerPort", guest, "protocol", "tcp"));
        }
        return 0;
}

/* What we ask of the plugins: on recovery the recorded address and MAC, by capability if one of
 * them declares it, else by CNI_ARGS. */
static int wishes(const struct job *j, size_t i, const struct conflist *list, json_t *caps,
                  struct cc_buf *args, struct cc_err *err)
{
        const struct nic *old = j->specs[i].existing;
        struct in_addr in;

        if (j->specs[i].index == 0 && j->vm->config.publish.len) {
                int r = add_ports(j->vm, caps, err);

                if (r < 0)
                        return r;
        }
        if (!old)
                return 0;
        (void)json_object_set_new(caps, "mac", json_string(old->mac));
        if (!old->network || cc_isempty(old->network->ip))
                return 0;
        if (inet_pton(AF_INET, old->network->ip, &in) != 1)
                return cc_fail(err, CC_INVALID, "the record of %s has no valid IP",
                               j->rows[i].if_name);
        if (declares(list, "ips"))
                (void)json_object_set_new(
                        caps, "ips",
                        json_pack("[o]", json_sprintf("%s/%d", old->network->ip,
                                                      (int)old->network->prefix)));
        else
                cc_buf_printf(args, "IgnoreUnknown=1;IP=%s", old->network->ip);
        return 0;
}

static int attach(struct job *j, size_t i, struct cni_result *ret, struct cc_err *err)
{
        const struct conflist *list = conflists_find(&j->p.lists, j->rows[i].type);
        const struct nic *old = j->specs[i].existing;
        CC_JSON json_t *caps = json_object();
        CC_JSON json_t *result = NULL;
        CC_BUF struct cc_buf args = { 0 };
        CC_FREE char *container = cni_container_id(j->vm->id, list, j->specs[i].index);
        struct cni_attachment a = {
                .vm_id = j->vm->id,
                .container = container,
                .if_name = j->rows[i].if_name,
                .netns = j->netns,
                .caps = caps,
        };
        int r = wishes(j, i, list, caps, &args, err);

        if (r < 0)
                return r;
        a.args = args.len ? args.data : "";
        r = cni_add(&j->p.rt, list, &a, &result, err);
        if (r == 0)
                r = cc_failpoint("net.add", err);
        if (r < 0)
                return r;
        r = cni_result_parse(result, a.if_name, ret, err);
        if (r < 0)
                return cc_wrap(err, "cni add %s/%s: network %s", a.vm_id, a.if_name, list->name);
        if (ret->n > 0 && !*ret->ip)
                cc_warn("net.cni", "vm %s %s has IPv6 addresses only: the guest must find its own",
                        a.vm_id, a.if_name);
        /* The guest is configured for the address it had. */
        if (old && old->network && !cc_isempty(old->network->ip) &&
            !cc_streq(old->network->ip, ret->ip))
                return cc_fail(err, CC_CONFLICT,
                               "cni add %s/%s: requested IP %s is not available in network %s, "
                               "which gave %s",
                               a.vm_id, a.if_name, old->network->ip, list->name,
                               *ret->ip ? ret->ip : "none");
        return 0;
}

static void fill_nic(const struct job *j, size_t i, const struct cni_result *result,
                     struct nic *nic)
{
        if (j->specs[i].existing) {
                record_copy(&nic_type, nic, j->specs[i].existing);
                return;
        }
        net_nic_init(nic, j->vm, &j->specs[i], CNI_BACKEND);
        nic->netns_path = xstrdup(j->netns);
        if (!*result->ip)
                return;
        nic->network = xcalloc(1, sizeof(*nic->network));
        nic->network->ip = xstrdup(result->ip);
        nic->network->gateway = xstrdup(result->gateway);
        nic->network->prefix = result->prefix;
}

static int make(struct job *j, size_t i, struct nic *nic, struct cc_err *err)
{
        CNI_RESULT struct cni_result result = { 0 };
        char tap[16];
        char mac[18];
        struct wire w = { .netns = j->netns, .eth = j->rows[i].if_name, .tap = tap };
        uint32_t mtu = 0;
        int r;

        if (j->specs[i].existing)
                clear_old(j, i);
        r = attach(j, i, &result, err);
        if (r < 0)
                return r;
        fill_nic(j, i, &result, nic);
        wire_tap_name(j->vm->id, j->specs[i].index, tap);
        w.num_queues = nic->num_queues;
        w.mac = j->specs[i].existing ? j->specs[i].existing->mac : NULL;
        r = wire_nic(&w, mac, &mtu, err);
        if (r == 0)
                r = cc_failpoint("net.wire", err);
        if (r < 0)
                return cc_wrap(err, "vm %s %s", j->vm->id, w.eth);
        cc_strset(&nic->tap, tap);
        cc_strset(&nic->mac, mac);
        nic->mtu = (int64_t)mtu;
        if (j->dns.len == 0)
                cc_strv_copy(&j->dns, &result.dns);
        return 0;
}

/* Rows of NICs that are recovered exist and stay as they are; one that got lost is made again. */
static int write_rows(struct job *j, bool complete, struct cc_err *err)
{
        CC_FREE struct cni_row *put = xcalloc(j->n + 1, sizeof(*put));
        size_t n = 0;

        for (size_t i = 0; i < j->n; i++) {
                struct cni_row *row = &j->rows[i];
                const struct nic *nic = complete ? (struct nic *)j->nics.v + i : NULL;

                if (j->specs[i].existing && (complete || cni_rows_find(&j->p.rows, row->if_name)))
                        continue;
                if (nic && nic->network)
                        row->network = *nic->network; /* borrowed: the NICs outlive it */
                put[n++] = *row;
        }
        return cni_rows_put(j->p.env->meta, j->vm->id, put, n, err);
}

/* Everything attempted is undone, what never was loses its row. Recovering, rows stay: the VM has
 * its NICs by its record. Errors are joined to *why. */
static void undo(struct job *j, bool *ret_kept, struct cc_err *why)
{
        int64_t deadline = cc_monotonic() + NET_ROLLBACK_NS;

        cc_uninterruptible_begin();
        if (!j->p.rt.deadline || j->p.rt.deadline > deadline)
                j->p.rt.deadline = deadline;
        for (size_t i = 0; i < j->n && j->intended; i++) {
                struct cc_err one = CC_ERR_INIT;
                int r = 0;

                if (i < j->attempted)
                        r = cni_tear_down(&j->p, j->vm->id, j->netns, &j->rows[i],
                                          CNI_MISSING_FAILS, &one);
                if (r == 0 && !j->specs[i].existing)
                        r = cni_row_drop(j->p.env->meta, j->vm->id, j->rows[i].if_name, &one);
                if (r < 0) {
                        cc_join(why, &one);
                        *ret_kept = true;
                }
        }
        cc_uninterruptible_end();
}

static int make_all(struct job *j, struct cc_err *err)
{
        int r = plan_rows(j, err);

        if (r == 0)
                r = reclaim_stale(j, err);
        if (r == 0)
                r = write_rows(j, false, err);
        if (r < 0)
                return r;
        j->intended = true;
        r = cc_failpoint("net.intent", err);
        while (j->attempted < j->n && r == 0) {
                size_t i = j->attempted++;

                r = make(j, i, record_array_add(&nic_type, &j->nics), err);
        }
        if (r == 0)
                r = write_rows(j, true, err);
        return r < 0 ? r : cc_failpoint("net.rows", err);
}

static int add(const struct net_env *env, struct vm_record *vm, const char *netns,
               const struct net_spec *specs, size_t n, struct record_array *ret, bool *ret_kept,
               struct cc_err *err)
{
        JOB struct job j = { .vm = vm, .netns = netns, .specs = specs, .n = n };
        struct cc_err why = CC_ERR_INIT;
        int r = cni_context_open(env, vm->id, &j.p, err);

        if (r < 0)
                return r;
        r = make_all(&j, &why);
        if (r < 0) {
                undo(&j, ret_kept, &why);
                return cc_err_copy(err, &why);
        }
        for (size_t i = 0; i < j.nics.len; i++)
                record_copy(&nic_type, record_array_add(&nic_type, ret),
                            (struct nic *)j.nics.v + i);
        /* Servers given at creation win. */
        if (vm->config.dns.len == 0)
                cc_strv_copy(&vm->config.dns, &j.dns);
        return 0;
}

/* ---- the other operations ---- */

/* Several NICs of a VM, all tried. *ret_kept when any is left. */
static int sweep_all(struct cni_context *p, const char *vm_id, const char *netns,
                     const struct cni_row *const *rows, size_t n, enum cni_missing missing,
                     bool *ret_kept, struct cc_err *err)
{
        struct cc_err all = CC_ERR_INIT;

        for (size_t i = 0; i < n; i++) {
                struct cc_err one = CC_ERR_INIT;

                if (cni_sweep(p, vm_id, netns, rows[i], missing, &one) < 0) {
                        cc_join(&all, &one);
                        *ret_kept = true;
                }
        }
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

static int remove_nics(const struct net_env *env, const struct vm_record *vm, const char *netns,
                       const size_t *indices, size_t n, struct cc_err *err)
{
        CNI_CONTEXT struct cni_context p = { 0 };
        CC_FREE const struct cni_row **rows = xcalloc(n + 1, sizeof(const struct cni_row *));
        struct cc_err all = CC_ERR_INIT;
        struct cc_err one = CC_ERR_INIT;
        bool kept = false;
        size_t found = 0;
        int r = cni_context_open(env, vm->id, &p, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                char name[16];

                wire_eth_name(indices[i], name);
                rows[found] = cni_rows_find(&p.rows, name);
                if (rows[found]) {
                        found++;
                        continue;
                }
                one = (struct cc_err)CC_ERR_INIT;
                wire_tap_name(vm->id, indices[i], name);
                if (wire_remove_tap(netns, name, &one) < 0)
                        cc_join(&all, &one);
        }
        one = (struct cc_err)CC_ERR_INIT;
        if (sweep_all(&p, vm->id, netns, rows, found, CNI_MISSING_FAILS, &kept, &one) < 0)
                cc_join(&all, &one);
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

/* Cache entries without a row: somebody lost the rows, the plugins did not. */
static int adopt_cached(void *ctx, const struct cni_cached *c, struct cc_err *err)
{
        struct cni_context *p = ctx;

        if (!cni_rows_find(&p->rows, c->if_name))
                cni_rows_add(&p->rows, c->list.name, c->if_name, NULL);
        return 0;
}

static int delete_vm(const struct net_env *env, const struct vm_record *vm, const char *netns,
                     bool *ret_kept, struct cc_err *err)
{
        CNI_CONTEXT struct cni_context p = { 0 };
        CC_FREE const struct cni_row **rows = NULL;
        int r = cni_context_open(env, vm->id, &p, err);

        if (r == 0 && p.rt.cache_dir)
                r = cni_cache_each(p.rt.cache_dir, vm->id, adopt_cached, &p, err);
        if (r < 0)
                return r;
        rows = xcalloc(p.rows.len + 1, sizeof(const struct cni_row *));
        for (size_t i = 0; i < p.rows.len; i++)
                rows[i] = &p.rows.v[i];
        return sweep_all(&p, vm->id, netns, rows, p.rows.len, CNI_MISSING_WARNS, ret_kept, err);
}

static int verify(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        return 0;
}

static int up(const struct net_env *env, const struct vm_record *vm, const char *netns,
              struct cc_err *err)
{
        return 0;
}

static int down(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        return 0;
}

static int reclaim(const struct net_env *env, const struct vm_record *vm, const char *netns,
                   struct cc_err *err)
{
        CNI_CONTEXT struct cni_context p = { 0 };
        int r = cni_context_open(env, vm->id, &p, err);

        for (size_t i = 0; i < p.rows.len && r == 0; i++) {
                const struct cni_row *row = &p.rows.v[i];
                struct cc_err why = CC_ERR_INIT;

                if (row->index >= vm->network_configs.len &&
                    cni_sweep(&p, vm->id, netns, row, CNI_MISSING_WARNS, &why) < 0)
                        cc_warn("net.cni", "vm %s: %s is left over and stays: %s", vm->id,
                                row->if_name, why.msg);
        }
        return r;
}

static int on_cached(void *ctx, const struct cni_cached *c, struct cc_err *err)
{
        if (cc_id_valid(c->vm_id))
                cc_strv_add(ctx, c->vm_id);
        return 0;
}

static int orphans(const struct net_env *env, struct cc_strv *ret, struct cc_err *err)
{
        CC_FREE char *cache = env->config ? layout_cni_results(env->config) : NULL;
        int r = cni_rows_owners(env->meta, ret, err);

        return r < 0 || !cache ? r : cni_cache_each(cache, NULL, on_cached, ret, err);
}

const struct cni_source cni_plugins = {
        .add = add,
        .remove = remove_nics,
        .delete = delete_vm,
        .verify = verify,
        .up = up,
        .down = down,
        .reclaim = reclaim,
        .orphans = orphans,
};
