/* TAP beside eth, connected. See wire.h. */
#include "net/wire.h"

#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/tap.h"
#include "net/tc.h"

void wire_eth_name(size_t index, char ret[16])
{
        (void)snprintf(ret, 16, "eth%u", (unsigned)index);
}

void wire_tap_name(const char *vm_id, size_t index, char ret[16])
{
        (void)snprintf(ret, 16, "tap%.*s-%u", CC_ID8_LEN, vm_id, (unsigned)index % 1000);
}

bool wire_owner(const char *name, char ret_id8[9])
{
        size_t digits;

        if (strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != CC_ID8_LEN ||
            name[CC_ID8_LEN] != '-')
                return false;
        digits = strspn(name + CC_ID8_LEN + 1, "0123456789");
        if (digits == 0 || name[CC_ID8_LEN + 1 + digits])
                return false;
        memcpy(ret_id8, name, CC_ID8_LEN);
        ret_id8[CC_ID8_LEN] = '\0';
        return true;
}

bool wire_index(const char *name, size_t *ret)
{
        const char *dash = strrchr(name, '-');
        long long i = -1;

        if (!dash || !dash[1] || dash[1 + strspn(dash + 1, "0123456789")] ||
            cc_parse_i64(dash + 1, &i) < 0)
                return false;
        *ret = (size_t)i;
        return true;
}

/* The TAP exists; everything else about it. */
static int connect_tap(struct nl_sock *sk, const struct wire *w, const struct net_link *eth,
                       struct cc_err *err)
{
        struct link_change up_tap = {
                .mtu = eth->mtu,
                .txqlen = WIRE_TXQLEN,
                .no_addrgen = true,
                .up = true,
        };
        struct link_change up_eth = { .mac = w->mac, .no_addrgen = true, .up = true };
        struct net_link tap = { 0 };
        int r = link_get(sk, w->tap, &tap, err);

        if (r == 0)
                r = tc_noqueue(sk, tap.index, err);
        if (r == 0)
                r = link_change(sk, &tap, &up_tap, err);
        if (r == 0)
                r = link_change(sk, eth, &up_eth, err);
        if (r == 0)
                r = link_drop_link_local(sk, eth->index, err);
        if (r == 0)
                r = tc_connect(sk, eth->index, tap.index, err);
        return r;
}

int wire_nic(const struct wire *w, char ret_mac[18], uint32_t *ret_mtu, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        struct net_link eth = { 0 };
        int r = netns_open(w->netns, true, &f, err);

        if (r == 0)
                r = link_get(f.sk, w->eth, &eth, err);
        if (r == 0)
                r = tap_create(f.tun, w->tap, w->num_queues / 2, err);
        if (r < 0)
                return r;
        r = connect_tap(f.sk, w, &eth, err);
        if (r < 0) {
                (void)link_delete(f.sk, w->tap, NULL);
                return r;
        }
        (void)snprintf(ret_mac, 18, "%s", w->mac ? w->mac : eth.mac);
        *ret_mtu = eth.mtu;
        return 0;
}

int wire_remove_tap(const char *netns, const char *tap, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        int r;

        if (!netns_exists(netns))
                return 0;
        r = netns_open(netns, false, &f, err);
        return r < 0 ? r : link_delete(f.sk, tap, err);
}

int wire_set_up(const char *netns, size_t n, bool up, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        int r;

        if (n == 0 || !netns_exists(netns))
                return 0;
        r = netns_open(netns, false, &f, err);
        for (size_t i = 0; i < n && r == 0; i++) {
                char eth[16];

                wire_eth_name(i, eth);
                r = link_set_up(f.sk, eth, up, err);
        }
        return r;
}

int wire_verify(const char *netns, const char *vm_id, size_t n, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        struct net_link link = { 0 };
        int r = netns_open(netns, false, &f, err);

        for (size_t i = 0; i < n && r == 0; i++) {
                char name[16];

                wire_eth_name(i, name);
                r = link_get(f.sk, name, &link, err);
                wire_tap_name(vm_id, i, name);
                if (r == 0)
                        r = link_get(f.sk, name, &link, err);
        }
        return r;
}
