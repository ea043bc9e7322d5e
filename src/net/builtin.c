/* The host's side of the built-in network. See builtin.h. */
#include "net/builtin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "base/timeutil.h"
#include "net/nft.h"
#include "net/wire.h"

#define LOCK_DIR     "/run/lock"
#define LOCK_PATH    LOCK_DIR "/cocoon-net.lock"
#define LOCK_WAIT_NS (30 * CC_NSEC_PER_SEC)
#define ALIAS        "cocoon "

/* 10.88 to 10.127: the first that no route of this host uses. */
#define FIRST_SUBNET 88
#define LAST_SUBNET  127

void builtin_format(uint32_t ip, char ret[16])
{
        (void)snprintf(ret, 16, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

bool builtin_parse(const char *s, uint32_t *ret)
{
        struct in_addr in;

        if (!s || inet_pton(AF_INET, s, &in) != 1)
                return false;
        *ret = ntohl(in.s_addr);
        return true;
}

int builtin_lock(int *ret, struct cc_err *err)
{
        int r = cc_mkdir_p(LOCK_DIR, 0755, err);

        if (r < 0)
                return r;
        return cc_lock(LOCK_PATH, CC_LOCK_EXCLUSIVE, "net.builtin", cc_monotonic() + LOCK_WAIT_NS,
                       ret, err);
}

static int pick_subnet(struct nl_sock *sk, uint32_t *ret, struct cc_err *err)
{
        for (uint32_t i = FIRST_SUBNET; i <= LAST_SUBNET; i++) {
                uint32_t net = 10u << 24 | i << 16;
                bool used = false;
                int r = link_subnet_used(sk, htonl(net), &used, err);

                if (r < 0)
                        return r;
                if (!used) {
                        *ret = net;
                        return 0;
                }
        }
        (void)cc_fail(err, CC_UNAVAILABLE,
                      "no free subnet for the built-in network: routes of "
                      "this host use all of 10.%d/16 to 10.%d/16",
                      FIRST_SUBNET, LAST_SUBNET);
        cc_hint(err, "use --bridge or --network user");
        return -CC_UNAVAILABLE;
}

static int make_bridge(struct nl_sock *sk, struct net_link *ret, struct cc_err *err)
{
        char mac[18];
        int r;

        cc_mac_new(mac);
        r = link_add_bridge(sk, BUILTIN_BRIDGE, mac, err);
        return r < 0 ? r : link_get(sk, BUILTIN_BRIDGE, ret, err);
}

/* The address of a bridge that may be half made by a process that died. */
static int give_address(struct nl_sock *sk, const struct net_link *bridge, struct builtin_net *net,
                        struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        unsigned prefix;
        uint32_t ip;
        int r = link_address(sk, bridge->index, &ip, &prefix, &why);

        if (r == 0 && prefix != BUILTIN_PREFIX)
                return cc_fail(err, CC_CONFLICT,
                               "%s has an address with prefix /%u, the built-in network needs /%d",
                               BUILTIN_BRIDGE, prefix, BUILTIN_PREFIX);
        if (r == 0) {
                net->gateway = ntohl(ip);
                net->subnet = net->gateway & 0xffff0000;
                return 0;
        }
        if (r != -CC_NOT_FOUND)
                return cc_err_copy(err, &why);
        r = pick_subnet(sk, &net->subnet, err);
        if (r < 0)
                return r;
        net->gateway = net->subnet + 1;
        return link_add_address(sk, bridge->index, htonl(net->gateway), BUILTIN_PREFIX, err);
}

/* A sysctl of this network namespace to "1". *ret_changed may be NULL. */
static int turn_on(const char *path, bool *ret_changed, struct cc_err *err)
{
        CC_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
        char now;

        if (fd < 0 || pread(fd, &now, 1, 0) != 1)
                return cc_fail_errno(err, errno, "open %s", path);
        if (now != '0')
                return 0;
        if (pwrite(fd, "1", 1, 0) != 1)
                return cc_fail_errno(err, errno, "write %s", path);
        if (ret_changed)
                *ret_changed = true;
        return 0;
}

static int forward(struct cc_err *err)
{
        bool changed = false;
        int r = turn_on("/proc/sys/net/ipv4/ip_forward", &changed, err);

        if (r == 0)
                r = turn_on("/proc/sys/net/ipv4/conf/" BUILTIN_BRIDGE "/route_localnet", NULL, err);
        if (changed)
                cc_info("net", "turned on net.ipv4.ip_forward for the built-in network");
        return r;
}

struct ports {
        struct builtin_net *net;
        size_t n;
};

static void mark_port(void *ctx, const struct net_link *link)
{
        struct ports *p = ctx;
        uint32_t ip;

        if (link->master != p->net->bridge)
                return;
        p->n++;
        if (cc_startswith(link->alias, ALIAS) && builtin_parse(link->alias + strlen(ALIAS), &ip) &&
            (ip & 0xffff0000) == p->net->subnet)
                p->net->used[(ip & 0xffff) / 8] |= (uint8_t)(1u << ip % 8);
}

int builtin_up(struct nl_sock *sk, struct builtin_net *ret, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        struct ports ports = { .net = ret };
        struct net_link bridge = { 0 };
        char subnet[24];
        char ip[16];
        int r = link_get(sk, BUILTIN_BRIDGE, &bridge, &why);
        bool fresh = r == -CC_NOT_FOUND;

        memset(ret, 0, sizeof(*ret));
        if (fresh)
                r = make_bridge(sk, &bridge, err);
        else if (r < 0)
                r = cc_err_copy(err, &why);
        if (r < 0)
                return r;
        if (!cc_streq(bridge.kind, "bridge"))
                return cc_fail(err, CC_CONFLICT, "%s is not a bridge (type: %s)", BUILTIN_BRIDGE,
                               bridge.kind);
        ret->bridge = bridge.index;
        ret->mtu = bridge.mtu;
        r = give_address(sk, &bridge, ret, err);
        if (r == 0 && !(bridge.flags & IFF_UP))
                r = link_change(sk, &bridge, &(struct link_change){ .up = true }, err);
        if (r < 0)
                return r;
        builtin_format(ret->subnet, ip);
        (void)snprintf(subnet, sizeof(subnet), "%s/%d", ip, BUILTIN_PREFIX);
        r = nft_ensure(BUILTIN_BRIDGE, subnet, fresh, err);
        if (r == 0)
                r = forward(err);
        if (r == 0)
                r = link_each(sk, mark_port, &ports, err);
        return r;
}

int builtin_down_if_unused(struct nl_sock *sk, struct cc_err *err)
{
        struct builtin_net net = { 0 };
        struct ports ports = { .net = &net };
        struct cc_err why = CC_ERR_INIT;
        struct net_link bridge = { 0 };
        int r = link_get(sk, BUILTIN_BRIDGE, &bridge, &why);

        if (r == -CC_NOT_FOUND)
                return 0;
        if (r < 0)
                return cc_err_copy(err, &why);
        net.bridge = bridge.index;
        r = link_each(sk, mark_port, &ports, err);
        if (r < 0 || ports.n > 0)
                return r;
        r = nft_remove(err);
        return r < 0 ? r : link_delete(sk, BUILTIN_BRIDGE, err);
}

/* cc<id8>-<index>, the end of the pair that is a port of the bridge. */
static void port_name(const char *vm_id, size_t index, char ret[16])
{
        (void)snprintf(ret, 16, "cc%.*s-%u", CC_ID8_LEN, vm_id, (unsigned)index % 10000);
}

int builtin_attach(struct nl_sock *sk, const struct builtin_net *net, const char *vm_id,
                   size_t index, int netns, const char *mac, uint32_t ip, struct cc_err *err)
{
        char name[16];
        char eth[16];
        char text[16];
        char alias[32];
        struct link_veth v = {
                .name = name,
                .alias = alias,
                .peer = eth,
                .mac = mac,
                .master = net->bridge,
                .netns = netns,
                .mtu = net->mtu,
        };

        port_name(vm_id, index, name);
        wire_eth_name(index, eth);
        builtin_format(ip, text);
        (void)snprintf(alias, sizeof(alias), ALIAS "%s", text);
        return link_add_veth(sk, &v, err);
}

int builtin_detach(struct nl_sock *sk, const char *vm_id, size_t index, struct cc_err *err)
{
        char name[16];

        port_name(vm_id, index, name);
        return link_delete(sk, name, err);
}

struct mine {
        char prefix[16];
        struct cc_strv *names;
};

static void collect_mine(void *ctx, const struct net_link *link)
{
        struct mine *m = ctx;

        if (cc_streq(link->kind, "veth") && cc_startswith(link->name, m->prefix))
                cc_strv_add(m->names, link->name);
}

int builtin_ports(struct nl_sock *sk, const char *vm_id, struct cc_strv *ret, struct cc_err *err)
{
        struct mine m = { .names = ret };

        (void)snprintf(m.prefix, sizeof(m.prefix), "cc%.*s-", CC_ID8_LEN, vm_id);
        return link_each(sk, collect_mine, &m, err);
}

int builtin_detach_all(struct nl_sock *sk, const char *vm_id, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        int r = builtin_ports(sk, vm_id, &names, err);

        for (size_t i = 0; i < names.len && r == 0; i++)
                r = link_delete(sk, names.v[i], err);
        return r;
}

int builtin_attached(struct nl_sock *sk, const char *vm_id, bool *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        int r = builtin_ports(sk, vm_id, &names, err);

        if (r == 0)
                *ret = names.len > 0;
        return r;
}

static void collect_owner(void *ctx, const struct net_link *link)
{
        char id8[CC_ID8_LEN + 1];

        if (!cc_streq(link->kind, "veth") || !cc_startswith(link->name, "cc") ||
            !wire_owner(link->name + 2, id8))
                return;
        cc_strv_add(ctx, id8);
}

int builtin_owners(struct nl_sock *sk, struct cc_strv *ret, struct cc_err *err)
{
        return link_each(sk, collect_owner, ret, err);
}

int builtin_verify(struct nl_sock *sk, const char *vm_id, size_t n, struct cc_err *err)
{
        struct net_link bridge = { 0 };
        int r = n > 0 ? link_get(sk, BUILTIN_BRIDGE, &bridge, err) : 0;

        for (size_t i = 0; i < n && r == 0; i++) {
                struct net_link port = { 0 };
                char name[16];

                port_name(vm_id, i, name);
                r = link_get(sk, name, &port, err);
                if (r == 0 && port.master != bridge.index)
                        r = cc_fail(err, CC_NOT_FOUND, "%s is not a port of %s", name,
                                    BUILTIN_BRIDGE);
        }
        return r;
}
