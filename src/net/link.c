/* Network devices by rtnetlink. See link.h. */
#include "net/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"

/* linux/if.h and net/if.h do not mix. */
#define ADDR_GEN_NONE 1

static int hex_digit(char c)
{
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                      : -1;
}

bool link_parse_mac(const char *s, uint8_t ret[6])
{
        if (!s || strlen(s) != 17)
                return false;
        for (size_t i = 0; i < 6; i++) {
                int high = hex_digit(s[3 * i]);
                int low = hex_digit(s[3 * i + 1]);

                if (high < 0 || low < 0 || (i < 5 && s[3 * i + 2] != ':'))
                        return false;
                ret[i] = (uint8_t)(high << 4 | low);
        }
        return true;
}

/* A link message of the type; allocation failure aborts like everywhere. */
static struct nl_msg *message(int type, int flags, const void *hdr, size_t n)
{
        struct nl_msg *msg = nlmsg_alloc_simple(type, flags);

        if (!msg || nlmsg_append(msg, (void *)(uintptr_t)hdr, n, NLMSG_ALIGNTO) < 0)
                abort();
        return msg;
}

static struct nlattr *nest(struct nl_msg *msg, int type)
{
        struct nlattr *a = nla_nest_start(msg, type);

        if (!a)
                abort();
        return a;
}

/* All our messages fit the default buffer by a wide margin: no room is a bug. */
static void put(struct nl_msg *msg, int type, const void *data, size_t n)
{
        if (nla_put(msg, type, (int)n, data) < 0)
                abort();
}

static void put_str(struct nl_msg *msg, int type, const char *s)
{
        put(msg, type, s, strlen(s) + 1);
}

static void put_u32(struct nl_msg *msg, int type, uint32_t v)
{
        put(msg, type, &v, sizeof(v));
}

/* Kind, and what only that kind has. */
static void decode_info(struct nlattr *linkinfo, struct net_link *ret)
{
        struct nlattr *info[IFLA_INFO_MAX + 1];
        struct nlattr *tun[IFLA_TUN_MAX + 1];

        if (nla_parse_nested(info, IFLA_INFO_MAX, linkinfo, NULL) < 0 || !info[IFLA_INFO_KIND])
                return;
        nla_strlcpy(ret->kind, info[IFLA_INFO_KIND], sizeof(ret->kind));
        if (!cc_streq(ret->kind, "tun") || !info[IFLA_INFO_DATA] ||
            nla_parse_nested(tun, IFLA_TUN_MAX, info[IFLA_INFO_DATA], NULL) < 0)
                return;
        if (!tun[IFLA_TUN_MULTI_QUEUE] || !nla_get_u8(tun[IFLA_TUN_MULTI_QUEUE]))
                ret->queues = 1; /* the kernel counts only where there may be several */
        else if (tun[IFLA_TUN_NUM_QUEUES])
                ret->queues = nla_get_u32(tun[IFLA_TUN_NUM_QUEUES]);
}

static bool decode(struct nlmsghdr *h, struct net_link *ret)
{
        struct nlattr *tb[IFLA_MAX + 1];
        const struct ifinfomsg *m;

        if (h->nlmsg_type != RTM_NEWLINK || nlmsg_parse(h, sizeof(*m), tb, IFLA_MAX, NULL) < 0 ||
            !tb[IFLA_IFNAME])
                return false;
        m = nlmsg_data(h);
        *ret = (struct net_link){ .index = m->ifi_index, .flags = m->ifi_flags };
        nla_strlcpy(ret->name, tb[IFLA_IFNAME], sizeof(ret->name));
        if (tb[IFLA_MASTER])
                ret->master = (int)nla_get_u32(tb[IFLA_MASTER]);
        if (tb[IFLA_MTU])
                ret->mtu = nla_get_u32(tb[IFLA_MTU]);
        if (tb[IFLA_IFALIAS])
                nla_strlcpy(ret->alias, tb[IFLA_IFALIAS], sizeof(ret->alias));
        if (tb[IFLA_ADDRESS] && nla_len(tb[IFLA_ADDRESS]) == 6) {
                const uint8_t *b = nla_data(tb[IFLA_ADDRESS]);

                (void)snprintf(ret->mac, sizeof(ret->mac), "%02x:%02x:%02x:%02x:%02x:%02x", b[0],
                               b[1], b[2], b[3], b[4], b[5]);
        }
        if (tb[IFLA_LINKINFO])
                decode_info(tb[IFLA_LINKINFO], ret);
        return true;
}

