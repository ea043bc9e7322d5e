/* The interface as a DEL must find it. See cni_eth.h. */
#include "net/cni_eth.h"

#include <string.h>

#include "base/id.h"
#include "net/link.h"
#include "net/netns.h"

/* The other end of a stand-in, in the same namespace. */
#define STAND_IN "cc-standin"

static int stand_in(const struct netns_fds *f, const char *if_name, struct cc_err *err)
{
        char mac[18];
        struct link_veth v = {
                .name = STAND_IN,
                .peer = if_name,
                .mac = mac,
                .mtu = 1500,
                .netns = f->ns,
        };
        int r = link_delete(f->sk, STAND_IN, err); /* a killed predecessor's */

        cc_mac_new(mac);
        return r < 0 ? r : link_add_veth(f->sk, &v, err);
}

static int add_address(struct nl_sock *sk, int index, const struct cni_address *a,
                       struct cc_err *err)
{
        uint32_t v4;

        if (a->v6)
                return link_add_address6(sk, index, a->ip, a->prefix, err);
        memcpy(&v4, a->ip, sizeof(v4));
        return link_add_address(sk, index, v4, a->prefix, err);
}

int cni_eth_restore(const char *netns, const char *if_name, const struct cni_result *result,
                    bool *ret_made, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        struct cc_err why = CC_ERR_INIT;
        struct net_link eth = { 0 };
        int r;

        *ret_made = false;
        if (result->n == 0)
                return 0;
        r = netns_create(netns, ret_made, err);
        if (r == 0)
                r = netns_open(netns, false, &f, err);
        if (r < 0)
                return r;
        r = link_get(f.sk, if_name, &eth, &why);
        if (r == -CC_NOT_FOUND) {
                r = stand_in(&f, if_name, err);
                if (r == 0)
                        r = link_get(f.sk, if_name, &eth, err);
        } else if (r < 0) {
                r = cc_err_copy(err, &why);
        }
        for (size_t i = 0; i < result->n && r == 0; i++)
                r = add_address(f.sk, eth.index, &result->addresses[i], err);
        return r;
}

bool cni_eth_exists(const char *netns, const char *if_name)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        struct net_link eth = { 0 };

        return netns_open(netns, false, &f, NULL) == 0 && link_get(f.sk, if_name, &eth, NULL) == 0;
}

int cni_eth_clean(const char *netns, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        int r;

        if (!netns_exists(netns))
                return 0;
        r = netns_open(netns, false, &f, err);
        return r < 0 ? r : link_delete(f.sk, STAND_IN, err);
}
