/*
 * The one nftables table of the built-in network (network.md §13.1): address translation for the
 * subnet, and the published ports. The same for all VMs: a VM adds at most elements of one map.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The table as it must be, whatever is there now; published ports stay. `subnet`: "10.88.0.0/16".
 */
int nft_ensure(const char *bridge, const char *subnet, struct cc_err *err);

/* Remove the table; absent is fine. */
int nft_remove(struct cc_err *err);

/* Forward TCP port `host` of this host to ip:guest. CC_CONFLICT when another VM has it. */
int nft_publish(const char *ip, uint16_t host, uint16_t guest, struct cc_err *err);

/* End every forward to `ip`; none is fine. */
int nft_unpublish(const char *ip, struct cc_err *err);
