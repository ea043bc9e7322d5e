/*
 * The interface as a DEL must find it (network.md §4, NAT leak). Plugins remove address translation
 * only for addresses that they still see on the interface: what is missing is put back first, and
 * an interface or namespace that is gone gets a stand-in.
 */
#pragma once

#include <stdbool.h>

#include "net/cni_result.h"

/* `if_name` of the namespace `netns` has the addresses of `result` afterwards. Without addresses
 * nothing is done. *ret_made is set in any case: the namespace was gone and is a new one, which the
 * caller deletes after the DEL. */
int cni_eth_restore(const char *netns, const char *if_name, const struct cni_result *result,
                    bool *ret_made, struct cc_err *err);

/* Is the interface there? */
bool cni_eth_exists(const char *netns, const char *if_name);

/* Remove a stand-in that the DEL left; absent is fine. */
int cni_eth_clean(const char *netns, struct cc_err *err);
