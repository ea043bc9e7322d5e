/*
 * The host's side of the built-in network (network.md §13.1): the bridge cocoon0 with its subnet,
 * forwarding, and the veth pairs that lead into the VMs' namespaces. Which VM has which address is
 * in lease.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "net/link.h"

#define BUILTIN_NAME   "cocoon-builtin"
#define BUILTIN_BRIDGE "cocoon0"
#define BUILTIN_PREFIX 16

struct builtin_net {
        int bridge;       /* index */
        uint32_t gateway; /* the bridge's address, host byte order */
        uint32_t subnet;  /* host byte order */
        uint32_t mtu;
        uint8_t used[8192]; /* bit per address of the subnet that a device on the bridge has */
};

/* One operation on bridge, table and leases of this host at a time. *ret is owned: closing it
 * releases the lock. */
int builtin_lock(int *ret, struct cc_err *err);

/* Bridge, address, translation rules and forwarding are there afterwards. Lock held. */
int builtin_up(struct nl_sock *sk, struct builtin_net *ret, struct cc_err *err);

/* Without a device on it the bridge goes, and the rules with it. Lock held. */
int builtin_down_if_unused(struct nl_sock *sk, struct cc_err *err);

/* The veth of NIC `index`: eth<index> with `mac` in the namespace open as `netns`. `ip` in host
 * byte order. */
int builtin_attach(struct nl_sock *sk, const struct builtin_net *net, const char *vm_id,
                   size_t index, int netns, const char *mac, uint32_t ip, struct cc_err *err);
int builtin_detach(struct nl_sock *sk, const char *vm_id, size_t index, struct cc_err *err);
/* Host ends of the VM's veths, by name. */
int builtin_ports(struct nl_sock *sk, const char *vm_id, struct cc_strv *ret, struct cc_err *err);

/* Every veth of the VM, whatever is recorded. */
int builtin_detach_all(struct nl_sock *sk, const char *vm_id, struct cc_err *err);

/* Has the VM any veth here? */
int builtin_attached(struct nl_sock *sk, const char *vm_id, bool *ret, struct cc_err *err);
/* The first 8 characters of the ID of every VM that has one, each once or more. */
int builtin_owners(struct nl_sock *sk, struct cc_strv *ret, struct cc_err *err);

/* 0 when the veths of indices below n are on the bridge, CC_NOT_FOUND else. */
int builtin_verify(struct nl_sock *sk, const char *vm_id, size_t n, struct cc_err *err);

/* Host byte order to "10.88.0.2". */
void builtin_format(uint32_t ip, char ret[16]);
/* And back; false if malformed. */
bool builtin_parse(const char *s, uint32_t *ret);
