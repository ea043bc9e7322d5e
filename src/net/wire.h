/*
 * One NIC inside a VM's namespace (network.md §5): a TAP device beside the interface `eth<i>` that
 * is already there, and the redirect between the two. Where eth comes from is the caller's affair.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WIRE_TXQLEN 10000

/* eth<index> and tap<id8>-<index>. */
void wire_eth_name(size_t index, char ret[16]);
void wire_tap_name(const char *vm_id, size_t index, char ret[16]);

/* The reverse, of any of our device names without its prefix: "ABCDEFGH-0" is of the VM whose ID
 * starts with ABCDEFGH. False for a name that is not ours. */
bool wire_owner(const char *name, char ret_id8[9]);

/* The index in any of our device names: "tapABCDEFGH-2" → 2. False for other names. */
bool wire_index(const char *name, size_t *ret);

struct wire {
        const char *netns; /* path */
        const char *eth, *tap;
        const char *mac; /* recorded one to restore on eth, NULL: keep eth's */
        int64_t num_queues;
};

/* Both up and connected. The MAC is eth's (the guest takes it over), the MTU eth's. On failure the
 * TAP is gone again. */
int wire_nic(const struct wire *w, char ret_mac[18], uint32_t *ret_mtu, struct cc_err *err);

/* Delete a TAP in the namespace; absent device or namespace is fine. */
int wire_remove_tap(const char *netns, const char *tap, struct cc_err *err);

/* Interfaces eth0 … eth<n-1> of the namespace up or down; what is absent is fine (network.md §5,
 * quiesce). */
int wire_set_up(const char *netns, size_t n, bool up, struct cc_err *err);

/* 0 when the namespace holds eth<i> and the TAP of every index below n; CC_NOT_FOUND else. */
int wire_verify(const char *netns, const char *vm_id, size_t n, struct cc_err *err);

/* How one NIC is wired, for the doctor: one line per thing, well or not. `live`: a VMM is to have
 * opened its queues. Changes nothing. */
struct wire_view {
        const char *netns, *vm_id, *mac;
        size_t index;
        int64_t num_queues;
        bool live;
};
typedef void (*wire_say_fn)(void *ctx, bool well, const char *text);
int wire_inspect(const struct wire_view *v, wire_say_fn say, void *ctx, struct cc_err *err);
