/*
 * Addresses of the built-in network, leased to NICs: index rows of the store whose id is made of
 * the address, so that no two rows can hold one. A row is written before anything else of the NIC
 * exists and deleted after all of it is gone.
 */
#pragma once

#include "meta/meta.h"
#include "net/builtin.h"

/* Lease an address for eth<index>: `want` (host byte order) or, when that is 0, any that is free in
 * the subnet. A lease the NIC has already is returned. CC_CONFLICT when `want` is another's,
 * CC_NO_SPACE when the subnet is full. */
int lease_take(struct meta *m, const struct builtin_net *net, const char *vm_id, size_t index,
               uint32_t want, uint32_t *ret_ip, struct cc_err *err);

/* End the lease of eth<index>; absent is fine. */
int lease_drop(struct meta *m, const char *vm_id, size_t index, struct cc_err *err);
int lease_drop_all(struct meta *m, const char *vm_id, struct cc_err *err);

/* The addresses leased to a VM, as text. */
int lease_list(struct meta *m, const char *vm_id, struct cc_strv *ret, struct cc_err *err);
