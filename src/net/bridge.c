/*
 * The provider `bridge`: TAP devices bt<id8>-<i> in the host's namespace, ports of a bridge that is
 * there already (network.md §6). Guests get their addresses from whoever serves that bridge.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/id.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/providers.h"
#include "net/tap.h"
#include "net/tc.h"
#include "net/wire.h"

#define NAME "bridge"

static void tap_name(const char *vm_id, size_t index, char ret[16])
{
        (void)snprintf(ret, 16, "bt%.*s-%u", CC_ID8_LEN, vm_id, (unsigned)index % 10000);
}

static int find_bridge(struct nl_sock *sk, const char *name, struct net_link *ret,
                       struct cc_err *err)
{
        int r;

        if (cc_isempty(name))
                return cc_fail(err, CC_INVALID, "the record names no bridge device");
        r = link_get(sk, name, ret, err);
        if (r < 0)
                return cc_wrap(err, "--bridge");
        if (!cc_streq(ret->kind, "bridge"))
                return cc_fail(err, CC_INVALID, "%s is not a bridge (type: %s)", name,
                               *ret->kind ? ret->kind : "device");
        return 0;
}

static int prepare(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        struct net_link bridge = { 0 };
        int r = netns_open(NULL, false, &here, err);

        if (r == 0)
                r = find_bridge(here.sk, vm_net_bridge(vm), &bridge, err);
        if (r < 0)
                return r;
        cc_strset(&vm->net_backend, NAME);
        cc_strset(&vm->netns_path, NULL);
        return 0;
}

/* The port as it must be; also repairs one that lost its bridge. */
static int attach(struct nl_sock *sk, const char *tap, const struct net_link *bridge,
                  struct cc_err *err)
{
        struct link_change c = {
                .mtu = bridge->mtu,
                .txqlen = WIRE_TXQLEN,
                .master = bridge->index,
                .no_addrgen = true,
                .up = true,
        };
        struct net_link link = { 0 };
        int r = link_get(sk, tap, &link, err);

        if (r == 0 && !cc_streq(link.kind, "tun"))
                r = cc_fail(err, CC_CONFLICT, "%s is not a TAP device (type: %s)", tap, link.kind);
        if (r == 0)
                r = tc_noqueue(sk, link.index, err);
        return r < 0 ? r : link_change(sk, &link, &c, err);
}

static int make(const struct vm_record *vm, const struct net_spec *spec,
                const struct net_link *bridge, struct nic *nic, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        char name[16];
        char mac[18];
        int r;

        tap_name(vm->id, spec->index, name);
        if (spec->existing) {
                record_copy(&nic_type, nic, spec->existing);
        } else {
                cc_mac_new(mac);
                net_nic_init(nic, vm, spec, NAME);
                nic->mac = xstrdup(mac);
                nic->bridge_dev = xstrdup(bridge->name);
        }
        r = netns_open(NULL, true, &here, err);
        /* A leftover: the VM's lock is held and no VMM of it lives. */
        if (r == 0)
                r = link_delete(here.sk, name, err);
        if (r == 0)
                r = tap_create(here.tun, name, nic->num_queues / 2, err);
        if (r < 0)
                return r;
        r = attach(here.sk, name, bridge, err);
        if (r == 0)
                r = cc_failpoint("net.bridge", err);
        if (r < 0) {
                (void)link_delete(here.sk, name, NULL);
                return r;
        }
        cc_strset(&nic->tap, name);
        nic->mtu = bridge->mtu;
        return 0;
}

static int add(const struct net_env *env, struct vm_record *vm, const struct net_spec *specs,
               size_t n, struct record_array *ret, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        struct record_array nics = { 0 };
        struct cc_err why = CC_ERR_INIT;
        struct net_link bridge = { 0 };
        int r = netns_open(NULL, false, &here, err);

        if (r == 0)
                r = find_bridge(here.sk, vm_net_bridge(vm), &bridge, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r == 0; i++)
                r = make(vm, &specs[i], &bridge, record_array_add(&nic_type, &nics), &why);
        for (size_t i = 0; i < nics.len; i++) {
                struct nic *nic = (struct nic *)nics.v + i;
                struct cc_err undo = CC_ERR_INIT;

                if (r == 0)
                        record_copy(&nic_type, record_array_add(&nic_type, ret), nic);
                else if (i + 1 < nics.len && link_delete(here.sk, nic->tap, &undo) < 0)
                        cc_join(&why, &undo);
                record_clear(&nic_type, nic);
        }
        free(nics.v);
        return r < 0 ? cc_err_copy(err, &why) : 0;
}