struct each {
        link_fn fn;
        void *ctx;
};

static void on_link(void *ctx, struct nlmsghdr *h)
{
        struct each *e = ctx;
        struct net_link link = { 0 };

        if (decode(h, &link))
                e->fn(e->ctx, &link);
}

int link_each(struct nl_sock *sk, link_fn fn, void *ctx, struct cc_err *err)
{
        struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
        struct each e = { .fn = fn, .ctx = ctx };

        return rtnl_dump(sk, RTM_GETLINK, &m, sizeof(m), on_link, &e, err);
}

struct found {
        struct net_link link;
        bool any;
};

static int take_link(struct nl_msg *msg, void *arg)
{
        struct found *f = arg;

        f->any = decode(nlmsg_hdr(msg), &f->link);
        return NL_OK;
}

static int no_link(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
        (void)from;
        *(int *)arg = -e->error;
        return NL_STOP;
}

int link_get(struct nl_sock *sk, const char *name, struct net_link *ret, struct cc_err *err)
{
        struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
        struct found f = { 0 };
        struct nl_msg *msg;
        struct nl_cb *cb;
        int error = 0;
        int r;

        if (strlen(name) >= IFNAMSIZ)
                return cc_fail(err, CC_NOT_FOUND, "network device %s does not exist", name);
        msg = message(RTM_GETLINK, NLM_F_REQUEST, &m, sizeof(m));
        put_str(msg, IFLA_IFNAME, name);
        r = nl_send_auto(sk, msg);
        nlmsg_free(msg);
        if (r < 0)
                return cc_fail(err, CC_IO, "look up %s: %s", name, nl_geterror(r));
        cb = nl_cb_alloc(NL_CB_DEFAULT);
        if (!cb)
                abort();
        nl_cb_err(cb, NL_CB_CUSTOM, no_link, &error);
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, take_link, &f);
        r = nl_recvmsgs(sk, cb);
        nl_cb_put(cb);
        if (error == ENODEV)
                return cc_fail(err, CC_NOT_FOUND, "network device %s does not exist", name);
        if (error)
                return cc_fail_errno(err, error, "look up network device %s", name);
        if (r < 0 || !f.any)
                return cc_fail(err, CC_IO, "look up network device %s: %s", name, nl_geterror(r));
        *ret = f.link;
        return 0;
}

