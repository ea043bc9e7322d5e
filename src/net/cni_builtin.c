/*
 * NICs of the built-in network (builtin.h, lease.h), a source of the provider `cni`.
 *
 * Order: lease (durable intent), veth, TAP and redirect; undone in reverse. The lease row of a NIC
 * whose teardown failed stays, and with it the knowledge that something is left.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/id.h"
#include "net/cni_source.h"
#include "net/lease.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/wire.h"

/* What an operation needs of the host, under the lock that keeps others out. */
struct host {
        int lock;
        struct netns_fds here;  /* the host's namespace */
        struct netns_fds there; /* the VM's; only `ns` is used */
        struct builtin_net net;
};
#define HOST_INIT                                                                                  \
        {                                                                                          \
                .lock = -1, .here = NETNS_FDS_INIT, .there = NETNS_FDS_INIT                        \
        }

static void host_close(struct host *h)
{
        netns_close(&h->here);
        netns_close(&h->there);
        if (h->lock >= 0)
                close(h->lock);
        h->lock = -1;
}
#define HOST CC_CLEANUP(host_close)

static int host_open(const char *netns, struct host *h, struct cc_err *err)
{
        int r = builtin_lock(&h->lock, err);

        if (r == 0)
                r = netns_open(NULL, false, &h->here, err);
        if (r == 0 && netns)
                r = netns_open(netns, false, &h->there, err);
        return r;
}

/* Every part of NIC `index` but the lease. All steps are tried. */
static int unmake(const char *netns, const char *vm_id, size_t index, struct host *h,
                  struct cc_err *err)
{
        struct cc_err all = CC_ERR_INIT;
        struct cc_err one = CC_ERR_INIT;
        char tap[16];

