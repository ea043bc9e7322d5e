/* Looking at what wire.c made: is every part there and as recorded (state.md §11, doctor vm). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "net/link.h"
#include "net/netns.h"
#include "net/tc.h"
#include "net/wire.h"

struct look {
        const struct wire_view *v;
        wire_say_fn say;
        void *ctx;
        struct nl_sock *sk;
};

static void say(const struct look *l, bool well, const char *fmt, ...) CC_PRINTF(3, 4);
static void say(const struct look *l, bool well, const char *fmt, ...)
{
        CC_FREE char *text = NULL;
        va_list ap;

        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                abort();
        va_end(ap);
        l->say(l->ctx, well, text);
}

/* True when the device is there. */
static bool find(const struct look *l, const char *name, struct net_link *ret)
{
        struct cc_err why = CC_ERR_INIT;

        if (link_get(l->sk, name, ret, &why) == 0)
                return true;
        say(l, false, "%s", why.msg);
        return false;
}

static void check_redirect(const struct look *l, const struct net_link *from,
                           const struct net_link *to)
{
        struct cc_err why = CC_ERR_INIT;
        unsigned n = 0;
        int target = 0;

        if (tc_redirected(l->sk, from->index, &target, &n, &why) < 0)
                say(l, false, "%s: %s", from->name, why.msg);
        else if (n == 0)
                say(l, false, "nothing that arrives on %s is passed on to %s", from->name,
                    to->name);
        else if (n > 1 || target != to->index)
                say(l, false, "what arrives on %s goes elsewhere than to %s alone", from->name,
                    to->name);
        else
                say(l, true, "%s is passed on to %s", from->name, to->name);
}

static void check_eth(const struct look *l, const struct net_link *eth)
{
        struct cc_err why = CC_ERR_INIT;
        unsigned prefix;
        uint32_t ip;
        int r;

        if (l->v->mac && strcasecmp(eth->mac, l->v->mac) != 0)
                say(l, false, "%s has the MAC %s, recorded is %s", eth->name, eth->mac, l->v->mac);
        else
                say(l, true, "%s has the recorded MAC", eth->name);
        /* The address is the guest's: the namespace would answer in its place. */
        r = link_address(l->sk, eth->index, &ip, &prefix, &why);
        if (r == 0)
                say(l, false, "%s holds an IP address in the namespace", eth->name);
        else if (r != -CC_NOT_FOUND)
                say(l, false, "%s: %s", eth->name, why.msg);
}

static void check_pair(const struct look *l, const struct net_link *eth, const struct net_link *tap)
{
        if (eth->mtu != tap->mtu)
                say(l, false, "%s has MTU %u, %s has %u", eth->name, eth->mtu, tap->name, tap->mtu);
        if (l->v->live && tap->queues != (uint32_t)(l->v->num_queues / 2))
                say(l, false, "%s has %u queues, recorded are %lld", tap->name, tap->queues,
                    (long long)(l->v->num_queues / 2));
        if (l->v->live && !((eth->flags & tap->flags) & IFF_UP))
                say(l, false, "%s is down", eth->flags & IFF_UP ? tap->name : eth->name);
        check_redirect(l, eth, tap);
        check_redirect(l, tap, eth);
}

int wire_inspect(const struct wire_view *v, wire_say_fn fn, void *ctx, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        struct look l = { .v = v, .say = fn, .ctx = ctx };
        struct net_link eth, tap;
        char eth_name[16], tap_name[16];
        bool have_eth, have_tap;
        int r = netns_open(v->netns, false, &f, err);

        if (r < 0)
                return r;
        l.sk = f.sk;
        wire_eth_name(v->index, eth_name);
        wire_tap_name(v->vm_id, v->index, tap_name);
        have_eth = find(&l, eth_name, &eth);
        have_tap = find(&l, tap_name, &tap);
        if (have_eth)
                check_eth(&l, &eth);
        if (have_eth && have_tap)
                check_pair(&l, &eth, &tap);
        return 0;
}
