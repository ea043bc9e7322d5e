/* Traffic control with libnl-route. See tc.h. */
#include "net/tc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/attr.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/u32.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/tc.h>
#include <stdlib.h>

/* ffff:0; the library's own macro shifts a signed number too far. */
#define INGRESS_HANDLE 0xffff0000U

static void must(int r)
{
        if (r < 0)
                abort(); /* only for want of memory */
}

static struct nl_msg *qdisc_msg(int index, uint32_t parent, uint32_t handle, const char *kind,
                                int flags)
{
        struct rtnl_qdisc *q = rtnl_qdisc_alloc();
        struct nl_msg *msg = NULL;

        if (!q)
                abort();
        rtnl_tc_set_ifindex(TC_CAST(q), index);
        rtnl_tc_set_parent(TC_CAST(q), parent);
        rtnl_tc_set_handle(TC_CAST(q), handle);
        must(rtnl_tc_set_kind(TC_CAST(q), kind));
        must(rtnl_qdisc_build_add_request(q, flags, &msg));
        rtnl_qdisc_put(q);
        return msg;
}

struct nl_msg *tc_noqueue_msg(int index)
{
        return qdisc_msg(index, TC_H_ROOT, 0, "noqueue", NLM_F_CREATE | NLM_F_REPLACE);
}

struct nl_msg *tc_ingress_msg(int index)
{
        struct nl_msg *msg = qdisc_msg(index, TC_H_INGRESS, INGRESS_HANDLE, "ingress",
                                       NLM_F_CREATE | NLM_F_EXCL);

        must(nla_put(msg, TCA_OPTIONS, 0, NULL));
        return msg;
}

struct nl_msg *tc_redirect_msg(int from, int to)
{
        struct rtnl_cls *cls = rtnl_cls_alloc();
        struct rtnl_act *act = rtnl_act_alloc();
        struct nl_msg *msg = NULL;

        if (!cls || !act)
                abort();
        rtnl_tc_set_ifindex(TC_CAST(cls), from);
        rtnl_tc_set_parent(TC_CAST(cls), INGRESS_HANDLE);
        must(rtnl_tc_set_kind(TC_CAST(cls), "u32"));
        rtnl_cls_set_prio(cls, 1);
        rtnl_cls_set_protocol(cls, ETH_P_ALL);
        must(rtnl_u32_add_key(cls, 0, 0, 0, 0));
        must(rtnl_u32_set_cls_terminal(cls));
        must(rtnl_tc_set_kind(TC_CAST(act), "mirred"));
        must(rtnl_mirred_set_action(act, TCA_EGRESS_REDIR));
        must(rtnl_mirred_set_ifindex(act, (uint32_t)to));
        must(rtnl_mirred_set_policy(act, TC_ACT_STOLEN));
        must(rtnl_u32_add_action(cls, act));
        must(rtnl_cls_build_add_request(cls, NLM_F_CREATE | NLM_F_EXCL, &msg));
        rtnl_act_put(act);
        rtnl_cls_put(cls);
        return msg;
}

int tc_noqueue(struct nl_sock *sk, int index, struct cc_err *err)
{
        return rtnl_talk(sk, tc_noqueue_msg(index), "set queueing of TAP device", err);
}

/* A second u32 filter would not fail but send every packet twice: start from no qdisc. */
static int reset_ingress(struct nl_sock *sk, int index, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        struct nl_msg *msg = qdisc_msg(index, TC_H_INGRESS, INGRESS_HANDLE, "ingress", 0);

        nlmsg_hdr(msg)->nlmsg_type = RTM_DELQDISC;
        if (rtnl_talk(sk, msg, "remove ingress qdisc", &why) < 0 && why.sys != EINVAL &&
            why.sys != ENOENT)
                return cc_err_copy(err, &why);
        return rtnl_talk(sk, tc_ingress_msg(index), "add ingress qdisc", err);
}

int tc_connect(struct nl_sock *sk, int a, int b, struct cc_err *err)
{
        int r = reset_ingress(sk, a, err);

        if (r == 0)
                r = reset_ingress(sk, b, err);
        if (r == 0)
                r = rtnl_talk(sk, tc_redirect_msg(a, b), "add traffic redirect", err);
        if (r == 0)
                r = rtnl_talk(sk, tc_redirect_msg(b, a), "add traffic redirect", err);
        return r;
}

struct redirects {
        int index, to;
        unsigned n;
};

/* The target of one action, 0 if it is no redirect. */
static int target_of(struct nlattr *action)
{
        struct nlattr *act[TCA_ACT_MAX + 1];
        struct nlattr *opt[TCA_MIRRED_MAX + 1];
        const struct tc_mirred *parms;

        if (nla_parse_nested(act, TCA_ACT_MAX, action, NULL) < 0 || !act[TCA_ACT_KIND] ||
            nla_strcmp(act[TCA_ACT_KIND], "mirred") != 0 || !act[TCA_ACT_OPTIONS] ||
            nla_parse_nested(opt, TCA_MIRRED_MAX, act[TCA_ACT_OPTIONS], NULL) < 0 ||
            !opt[TCA_MIRRED_PARMS] || nla_len(opt[TCA_MIRRED_PARMS]) < (int)sizeof(*parms))
                return 0;
        parms = nla_data(opt[TCA_MIRRED_PARMS]);
        return parms->eaction == TCA_EGRESS_REDIR ? (int)parms->ifindex : 0;
}

static void take_filter(void *ctx, struct nlmsghdr *h)
{
        struct redirects *r = ctx;
        struct nlattr *tb[TCA_MAX + 1];
        struct nlattr *u32[TCA_U32_MAX + 1];
        struct nlattr *action;
        const struct tcmsg *m;
        int left;

        if (h->nlmsg_type != RTM_NEWTFILTER || nlmsg_parse(h, sizeof(*m), tb, TCA_MAX, NULL) < 0)
                return;
        m = nlmsg_data(h);
        if (m->tcm_ifindex != r->index || !tb[TCA_KIND] || nla_strcmp(tb[TCA_KIND], "u32") != 0 ||
            !tb[TCA_OPTIONS] || nla_parse_nested(u32, TCA_U32_MAX, tb[TCA_OPTIONS], NULL) < 0 ||
            !u32[TCA_U32_ACT])
                return;
        nla_for_each_nested(action, u32[TCA_U32_ACT], left)
        {
                int to = target_of(action);

                if (to && r->n++ == 0)
                        r->to = to;
        }
}

int tc_redirected(struct nl_sock *sk, int index, int *ret_to, unsigned *ret_n, struct cc_err *err)
{
        struct redirects found = { .index = index };
        const struct tcmsg m = { .tcm_family = AF_UNSPEC,
                                 .tcm_ifindex = index,
                                 .tcm_parent = INGRESS_HANDLE };
        int r = rtnl_dump(sk, RTM_GETTFILTER, &m, sizeof(m), take_filter, &found, err);

        if (r < 0)
                return r;
        *ret_to = found.to;
        *ret_n = found.n;
        return 0;
}