        wire_tap_name(vm_id, index, tap);
        if (builtin_detach(h->here.sk, vm_id, index, &one) < 0)
                cc_join(&all, &one);
        one = (struct cc_err)CC_ERR_INIT;
        if (wire_remove_tap(netns, tap, &one) < 0)
                cc_join(&all, &one);
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

static void fill_nic(const struct vm_record *vm, const struct net_spec *spec, const char *netns,
                     const struct builtin_net *net, uint32_t ip, struct nic *nic)
{
        char text[16];

        net_nic_init(nic, vm, spec, CNI_BACKEND);
        nic->netns_path = xstrdup(netns);
        nic->network = xcalloc(1, sizeof(*nic->network));
        builtin_format(ip, text);
        nic->network->ip = xstrdup(text);
        builtin_format(net->gateway, text);
        nic->network->gateway = xstrdup(text);
        nic->network->prefix = BUILTIN_PREFIX;
}

/* *nic is filled, or a copy of the existing record. */
static int make(const struct net_env *env, const struct vm_record *vm, const char *netns,
                const struct net_spec *spec, struct host *h, struct nic *nic, struct cc_err *err)
{
        char eth[16];
        char tap[16];
        char mac[18];
        struct wire w = { .netns = netns, .eth = eth, .tap = tap };
        uint32_t want = 0;
        uint32_t mtu = 0;
        uint32_t ip = 0;
        int r;

        wire_eth_name(spec->index, eth);
        wire_tap_name(vm->id, spec->index, tap);
        if (spec->existing && spec->existing->network &&
            !builtin_parse(spec->existing->network->ip, &want))
                return cc_fail(err, CC_INVALID, "the record of %s has no valid IP", eth);
        r = lease_take(env->meta, &h->net, vm->id, spec->index, want, &ip, err);
        if (r == 0)
                r = cc_failpoint("net.lease", err);
        if (r < 0)
                return r;
        if (spec->existing)
                record_copy(&nic_type, nic, spec->existing);
        else
                fill_nic(vm, spec, netns, &h->net, ip, nic);
        if (spec->existing)
                (void)snprintf(mac, sizeof(mac), "%s", spec->existing->mac);
        else
                cc_mac_new(mac);
        r = builtin_attach(h->here.sk, &h->net, vm->id, spec->index, h->there.ns, mac, ip, err);
        if (r == 0)
                r = cc_failpoint("net.veth", err);
        w.num_queues = nic->num_queues;
        if (r == 0)
                r = wire_nic(&w, mac, &mtu, err);
        if (r == 0)
                r = cc_failpoint("net.wire", err);
        if (r < 0)
                return r;
        cc_strset(&nic->tap, tap);
        cc_strset(&nic->mac, mac);
        nic->mtu = (int64_t)mtu;
        return 0;
}

/* The NICs of specs[0..n): all of them, or an error and none. What a NIC had before goes first. */
static int add(const struct net_env *env, struct vm_record *vm, const char *netns,
               const struct net_spec *specs, size_t n, struct record_array *ret, bool *ret_kept,
               struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        struct record_array nics = { 0 };
        struct cc_err why = CC_ERR_INIT;
        size_t tried = 0;
        int r = host_open(netns, &h, &why);

        for (size_t i = 0; i < n && r == 0; i++) {
                r = unmake(netns, vm->id, specs[i].index, &h, &why);
                if (r < 0)
                        r = cc_wrap(&why, "reclaim stale NIC %s/eth%zu", vm->id, specs[i].index);
        }
        if (r == 0)
                r = builtin_up(h.here.sk, &h.net, &why);
        while (tried < n && r == 0) {
                struct nic *nic = record_array_add(&nic_type, &nics);

                r = make(env, vm, netns, &specs[tried], &h, nic, &why);
                if (r < 0)
                        (void)cc_wrap(&why, "vm %s eth%zu", vm->id, specs[tried].index);
                tried++;
        }
        if (r == 0) {
                for (size_t i = 0; i < nics.len; i++)
                        record_copy(&nic_type, record_array_add(&nic_type, ret),
                                    (struct nic *)nics.v + i);
                cni_drop_nics(&nics);
                return 0;
        }
        for (size_t i = 0; i < tried; i++) {
                struct cc_err undo = CC_ERR_INIT;
                int u = unmake(netns, vm->id, specs[i].index, &h, &undo);

                if (u == 0 && !specs[i].existing)
                        u = lease_drop(env->meta, vm->id, specs[i].index, &undo);
                if (u < 0) {
                        cc_join(&why, &undo);
                        *ret_kept = true;
                }
        }
        if (h.here.sk) {
                struct cc_err undo = CC_ERR_INIT;

                if (builtin_down_if_unused(h.here.sk, &undo) < 0)
                        cc_join(&why, &undo);
        }
        cni_drop_nics(&nics);
        return cc_err_copy(err, &why);
}

static int remove_nics(const struct net_env *env, const struct vm_record *vm, const char *netns,
                       const size_t *indices, size_t n, struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        struct cc_err all = CC_ERR_INIT;
        int r = host_open(NULL, &h, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                struct cc_err one = CC_ERR_INIT;

                r = unmake(netns, vm->id, indices[i], &h, &one);
                if (r == 0)
                        r = lease_drop(env->meta, vm->id, indices[i], &one);
                if (r < 0)
                        cc_join(&all, &one);
        }
        if (all.class == CC_OK)
                return builtin_down_if_unused(h.here.sk, err);
        return cc_err_copy(err, &all);
}

/* A port that stays forwarded to an address without a VM would meet its next owner. */
static int unpublish(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        CC_STRV struct cc_strv ips = { 0 };
        int r = lease_list(env->meta, vm->id, &ips, err);

        for (size_t i = 0; i < ips.len && r == 0; i++)
                r = nft_unpublish(ips.v[i], err);
        return r;
}

static int count_lease(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        *(bool *)ctx = *(bool *)ctx || cc_streq(row->type, BUILTIN_NAME);
        return 0;
}

/* Whether there is anything to delete: most VMs of other networks need not wait for the lock. */
static int has_any(const struct net_env *env, const struct vm_record *vm, bool *ret,
                   struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        int r = meta_network_each(env->meta, vm->id, count_lease, ret, err);

        if (r < 0 || *ret)
                return r;
        r = netns_open(NULL, false, &here, err);
        return r < 0 ? r : builtin_attached(here.sk, vm->id, ret, err);
}

static int delete_vm(const struct net_env *env, const struct vm_record *vm, const char *netns,
                     bool *ret_kept, struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        struct cc_err all = CC_ERR_INIT;
        struct cc_err one = CC_ERR_INIT;
        bool any = false;
        int r = has_any(env, vm, &any, err);

        if (r < 0 || !any)
                return r;
        r = host_open(NULL, &h, err);
        if (r < 0)
                return r;
        if (vm->network_configs.len > 0 || vm->config.publish.len > 0)
                r = unpublish(env, vm, &one);
        if (r < 0)
                cc_join(&all, &one);
        one = (struct cc_err)CC_ERR_INIT;
        if (builtin_detach_all(h.here.sk, vm->id, &one) < 0)
                cc_join(&all, &one);
        one = (struct cc_err)CC_ERR_INIT;
        if (all.class == CC_OK && lease_drop_all(env->meta, vm->id, &one) < 0)
                cc_join(&all, &one);
        one = (struct cc_err)CC_ERR_INIT;
        if (builtin_down_if_unused(h.here.sk, &one) < 0)
                cc_join(&all, &one);
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

static int verify(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        int r = netns_open(NULL, false, &here, err);

        return r < 0 ? r : builtin_verify(here.sk, vm->id, vm->network_configs.len, err);
}

static int publish_all(const struct vm_record *vm, struct cc_err *err)
{
        const struct nic *nic = vm->network_configs.len ? vm_nic(vm, 0) : NULL;
        int r = 0;

        if (!nic || !nic->network || vm->config.publish.len == 0)
                return 0;
        r = nft_unpublish(nic->network->ip, err);
        for (size_t i = 0; i < vm->config.publish.len && r == 0; i++) {
                uint16_t host;
                uint16_t guest;

                r = net_publish_parse(vm->config.publish.v[i], &host, &guest, err);
                if (r == 0)
                        r = nft_publish(nic->network->ip, host, guest, err);
        }
        if (r < 0)
                (void)nft_unpublish(nic->network->ip, NULL);
        return r;
}

static int up(const struct net_env *env, const struct vm_record *vm, const char *netns,
              struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        int r;

        if (vm->network_configs.len == 0)
                return 0;
        r = host_open(NULL, &h, err);
        /* Others may have flushed the rules since. */
        if (r == 0)
                r = builtin_up(h.here.sk, &h.net, err);
        return r < 0 ? r : publish_all(vm, err);
}

static int down(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        int r;

        if (vm->config.publish.len == 0)
                return 0;
        r = host_open(NULL, &h, err);
        return r < 0 ? r : unpublish(env, vm, err);
}

/* Indices from `first` on, each once. */
struct beyond {
        size_t first;
        size_t *v, n;
};

static void beyond_clear(struct beyond *b)
{
        free(b->v);
}

static void beyond_add(struct beyond *b, size_t index)
{
        for (size_t i = 0; i < b->n; i++)
                if (b->v[i] == index)
                        return;
        if (index < b->first)
                return;
        b->v = xreallocarray(b->v, b->n + 1, sizeof(*b->v));
        b->v[b->n++] = index;
}

static int on_row(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        long long index;

        if (cc_streq(row->type, BUILTIN_NAME) && cc_startswith(row->if_name, "eth") &&
            cc_parse_i64(row->if_name + strlen("eth"), &index) == 0 && index >= 0)
                beyond_add(ctx, (size_t)index);
        return 0;
}

static int reclaim(const struct net_env *env, const struct vm_record *vm, const char *netns,
                   struct cc_err *err)
{
        CC_CLEANUP(beyond_clear) struct beyond b = { .first = vm->network_configs.len };
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        CC_STRV struct cc_strv ports = { 0 };
        struct cc_err why = CC_ERR_INIT;
        const char *port;
        size_t index;
        int r = meta_network_each(env->meta, vm->id, on_row, &b, err);

        if (r == 0)
                r = netns_open(NULL, false, &here, err);
        if (r == 0)
                r = builtin_ports(here.sk, vm->id, &ports, err);
        cc_strv_foreach (&ports, i, port)
                if (wire_index(port, &index))
                        beyond_add(&b, index);
        if (r < 0 || b.n == 0)
                return r;
        if (remove_nics(env, vm, netns, b.v, b.n, &why) < 0)
                cc_warn("net.builtin", "vm %s: left over and stays: %s", vm->id, why.msg);
        return 0;
}

static int on_lease(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        if (cc_streq(row->type, BUILTIN_NAME))
                cc_strv_add(ctx, row->vm_id);
        return 0;
}

static int orphans(const struct net_env *env, struct cc_strv *ret, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        int r = meta_network_each(env->meta, NULL, on_lease, ret, err);

        if (r == 0)
                r = netns_open(NULL, false, &here, err);
        return r < 0 ? r : builtin_owners(here.sk, ret, err);
}

const struct cni_source cni_builtin = {
        .add = add,
        .remove = remove_nics,
        .delete = delete_vm,
        .verify = verify,
        .up = up,
        .down = down,
        .reclaim = reclaim,
        .orphans = orphans,
};
