/*
 * Network devices by rtnetlink: look up, change, make, delete. Every call acts on the namespace in
 * which the socket was opened. TAP devices are made in tap.h, traffic control in tc.h.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/rtnl.h"

/* In flags; IFF_LOWER_UP, whose header does not mix with net/if.h. At once, unlike IFF_RUNNING. */
#define LINK_CARRIER 0x10000u

struct net_link {
        int index, master; /* master 0: none */
        unsigned flags;    /* IFF_* */
        uint32_t mtu;
        char name[IFNAMSIZ];
        char mac[18];    /* "" when it has none */
        char kind[16];   /* "bridge", "veth", "tun"; "" for hardware */
        char alias[64];  /* the start of it */
        uint32_t queues; /* of a TAP: pairs that are open */
};

/* Look a device up by name. CC_NOT_FOUND: `network device NAME does not exist`. */
int link_get(struct nl_sock *sk, const char *name, struct net_link *ret, struct cc_err *err);

/* Every device of the namespace. */
typedef void (*link_fn)(void *ctx, const struct net_link *link);
int link_each(struct nl_sock *sk, link_fn fn, void *ctx, struct cc_err *err);

/* What changes about a device; zero fields stay as they are. */
struct link_change {
        const char *mac; /* "02:…" */
        const char *alias;
        uint32_t mtu, txqlen;
        int master;      /* index of a bridge */
        bool no_addrgen; /* no IPv6 link-local address; ignored on a host without IPv6 */
        bool up, down;
};
int link_change(struct nl_sock *sk, const struct net_link *link, const struct link_change *c,
                struct cc_err *err);

/* Administrative state by name; an absent device is fine. */
int link_set_up(struct nl_sock *sk, const char *name, bool up, struct cc_err *err);

/* Delete by name; absent is fine. */
int link_delete(struct nl_sock *sk, const char *name, struct cc_err *err);

/* A bridge with a fixed MAC (else it would take the lowest of its ports'), up, without STP. */
int link_add_bridge(struct nl_sock *sk, const char *name, const char *mac, struct cc_err *err);

/* A veth pair: `name` here, enslaved to `master` and up; `peer` with `mac` in the namespace open as
 * `netns`. CC_CONFLICT when one of the names is taken. */
struct link_veth {
        const char *name, *alias, *peer, *mac;
        int master, netns;
        uint32_t mtu;
};
int link_add_veth(struct nl_sock *sk, const struct link_veth *v, struct cc_err *err);

/* Add an IPv4 address (network byte order). One that is there already is fine. */
int link_add_address(struct nl_sock *sk, int index, uint32_t ip, unsigned prefix,
                     struct cc_err *err);

/* The same for IPv6 (16 bytes), without duplicate address detection. A host without IPv6 is fine.
 */
int link_add_address6(struct nl_sock *sk, int index, const uint8_t ip[16], unsigned prefix,
                      struct cc_err *err);

/* The first IPv4 address of a device; CC_NOT_FOUND when it has none. */
int link_address(struct nl_sock *sk, int index, uint32_t *ret_ip, unsigned *ret_prefix,
                 struct cc_err *err);

/* Remove the IPv6 link-local addresses of a device. */
int link_drop_link_local(struct nl_sock *sk, int index, struct cc_err *err);

/* True if an IPv4 route more specific than /16, or of that size, lies in net/16 (network byte
 * order). */
int link_subnet_used(struct nl_sock *sk, uint32_t net, bool *ret, struct cc_err *err);

/* "aa:bb:…" to 6 bytes; false if malformed. */
bool link_parse_mac(const char *s, uint8_t ret[6]);
