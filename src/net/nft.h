/*
 * The one nftables table of the built-in network (network.md §13.1): address translation for the
 * subnet, and the published ports. The same for all VMs: a VM adds at most elements of one map.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The table is there afterwards. `subnet`: "10.88.0.0/16". `fresh`: the bridge is new, so rules
 * that are there already are another bridge's and replaced; published ports stay. */
int nft_ensure(const char *bridge, const char *subnet, bool fresh, struct cc_err *err);

/* Remove the table; absent is fine. */
int nft_remove(struct cc_err *err);

/* Forward TCP port `host` of this host to ip:guest. CC_CONFLICT when another VM has it. */
int nft_publish(const char *ip, uint16_t host, uint16_t guest, struct cc_err *err);

/* End every forward to `ip`; none is fine. */
int nft_unpublish(const char *ip, struct cc_err *err);
