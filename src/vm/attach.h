/* What is plugged into a running VM and taken out again: NICs, which the record follows, and shared
 * folders, devices and disks, which are never recorded (cli.md §4.6, network.md §10). */
#pragma once

#include "vm/vm.h"

struct vm_nic_change {
        size_t index;
        char *tap, *mac;
};

struct vm_net_result {
        int64_t before, after;
        struct vm_nic_change *added, *removed;
        size_t n_added, n_removed;
        struct cc_strv warnings; /* plumbing that outlived its NIC */
        struct cc_strv hints;    /* for the guest's administrator */
};
void vm_net_result_clear(struct vm_net_result *r); /* also the cleanup function */
#define VM_NET_RESULT CC_CLEANUP(vm_net_result_clear)

/*
 * Bring a running VM to `nics` NICs: added at the tail one by one, removed from the tail. The
 * record follows NIC by NIC; *ret tells how far it came, also on failure. A removal that the guest
 * does not acknowledge fails with record and plumbing intact, and can be tried again.
 */
int vm_net(struct engine *e, const char *id, int64_t nics, struct vm_net_result *ret,
           struct cc_err *err);

/* Check a request (names, paths, addresses) and normalise it, before any VM is looked at: `what`
 * is as the user gave it, *ret is owned by the caller (hv_attachments_clear() on a list of one). */
int vm_attach_check(const struct config *c, const struct hv_attachment *what,
                    struct hv_attachments *ret, struct cc_err *err);

/* Plug in what vm_attach_check() passed. *ret_id as printed; owned. Commands by which the guest
 * takes note, where the machine does not tell it, are added to *ret_hints. */
int vm_attach(struct engine *e, const char *id, const struct hv_attachment *what, char **ret_id,
              struct cc_strv *ret_hints, struct cc_err *err);
int vm_detach(struct engine *e, const char *id, enum hv_attach_kind kind, const char *key,
              struct cc_strv *ret_hints, struct cc_err *err);

/* What is attached to a VM that may run, read live; nothing and success when it does not. Takes no
 * lock: for inspect. */
int vm_attachments(const struct config *c, const struct vm_record *vm, struct hv_attachments *ret,
                   struct cc_err *err);
