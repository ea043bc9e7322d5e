/*
 * Where the provider `cni` gets a VM's eth<i> from: the built-in network or CNI plugins. The
 * namespace and its lifetime are the provider's (cni.c); a source makes and unmakes NICs in it.
 * What a NIC was made from is in the network index: the type of its row.
 */
#pragma once

#include "net/provider.h"

#define CNI_BACKEND "cni"

struct cni_source {
        /* All or nothing, in the namespace `netns` that exists. *ret_kept: a failed NIC could not
         * be torn down; its row stays, and so must the namespace. */
        int (*add)(const struct net_env *env, struct vm_record *vm, const char *netns,
                   const struct net_spec *specs, size_t n, struct record_array *ret, bool *ret_kept,
                   struct cc_err *err);
        /* A failure keeps the row of the NIC. */
        int (*remove)(const struct net_env *env, const struct vm_record *vm, const char *netns,
                      const size_t *indices, size_t n, struct cc_err *err);
        /* Everything of this source that the VM has, whatever its record says. */
        int (*delete)(const struct net_env *env, const struct vm_record *vm, const char *netns,
                      bool *ret_kept, struct cc_err *err);
        /* The part outside the namespace; CC_NOT_FOUND when it must be rebuilt. */
        int (*verify)(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);
        /* Around the VMM's life: before it is launched, after it died. */
        int (*up)(const struct net_env *env, const struct vm_record *vm, const char *netns,
                  struct cc_err *err);
        int (*down)(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);
        /* NICs at or above the recorded number; what cannot be removed is a warning. */
        int (*reclaim)(const struct net_env *env, const struct vm_record *vm, const char *netns,
                       struct cc_err *err);
        /* VM IDs, whole or their first 8 characters, that this source's leftovers name. */
        int (*orphans)(const struct net_env *env, struct cc_strv *ret, struct cc_err *err);
};

extern const struct cni_source cni_builtin;
extern const struct cni_source cni_plugins;

/* The names in config.network, one a NIC; NICs beyond the last have the last one's. */
void cni_networks(const struct vm_record *vm, struct cc_strv *ret);

/* Check the networks a VM asks for, or fill config.network with the default: the first conflist,
 * else the built-in network. Warns of conflists that cannot be used. */
int cni_resolve(const struct net_env *env, struct vm_record *vm, struct cc_err *err);

/* Release the NICs of an array and empty it. */
void cni_drop_nics(struct record_array *a);
