/*
 * What networks left on the host for VMs that no longer exist (network.md §11): namespaces, TAP
 * devices, index rows, cached attachments. `gc` asks for the candidates and collects them one by
 * one. Everything of a name family that is no VM's of this store counts as left over.
 */
#pragma once

#include "base/id.h"
#include "net/provider.h"

struct net_orphan {
        char id[CC_ID_LEN + 1]; /* a VM's, or its first 8 characters if no more is known */
        const struct net_provider *provider;
};

struct net_orphans {
        struct net_orphan *v;
        size_t len;
};
void net_orphans_clear(struct net_orphans *o); /* also the cleanup function */
#define NET_ORPHANS CC_CLEANUP(net_orphans_clear)

/* Sorted by ID, those of one provider together. Reads the VMs after the host, so that a VM being
 * created is never among them: its row is older than anything of it on the host. */
int net_gc_candidates(const struct net_env *env, struct net_orphans *ret, struct cc_err *err);

/* Append those of one provider. */
int net_gc_candidates_of(const struct net_env *env, const struct net_provider *p,
                         struct net_orphans *ret, struct cc_err *err);

/* Remove one, under the lock of the VM that it once was: CC_BUSY when somebody holds that. What
 * cannot be undone keeps its row and namespace for the next time. An ID that has become a VM's is
 * left alone. */
int net_gc_collect(const struct net_env *env, const struct net_orphan *orphan, struct cc_err *err);
