/* TAP devices (network.md §5). The namespace is the one in which `tun` was opened. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Make the persistent TAP device `name` on a fresh descriptor of /dev/net/tun. A taken name is
 * CC_CONFLICT: never attach to somebody's device. `pairs` > 1: multi-queue, as its VMM will open
 * it. Undo with link_delete(). */
int tap_create(int tun, const char *name, int64_t pairs, struct cc_err *err);
