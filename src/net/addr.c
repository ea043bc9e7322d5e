/* Addresses and routes, the other half of link.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "net/link.h"

static struct nl_msg *address_message(int type, int flags, const struct ifaddrmsg *m,
                                      const void *ip, size_t n, bool address)
{
        struct nl_msg *msg = nlmsg_alloc_simple(type, flags);

        if (!msg || nlmsg_append(msg, (void *)(uintptr_t)m, sizeof(*m), NLMSG_ALIGNTO) < 0 ||
            nla_put(msg, IFA_LOCAL, (int)n, ip) < 0 ||
            (address && nla_put(msg, IFA_ADDRESS, (int)n, ip) < 0))
                abort();
        return msg;
}

int link_add_address(struct nl_sock *sk, int index, uint32_t ip, unsigned prefix,
                     struct cc_err *err)
{
        struct ifaddrmsg m = {
                .ifa_family = AF_INET,
                .ifa_prefixlen = (uint8_t)prefix,
                .ifa_index = (unsigned)index,
        };
        uint32_t all = prefix < 32 ? htonl(UINT32_MAX >> prefix) : 0;
        uint32_t broadcast = ip | all;
        struct cc_err why = CC_ERR_INIT;
        struct nl_msg *msg =
                address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &m, &ip, sizeof(ip), true);

        if (nla_put(msg, IFA_BROADCAST, sizeof(broadcast), &broadcast) < 0)
                abort();
        if (rtnl_talk(sk, msg, "add address", &why) < 0 && why.sys != EEXIST)
                return cc_err_copy(err, &why);
        return 0;
}

int link_add_address6(struct nl_sock *sk, int index, const uint8_t ip[16], unsigned prefix,
                      struct cc_err *err)
{
        struct ifaddrmsg m = {
                .ifa_family = AF_INET6,
                .ifa_prefixlen = (uint8_t)prefix,
                .ifa_flags = IFA_F_NODAD,
                .ifa_index = (unsigned)index,
        };
        struct cc_err why = CC_ERR_INIT;
        struct nl_msg *msg =
                address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &m, ip, 16, true);

        if (rtnl_talk(sk, msg, "add address", &why) < 0 && why.sys != EEXIST &&
            why.sys != EAFNOSUPPORT && why.sys != EOPNOTSUPP && why.sys != EACCES)
                return cc_err_copy(err, &why);
        return 0;
}

struct address {
        int index;
        unsigned prefix;
        uint32_t ip;
        bool any;
};

static void on_address(void *ctx, struct nlmsghdr *h)
{
        struct address *a = ctx;
        struct nlattr *tb[IFA_MAX + 1];
        const struct ifaddrmsg *m = nlmsg_data(h);

        if (a->any || h->nlmsg_type != RTM_NEWADDR ||
            nlmsg_parse(h, sizeof(*m), tb, IFA_MAX, NULL) < 0 || (int)m->ifa_index != a->index ||
            m->ifa_family != AF_INET || !tb[IFA_LOCAL] || nla_len(tb[IFA_LOCAL]) != 4)
                return;
        a->ip = nla_get_u32(tb[IFA_LOCAL]);
        a->prefix = m->ifa_prefixlen;
        a->any = true;
}

int link_address(struct nl_sock *sk, int index, uint32_t *ret_ip, unsigned *ret_prefix,
                 struct cc_err *err)
{
        struct ifaddrmsg m = { .ifa_family = AF_INET };
        struct address a = { .index = index };
        int r = rtnl_dump(sk, RTM_GETADDR, &m, sizeof(m), on_address, &a, err);

        if (r < 0)
                return r;
        if (!a.any)
                return cc_fail(err, CC_NOT_FOUND, "network device has no IPv4 address");
        *ret_ip = a.ip;
        *ret_prefix = a.prefix;
        return 0;
}

struct link_local {
        int index;
        struct in6_addr v[4];
        size_t n;
};

static void on_link_local(void *ctx, struct nlmsghdr *h)
{
        struct link_local *l = ctx;
        struct nlattr *tb[IFA_MAX + 1];
        const struct ifaddrmsg *m = nlmsg_data(h);

        if (l->n == CC_ARRAY_LEN(l->v) || h->nlmsg_type != RTM_NEWADDR ||
            nlmsg_parse(h, sizeof(*m), tb, IFA_MAX, NULL) < 0 || (int)m->ifa_index != l->index ||
            m->ifa_family != AF_INET6 || m->ifa_scope != RT_SCOPE_LINK || !tb[IFA_ADDRESS] ||
            nla_len(tb[IFA_ADDRESS]) != sizeof(l->v[0]))
                return;
        memcpy(&l->v[l->n++], nla_data(tb[IFA_ADDRESS]), sizeof(l->v[0]));
}

int link_drop_link_local(struct nl_sock *sk, int index, struct cc_err *err)
{
        struct ifaddrmsg m = { .ifa_family = AF_INET6 };
        struct link_local l = { .index = index };
        int r = rtnl_dump(sk, RTM_GETADDR, &m, sizeof(m), on_link_local, &l, err);

        for (size_t i = 0; i < l.n && r == 0; i++) {
                struct cc_err why = CC_ERR_INIT;
                struct ifaddrmsg d = {
                        .ifa_family = AF_INET6,
                        .ifa_prefixlen = 64,
                        .ifa_index = (unsigned)index,
                };

                if (rtnl_talk(sk,
                              address_message(RTM_DELADDR, 0, &d, &l.v[i], sizeof(l.v[i]), false),
                              "remove link-local address", &why) < 0 &&
                    why.sys != EADDRNOTAVAIL)
                        r = cc_err_copy(err, &why);
        }
        return r;
}

struct subnet {
        uint32_t net; /* host byte order */
        bool used;
};

static void on_route(void *ctx, struct nlmsghdr *h)
{
        struct subnet *s = ctx;
        struct nlattr *tb[RTA_MAX + 1];
        const struct rtmsg *m = nlmsg_data(h);

        if (h->nlmsg_type != RTM_NEWROUTE || nlmsg_parse(h, sizeof(*m), tb, RTA_MAX, NULL) < 0 ||
            m->rtm_family != AF_INET || m->rtm_dst_len < 16 || !tb[RTA_DST] ||
            nla_len(tb[RTA_DST]) != 4)
                return;
        if ((ntohl(nla_get_u32(tb[RTA_DST])) & 0xffff0000) == s->net)
                s->used = true;
}

int link_subnet_used(struct nl_sock *sk, uint32_t net, bool *ret, struct cc_err *err)
{
        struct rtmsg m = { .rtm_family = AF_INET };
        struct subnet s = { .net = ntohl(net) };
        int r = rtnl_dump(sk, RTM_GETROUTE, &m, sizeof(m), on_route, &s, err);

        if (r == 0)
                *ret = s.used;
        return r;
}