static int remove_nics(const struct net_env *env, const struct vm_record *vm, const size_t *indices,
                       size_t n, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        struct cc_err all = CC_ERR_INIT;
        int r = netns_open(NULL, false, &here, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                struct cc_err one = CC_ERR_INIT;
                char name[16];

                tap_name(vm->id, indices[i], name);
                if (link_delete(here.sk, name, &one) < 0)
                        cc_join(&all, &one);
        }
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

struct mine {
        char prefix[16];
        struct cc_strv names;
};

static void collect_mine(void *ctx, const struct net_link *link)
{
        struct mine *m = ctx;
        size_t n = strlen(m->prefix);

        if (!cc_streq(link->kind, "tun") || !cc_startswith(link->name, m->prefix) ||
            !link->name[n] || link->name[n + strspn(link->name + n, "0123456789")])
                return;
        cc_strv_add(&m->names, link->name);
}

/* Every TAP of the VM whose index is at least `first`. */
static int delete_from(const struct vm_record *vm, size_t first, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        struct cc_err all = CC_ERR_INIT;
        struct mine m = { 0 };
        int r = netns_open(NULL, false, &here, err);

        (void)snprintf(m.prefix, sizeof(m.prefix), "bt%.*s-", CC_ID8_LEN, vm->id);
        if (r == 0)
                r = link_each(here.sk, collect_mine, &m, err);
        for (size_t i = 0; i < m.names.len; i++) {
                struct cc_err one = CC_ERR_INIT;
                size_t index;

                if (wire_index(m.names.v[i], &index) && index >= first &&
                    link_delete(here.sk, m.names.v[i], &one) < 0)
                        cc_join(&all, &one);
        }
        cc_strv_free(&m.names);
        return r < 0 || all.class == CC_OK ? r : cc_err_copy(err, &all);
}

/* By listing: a record may know fewer NICs than there are. */
static int delete_vm(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        return delete_from(vm, 0, err);
}

static int reclaim(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        return delete_from(vm, vm->network_configs.len, err);
}

static int verify(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        struct net_link bridge = { 0 };
        int r;

        if (vm->network_configs.len == 0)
                return 0;
        r = netns_open(NULL, false, &here, err);
        if (r == 0)
                r = find_bridge(here.sk, vm_net_bridge(vm), &bridge, err);
        for (size_t i = 0; i < vm->network_configs.len && r == 0; i++) {
                struct net_link link = { 0 };
                char name[16];

                tap_name(vm->id, i, name);
                r = link_get(here.sk, name, &link, err);
                if (r == 0 && link.master != bridge.index)
                        r = cc_fail(err, CC_NOT_FOUND, "%s is not a port of %s", name, bridge.name);
        }
        return r;
}

static int set_up(const struct vm_record *vm, bool up, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        int r = netns_open(NULL, false, &here, err);

        for (size_t i = 0; i < vm->network_configs.len && r == 0; i++) {
                char name[16];

                tap_name(vm->id, i, name);
                r = link_set_up(here.sk, name, up, err);
        }
        return r;
}

static int quiesce(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        return set_up(vm, false, err);
}

static int unquiesce(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        return set_up(vm, true, err);
}

static int recover(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        size_t n = vm->network_configs.len;
        CC_FREE struct net_spec *specs = xcalloc(n + 1, sizeof(*specs));
        struct record_array nics = { 0 };
        int r = vm_nics_check(vm, err);

        for (size_t i = 0; i < n; i++)
                specs[i] = (struct net_spec){ .index = i, .existing = vm_nic(vm, i) };
        if (r == 0)
                r = add(env, vm, specs, n, &nics, err);
        for (size_t i = 0; i < nics.len; i++)
                record_clear(&nic_type, (struct nic *)nics.v + i);
        free(nics.v);
        return r;
}

/* One with a carrier is held by a VMM, whoever started that. */
static void collect_owner(void *ctx, const struct net_link *link)
{
        char id8[CC_ID8_LEN + 1];

        if (cc_streq(link->kind, "tun") && !(link->flags & LINK_CARRIER) &&
            cc_startswith(link->name, "bt") && wire_owner(link->name + 2, id8) &&
            !cc_strv_has(ctx, id8))
                cc_strv_add(ctx, id8);
}

static int orphans(const struct net_env *env, struct cc_strv *ret, struct cc_err *err)
{
        NETNS_FDS struct netns_fds here = NETNS_FDS_INIT;
        int r = netns_open(NULL, false, &here, err);

        return r < 0 ? r : link_each(here.sk, collect_owner, ret, err);
}

const struct net_provider net_provider_bridge = {
        .name = NAME,
        .caps = NET_CAP_BRIDGE,
        .prepare = prepare,
        .add = add,
        .remove = remove_nics,
        .delete = delete_vm,
        .verify = verify,
        .recover = recover,
        .quiesce = quiesce,
        .unquiesce = unquiesce,
        .reclaim = reclaim,
        .orphans = orphans,
};
