/*
 * The provider `cni`: every VM has a network namespace of its own, in which a TAP and the interface
 * eth<i> are one wire (wire.h). eth<i> comes from the built-in network (builtin.h, lease.h).
 *
 * Order: lease (durable intent), veth, TAP and redirect; undone in reverse. The lease row of a NIC
 * whose teardown failed stays, and with it the knowledge that something is left.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/id.h"
#include "base/log.h"
#include "net/lease.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/providers.h"
#include "net/wire.h"

#define NAME               "cni"
#define DEFAULT_QUEUE_SIZE 512

static char *path_of(const struct vm_record *vm)
{
        return cc_isempty(vm->netns_path) ? netns_path(vm->id) : xstrdup(vm->netns_path);
}

static int prepare(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        int r;

        if (!cc_isempty(vm->config.network) && !cc_streq(vm->config.network, BUILTIN_NAME))
                return cc_fail(err, CC_NOT_FOUND, "conflist \"%s\" not found (available: %s)",
                               vm->config.network, BUILTIN_NAME);
        r = netns_create(path, NULL, err);
        if (r == 0)
                r = cc_failpoint("net.netns", err);
        if (r < 0)
                return r;
        cc_strset(&vm->net_backend, NAME);
        cc_strset(&vm->netns_path, path);
        cc_strset(&vm->net_bridge_dev, NULL);
        cc_strset(&vm->config.network, BUILTIN_NAME);
        return 0;
}

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
        int64_t cpus = vm->config.cpu > 0 ? vm->config.cpu : 1;
        char text[16];

        nic->num_queues = spec->num_queues > 0 ? spec->num_queues : 2 * cpus;
        nic->queue_size = vm->config.queue_size > 0 ? vm->config.queue_size : DEFAULT_QUEUE_SIZE;
        nic->backend = xstrdup(NAME);
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

static void drop_nics(struct record_array *a)
{
        for (size_t i = 0; i < a->len; i++)
                record_clear(&nic_type, (struct nic *)a->v + i);
        free(a->v);
        *a = (struct record_array){ 0 };
}

/* The NICs of specs[0..n): all of them, or an error and none. What a NIC had before goes first. */
static int make_all(const struct net_env *env, const struct vm_record *vm, const char *netns,
                    const struct net_spec *specs, size_t n, struct record_array *ret,
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
                drop_nics(&nics);
                return 0;
        }
        for (size_t i = 0; i < tried; i++) {
                struct cc_err undo = CC_ERR_INIT;
                int u = unmake(netns, vm->id, specs[i].index, &h, &undo);

                if (u == 0 && !specs[i].existing)
                        u = lease_drop(env->meta, vm->id, specs[i].index, &undo);
                if (u < 0)
                        cc_join(&why, &undo);
        }
        if (h.here.sk) {
                struct cc_err undo = CC_ERR_INIT;

                if (builtin_down_if_unused(h.here.sk, &undo) < 0)
                        cc_join(&why, &undo);
        }
        drop_nics(&nics);
        return cc_err_copy(err, &why);
}

static int add(const struct net_env *env, struct vm_record *vm, const struct net_spec *specs,
               size_t n, struct record_array *ret, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        bool created = false;
        int r;

        if (n == 0)
                return 0;
        r = netns_create(path, &created, err);
        if (r < 0)
                return r;
        r = make_all(env, vm, path, specs, n, ret, err);
        if (r < 0 && created)
                (void)netns_delete(path, NULL);
        return r;
}

static int remove_nics(const struct net_env *env, const struct vm_record *vm, const size_t *indices,
                       size_t n, struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        CC_FREE char *path = path_of(vm);
        struct cc_err all = CC_ERR_INIT;
        int r = host_open(NULL, &h, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                struct cc_err one = CC_ERR_INIT;

                r = unmake(path, vm->id, indices[i], &h, &one);
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

static int delete_vm(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        CC_FREE char *path = path_of(vm);
        struct cc_err all = CC_ERR_INIT;
        struct cc_err one = CC_ERR_INIT;
        int r = host_open(NULL, &h, err);

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
        if (netns_delete(path, &one) < 0)
                cc_join(&all, &one);
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
        CC_FREE char *path = path_of(vm);
        int r = wire_verify(path, vm->id, vm->network_configs.len, err);

        if (r == 0)
                r = netns_open(NULL, false, &here, err);
        if (r == 0)
                r = builtin_verify(here.sk, vm->id, vm->network_configs.len, err);
        return r;
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

static int unquiesce(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        HOST struct host h = HOST_INIT;
        CC_FREE char *path = path_of(vm);
        int r;

        if (vm->network_configs.len == 0)
                return 0;
        r = host_open(NULL, &h, err);
        /* Others may have flushed the rules since. */
        if (r == 0)
                r = builtin_up(h.here.sk, &h.net, err);
        if (r == 0)
                r = wire_set_up(path, vm->network_configs.len, true, err);
        if (r == 0)
                r = publish_all(vm, err);
        return r;
}

static int quiesce(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        int r = wire_set_up(path, vm->network_configs.len, false, err);

        if (r == 0 && vm->config.publish.len > 0) {
                HOST struct host h = HOST_INIT;

                r = host_open(NULL, &h, err);
                if (r == 0)
                        r = unpublish(env, vm, err);
        }
        return r;
}

static int recover(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        size_t n = vm->network_configs.len;
        CC_FREE struct net_spec *specs = xcalloc(n + 1, sizeof(*specs));
        struct record_array nics = { 0 };
        int r = vm_nics_check(vm, err);

        if (r == 0)
                r = prepare(env, vm, err);
        for (size_t i = 0; i < n; i++)
                specs[i] = (struct net_spec){
                        .index = i,
                        .num_queues = vm_nic(vm, i)->num_queues,
                        .existing = vm_nic(vm, i),
                };
        if (r == 0)
                r = add(env, vm, specs, n, &nics, err);
        drop_nics(&nics); /* as recorded: MAC and address are what they were */
        return r < 0 ? r : unquiesce(env, vm, err);
}

const struct net_provider net_provider_cni = {
        .name = NAME,
        .offers = BUILTIN_NAME,
        .caps = NET_CAP_NETNS | NET_CAP_PUBLISH,
        .prepare = prepare,
        .add = add,
        .remove = remove_nics,
        .delete = delete_vm,
        .verify = verify,
        .recover = recover,
        .quiesce = quiesce,
        .unquiesce = unquiesce,
};
