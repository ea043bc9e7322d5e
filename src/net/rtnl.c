/* The rtnetlink connection. See rtnl.h. */
#include "net/rtnl.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/str.h"

int rtnl_open(struct nl_sock **ret, struct cc_err *err)
{
        RTNL struct nl_sock *sk = nl_socket_alloc();
        int on = 1;
        int r;

        if (!sk)
                return cc_fail(err, CC_INTERNAL, "allocate netlink socket");
        r = nl_connect(sk, NETLINK_ROUTE);
        if (r < 0)
                return cc_fail(err, CC_IO, "open netlink socket: %s", nl_geterror(r));
        /* Without these the answers are only less helpful. */
        (void)setsockopt(nl_socket_get_fd(sk), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
        (void)setsockopt(nl_socket_get_fd(sk), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
        nl_socket_disable_auto_ack(sk);
        *ret = TAKE_PTR(sk);
        return 0;
}

struct answer {
        int error; /* errno */
        bool done;
        char text[160];
};

/* The kernel's explanation, which follows the (capped) request in an error message. */
static void take_text(struct answer *a, struct nlmsghdr *h, const struct nlmsgerr *e)
{
        struct nlattr *tb[NLMSGERR_ATTR_MAX + 1] = { 0 };
        size_t skip = sizeof(*e);
        size_t have = h->nlmsg_len - NLMSG_HDRLEN;

        if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
                return;
        if (!(h->nlmsg_flags & NLM_F_CAPPED))
                skip += NLMSG_ALIGN(e->msg.nlmsg_len) - sizeof(e->msg);
        if (skip >= have)
                return;
        if (nla_parse(tb, NLMSGERR_ATTR_MAX, (struct nlattr *)((char *)NLMSG_DATA(h) + skip),
                      (int)(have - skip), NULL) == 0 &&
            tb[NLMSGERR_ATTR_MSG])
                nla_strlcpy(a->text, tb[NLMSGERR_ATTR_MSG], sizeof(a->text));
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
        struct answer *a = arg;

        (void)from;
        a->error = -e->error;
        a->done = true;
        take_text(a, (struct nlmsghdr *)((char *)e - NLMSG_HDRLEN), e);
        return NL_STOP;
}

static int on_ack(struct nl_msg *msg, void *arg)
{
        struct answer *a = arg;

        (void)msg;
        a->done = true;
        return NL_STOP;
}

static int refused(const struct answer *a, const char *what, struct cc_err *err)
{
        int r = cc_fail_errno(err, a->error, "%s", what);

        if (a->text[0] && err) {
                size_t n = strlen(err->msg);

                (void)snprintf(err->msg + n, sizeof(err->msg) - n, " (%s)", a->text);
        }
        return r;
}

int rtnl_talk(struct nl_sock *sk, struct nl_msg *msg, const char *what, struct cc_err *err)
{
        struct answer a = { 0 };
        struct nl_cb *cb;
        int r;

        nlmsg_hdr(msg)->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
        r = nl_send_auto(sk, msg);
        nlmsg_free(msg);
        if (r < 0)
                return cc_fail(err, CC_IO, "%s: send: %s", what, nl_geterror(r));
        cb = nl_cb_alloc(NL_CB_DEFAULT);
        if (!cb)
                return cc_fail(err, CC_INTERNAL, "%s: allocate callbacks", what);
        nl_cb_err(cb, NL_CB_CUSTOM, on_error, &a);
        nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_ack, &a);
        for (r = 0; r >= 0 && !a.done;)
                r = nl_recvmsgs(sk, cb);
        nl_cb_put(cb);
        if (a.error)
                return refused(&a, what, err);
        if (!a.done)
                return cc_fail(err, CC_IO, "%s: receive: %s", what, nl_geterror(r));
        return 0;
}

struct dump {
        struct answer answer;
        void (*fn)(void *ctx, struct nlmsghdr *h);
        void *ctx;
};

static int on_item(struct nl_msg *msg, void *arg)
{
        struct dump *d = arg;

        d->fn(d->ctx, nlmsg_hdr(msg));
        return NL_OK;
}

static int on_dump_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
        struct dump *d = arg;

        return on_error(from, e, &d->answer);
}

static int on_finish(struct nl_msg *msg, void *arg)
{
        struct dump *d = arg;

        (void)msg;
        d->answer.done = true;
        return NL_STOP;
}

int rtnl_dump(struct nl_sock *sk, int type, const void *hdr, size_t n,
              void (*fn)(void *ctx, struct nlmsghdr *h), void *ctx, struct cc_err *err)
{
        struct dump d = { .fn = fn, .ctx = ctx };
        struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_DUMP);
        struct nl_cb *cb;
        int r;

        if (!msg || nlmsg_append(msg, (void *)(uintptr_t)hdr, n, NLMSG_ALIGNTO) < 0) {
                nlmsg_free(msg);
                return cc_fail(err, CC_INTERNAL, "build netlink request");
        }
        r = nl_send_auto(sk, msg);
        nlmsg_free(msg);
        if (r < 0)
                return cc_fail(err, CC_IO, "netlink dump: send: %s", nl_geterror(r));
        cb = nl_cb_alloc(NL_CB_DEFAULT);
        if (!cb)
                return cc_fail(err, CC_INTERNAL, "netlink dump: allocate callbacks");
        nl_cb_err(cb, NL_CB_CUSTOM, on_dump_error, &d);
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_item, &d);
        nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_finish, &d);
        for (r = 0; r >= 0 && !d.answer.done;)
                r = nl_recvmsgs(sk, cb);
        nl_cb_put(cb);
        if (d.answer.error)
                return refused(&d.answer, "netlink dump", err);
        if (!d.answer.done)
                return cc_fail(err, CC_IO, "netlink dump: %s", nl_geterror(r));
        return 0;
}
