/*
 * A clone's NICs (qemu.md §9). The restored guest has the source's; each is replaced through its
 * root port by one of the clone's. What the machine is started with follows from its recipe and the
 * clone's spec alone, so load (which starts it) and settle (which finishes the swap) agree without
 * telling each other.
 */
#pragma once

#include "hv/qemu/process.h"

/* The NICs to start with: as many and of such kinds as the recipe has. */
struct qemu_wiring {
        struct hv_nic nics[QEMU_MAX_NICS];
        bool isolated[QEMU_MAX_NICS];
        bool reuse[QEMU_MAX_NICS]; /* the netdev is the clone's own and serves its new NIC */
        size_t n;
        char dummy[QEMU_MAX_NICS][16]; /* names of throw-away TAPs, "" none */
        char mac[18];
};
void qemu_wire(const struct qemu_recipe *recipe, const struct vm_spec *spec, bool clone,
               struct qemu_wiring *ret);

/* Until the guest's driver has taken NIC i, 2 s at most: then plugging the next one keeps the
 * guest's numbering. A guest without a driver is no failure. */
int qemu_wait_driver(struct qmp *q, size_t i, struct cc_err *err);

/* Every TAP descriptor of the process, in the order of qemu_first_fd(): those of the starting NICs,
 * then those that settle will plug in. */
int qemu_wire_fds(const struct qemu_plan *p, const struct vm_spec *spec,
                  const struct qemu_wiring *w, struct qemu_fds *fds, struct cc_err *err);