static void put_no_addrgen(struct nl_msg *msg)
{
        struct nlattr *spec = nest(msg, IFLA_AF_SPEC);
        struct nlattr *inet6 = nest(msg, AF_INET6);
        uint8_t none = ADDR_GEN_NONE;

        put(msg, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
        nla_nest_end(msg, inet6);
        nla_nest_end(msg, spec);
}

/* Before the device goes up, and not in the same message: the kernel would raise it first. */
static int stop_addrgen(struct nl_sock *sk, const struct net_link *link, const char *what,
                        struct cc_err *err)
{
        struct ifinfomsg m = { .ifi_family = AF_UNSPEC, .ifi_index = link->index };
        struct nl_msg *msg = message(RTM_NEWLINK, 0, &m, sizeof(m));
        struct cc_err why = CC_ERR_INIT;

        put_no_addrgen(msg);
        if (rtnl_talk(sk, msg, what, &why) < 0 && why.sys != EAFNOSUPPORT)
                return cc_err_copy(err, &why);
        return 0;
}

int link_change(struct nl_sock *sk, const struct net_link *link, const struct link_change *c,
                struct cc_err *err)
{
        CC_FREE char *what = xasprintf("configure network device %s", link->name);
        struct ifinfomsg m = { .ifi_family = AF_UNSPEC, .ifi_index = link->index };
        struct nl_msg *msg;
        uint8_t mac[6];
        int r = 0;

        if (c->mac && !link_parse_mac(c->mac, mac))
                return cc_fail(err, CC_INVALID, "%s: \"%s\" is not a MAC address", what, c->mac);
        if (c->no_addrgen)
                r = stop_addrgen(sk, link, what, err);
        if (r < 0)
                return r;
        if (c->up || c->down) {
                m.ifi_flags = c->up ? IFF_UP : 0;
                m.ifi_change = IFF_UP;
        }
        msg = message(RTM_NEWLINK, 0, &m, sizeof(m));
        if (c->mac)
                put(msg, IFLA_ADDRESS, mac, sizeof(mac));
        if (c->alias)
                put_str(msg, IFLA_IFALIAS, c->alias);
        if (c->mtu)
                put_u32(msg, IFLA_MTU, c->mtu);
        if (c->txqlen)
                put_u32(msg, IFLA_TXQLEN, c->txqlen);
        if (c->master)
                put_u32(msg, IFLA_MASTER, (uint32_t)c->master);
        return rtnl_talk(sk, msg, what, err);
}

int link_set_up(struct nl_sock *sk, const char *name, bool up, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        struct net_link link = { 0 };
        int r = link_get(sk, name, &link, &why);

        if (r == -CC_NOT_FOUND)
                return 0;
        if (r < 0)
                return cc_err_copy(err, &why);
        return link_change(sk, &link, &(struct link_change){ .up = up, .down = !up }, err);
}

int link_delete(struct nl_sock *sk, const char *name, struct cc_err *err)
{
        struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
        CC_FREE char *what = xasprintf("delete network device %s", name);
        struct cc_err why = CC_ERR_INIT;
        struct nl_msg *msg = message(RTM_DELLINK, 0, &m, sizeof(m));

        put_str(msg, IFLA_IFNAME, name);
        if (rtnl_talk(sk, msg, what, &why) == 0 || why.sys == ENODEV)
                return 0;
        return cc_err_copy(err, &why);
}

int link_add_bridge(struct nl_sock *sk, const char *name, const char *mac, struct cc_err *err)
{
        struct ifinfomsg m = { .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
        CC_FREE char *what = xasprintf("create bridge %s", name);
        struct nl_msg *msg;
        struct nlattr *info;
        uint8_t bytes[6];

        if (!link_parse_mac(mac, bytes))
                return cc_fail(err, CC_INVALID, "%s: \"%s\" is not a MAC address", what, mac);
        msg = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
        put_str(msg, IFLA_IFNAME, name);
        put(msg, IFLA_ADDRESS, bytes, sizeof(bytes));
        info = nest(msg, IFLA_LINKINFO);
        put_str(msg, IFLA_INFO_KIND, "bridge");
        nla_nest_end(msg, info);
        return rtnl_talk(sk, msg, what, err);
}

static struct nl_msg *veth_msg(const struct link_veth *v, const uint8_t *mac)
{
        struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
        struct nl_msg *msg = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
        struct nlattr *info;
        struct nlattr *data;
        struct nlattr *peer;

        put_str(msg, IFLA_IFNAME, v->name);
        put_u32(msg, IFLA_MTU, v->mtu);
        info = nest(msg, IFLA_LINKINFO);
        put_str(msg, IFLA_INFO_KIND, "veth");
        data = nest(msg, IFLA_INFO_DATA);
        peer = nest(msg, VETH_INFO_PEER);
        if (nlmsg_append(msg, &m, sizeof(m), NLMSG_ALIGNTO) < 0)
                abort();
        put_str(msg, IFLA_IFNAME, v->peer);
        put(msg, IFLA_ADDRESS, mac, 6);
        put_u32(msg, IFLA_MTU, v->mtu);
        put_u32(msg, IFLA_NET_NS_FD, (uint32_t)v->netns);
        nla_nest_end(msg, peer);
        nla_nest_end(msg, data);
        nla_nest_end(msg, info);
        return msg;
}

int link_add_veth(struct nl_sock *sk, const struct link_veth *v, struct cc_err *err)
{
        CC_FREE char *what = xasprintf("create veth %s", v->name);
        struct link_change port = {
                .alias = v->alias,
                .master = v->master,
                .no_addrgen = true,
                .up = true,
        };
        struct cc_err why = CC_ERR_INIT;
        struct net_link link = { 0 };
        uint8_t mac[6];
        int r;

        if (!link_parse_mac(v->mac, mac))
                return cc_fail(err, CC_INVALID, "%s: \"%s\" is not a MAC address", what, v->mac);
        if (rtnl_talk(sk, veth_msg(v, mac), what, &why) < 0) {
                if (why.sys == EEXIST)
                        why.class = CC_CONFLICT;
                return cc_err_copy(err, &why);
        }
        r = link_get(sk, v->name, &link, err);
        if (r == 0)
                r = link_change(sk, &link, &port, err);
        if (r < 0)
                (void)link_delete(sk, v->name, NULL);
        return r;
}
