/*
 * What a machine is in Firecracker's words (firecracker.md §3): the requests that configure and
 * boot it, in their binding order, the names of its devices, and its limits. Pure functions of the
 * spec; launch and `vm debug` both use them, so they cannot drift. Sending lives in api.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "hv/driver.h"

#define FC_MAX_CPUS 32

/* virtio devices on x86 without PCI, one interrupt line each (since Firecracker 1.15). */
#define FC_MAX_DEVICES 17

/* With PCI: the slots of its bus. */
#define FC_MAX_PCI_DEVICES 31

/* Of those, what every machine has: balloon, entropy source, vsock. */
#define FC_OWN_DEVICES 3

/* The kernel's limit, and what Firecracker itself adds to the line: " pci=off" and for each device
 * " virtio_mmio.device=4K@0x…:N". */
#define FC_CMDLINE_MAX    2048
#define FC_CMDLINE_FIXED  8
#define FC_CMDLINE_DEVICE 35

/* Below this a machine gets no balloon. */
#define FC_BALLOON_MIN (INT64_C(256) << 20)

/* What the host and the installed version allow. */
struct fc_host {
        bool io_uring; /* else disks are served by blocking calls */
        bool nic_mtu;  /* Firecracker >= 1.16 */
};

struct fc_request {
        const char *method; /* static */
        char *target, *body;
};
struct fc_requests {
        struct fc_request *v;
        size_t n;
};
void fc_requests_clear(struct fc_requests *r); /* also the cleanup function */
#define FC_REQUESTS CC_CLEANUP(fc_requests_clear)

/* Everything before InstanceStart; each may be repeated. CC_INVALID when a path or name is not
 * UTF-8. */
int fc_machine_requests(const struct vm_spec *spec, const struct fc_host *host,
                        struct fc_requests *ret, struct cc_err *err);

/* The one request of NIC `index` of the spec, and of a disk under an id of its own. */
int fc_nic_request(const struct vm_spec *spec, const struct fc_host *host, size_t index,
                   struct fc_requests *ret, struct cc_err *err);
int fc_drive_request(const struct hv_disk *disk, const struct fc_host *host, const char *id,
                     struct fc_requests *ret, struct cc_err *err);

/* The limits of a machine: processors, devices, command line, kinds of disks, and what Firecracker
 * cannot do at all. The driver's check(). */
int fc_machine_check(const struct vm_spec *spec, struct cc_err *err);

/* Ids in the API: [A-Za-z0-9_]. Room for 32 bytes. */
void fc_drive_id(size_t i, char out[32]);
void fc_nic_id(size_t i, char out[32]);
