/* Address leases. See lease.h. */
#include "net/lease.h"

#include <string.h>

#include "base/alloc.h"
#include "net/wire.h"

struct scan {
        const char *vm_id, *if_name;
        struct builtin_net *net;
        uint32_t mine; /* the NIC's own lease, 0 none */
        uint32_t want;
        bool taken; /* `want` is another NIC's */
};

static int on_row(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        struct scan *s = ctx;
        bool own = cc_streq(row->vm_id, s->vm_id) && cc_streq(row->if_name, s->if_name);
        uint32_t ip;

        if (!cc_streq(row->type, BUILTIN_NAME) || !row->network ||
            !builtin_parse(row->network->ip, &ip))
                return 0;
        if (own)
                s->mine = ip;
        else if (ip == s->want)
                s->taken = true;
        if ((ip & 0xffff0000) == s->net->subnet)
                s->net->used[(ip & 0xffff) / 8] |= (uint8_t)(1u << ip % 8);
        return 0;
}

/* Start where the VM's ID points: addresses are not reused at once, so no neighbour's ARP cache
 * remembers the last owner. */
static int pick(const struct builtin_net *net, const char *vm_id, size_t index, uint32_t *ret,
                struct cc_err *err)
{
        uint32_t hash = 2166136261u;

        for (const char *p = vm_id; *p; p++)
                hash = (hash ^ (uint8_t)*p) * 16777619u;
        hash += (uint32_t)index;
        for (uint32_t i = 0; i < 0x10000; i++) {
                uint32_t host = (hash + i) & 0xffff;
                uint32_t ip = net->subnet | host;

                if (host == 0 || host == 0xffff || ip == net->gateway ||
                    net->used[host / 8] & 1u << host % 8)
                        continue;
                *ret = ip;
                return 0;
        }
        return cc_fail(err, CC_NO_SPACE, "no free address in the built-in network");
}

static int put(struct meta *m, const struct builtin_net *net, const char *vm_id,
               const char *if_name, uint32_t ip, struct cc_err *err)
{
        char text[16];
        char gateway[16];
        CC_FREE char *id = NULL;
        struct nic_network network = { .ip = text, .gateway = gateway, .prefix = BUILTIN_PREFIX };
        struct meta_network row = {
                .type = (char *)(uintptr_t)BUILTIN_NAME,
                .vm_id = (char *)(uintptr_t)vm_id,
                .if_name = (char *)(uintptr_t)if_name,
                .network = &network,
        };

        builtin_format(ip, text);
        builtin_format(net->gateway, gateway);
        id = xasprintf("%s-%s", BUILTIN_NAME, text);
        row.id = id;
        return meta_network_put(m, &row, err);
}

/* Inside a write transaction, which the whole store has one of at a time. */
static int take(struct meta *m, const struct builtin_net *net, const char *vm_id,
                const char *if_name, size_t index, uint32_t want, uint32_t *ret, struct cc_err *err)
{
        struct builtin_net *seen = xmemdup(net, sizeof(*net));
        struct scan s = { .vm_id = vm_id, .if_name = if_name, .net = seen, .want = want };
        uint32_t ip = want;
        int r = meta_network_each(m, NULL, on_row, &s, err);

        if (r == 0 && s.mine && (!want || s.mine == want)) {
                *ret = s.mine;
                free(seen);
                return 0;
        }
        if (r == 0 && s.mine)
                r = meta_network_delete(m, vm_id, if_name, err);
        if (r == 0 && want) {
                char text[16];

                builtin_format(want, text);
                if (s.taken || (want & 0xffff0000) != net->subnet || want == net->gateway ||
                    net->used[(want & 0xffff) / 8] & 1u << want % 8)
                        r = cc_fail(err, CC_CONFLICT,
                                    "requested IP %s is not available in the built-in network",
                                    text);
        } else if (r == 0) {
                r = pick(seen, vm_id, index, &ip, err);
        }
        if (r == 0)
                r = put(m, net, vm_id, if_name, ip, err);
        if (r == 0)
                *ret = ip;
        free(seen);
        return r;
}

static int end(struct meta *m, int r, struct cc_err *err)
{
        if (r == 0)
                return meta_commit(m, err);
        meta_rollback(m);
        return r;
}

int lease_take(struct meta *m, const struct builtin_net *net, const char *vm_id, size_t index,
               uint32_t want, uint32_t *ret_ip, struct cc_err *err)
{
        char if_name[16];
        int r = meta_begin(m, META_RELAXED, err);

        if (r < 0)
                return r;
        wire_eth_name(index, if_name);
        return end(m, take(m, net, vm_id, if_name, index, want, ret_ip, err), err);
}

int lease_drop(struct meta *m, const char *vm_id, size_t index, struct cc_err *err)
{
        char if_name[16];
        int r = meta_begin(m, META_RELAXED, err);

        if (r < 0)
                return r;
        wire_eth_name(index, if_name);
        return end(m, meta_network_delete(m, vm_id, if_name, err), err);
}

static int own_name(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        if (cc_streq(row->type, BUILTIN_NAME))
                cc_strv_add(ctx, row->if_name);
        return 0;
}

int lease_drop_all(struct meta *m, const char *vm_id, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        int r = meta_network_each(m, vm_id, own_name, &names, err);

        if (r < 0 || names.len == 0)
                return r;
        r = meta_begin(m, META_RELAXED, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < names.len && r == 0; i++)
                r = meta_network_delete(m, vm_id, names.v[i], err);
        return end(m, r, err);
}

static int on_own_row(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        if (cc_streq(row->type, BUILTIN_NAME) && row->network && row->network->ip)
                cc_strv_add(ctx, row->network->ip);
        return 0;
}

int lease_list(struct meta *m, const char *vm_id, struct cc_strv *ret, struct cc_err *err)
{
        return meta_network_each(m, vm_id, on_own_row, ret, err);
}
