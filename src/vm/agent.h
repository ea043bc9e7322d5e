/*
 * The agent in a VM's guest: where it is, sessions with it, and what core lets it do unasked: fresh
 * entropy after a clone or restore, and a clone's new identity (state.md K9, R9).
 */
#pragma once

#include "agent/agent.h"
#include "vm/vm.h"

/* A way to the agent of a VM; keeps its own copies. No lock is needed. */
struct vm_agent {
        struct agent_peer peer;
        struct vm_record vm;
        const struct hv_driver *drv;
        struct cc_strv paths;
};
void vm_agent_clear(struct vm_agent *a); /* also the cleanup function */
#define VM_AGENT CC_CLEANUP(vm_agent_clear)

/* STATE "vm <ref> is <state>: vm not running" for a VM without live VMM. A machine without a way to
 * its agent is no failure here: dialing says so. */
int vm_agent_find(const struct config *c, const struct vm_record *vm, struct vm_agent *ret,
                  struct cc_err *err);

/* How long an agent may be tried when the caller has no opinion: a guest that booted just now may
 * still be at it. Milliseconds. */
int64_t vm_agent_patience(const struct vm_record *vm);

/* Whether an agent accepts sessions now; does not wait for one that cannot answer. */
bool vm_agent_present(const struct config *c, const struct vm_record *vm);

/* What a snapshot's sidecar remembers about its guest. */
#define VM_AGENT_KEY "agent"

/* After a clone: entropy, machine-id and, with `identity`, the VM's name and addresses. After a
 * restore: entropy. Best effort: what fails is one warning. `known`: what the snapshot tells of its
 * guest: 1 has an agent, 0 has none, -1 says nothing. *ret_applied: the guest has its identity. */
struct vm_guest_setup {
        bool clone, identity;
        int known;
};
void vm_guest_setup(const struct config *c, const struct vm_record *vm,
                    const struct vm_guest_setup *how, bool *ret_applied);
