/*
 * The devices of a VM: ids, PCI slots, what they hold open, and the device tree that vm.info shows.
 * A removed device stays here, pending, until the guest lets it go.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "chain.h"

struct ch_vmm;

enum ch_device_kind {
        CH_DEV_CONSOLE,
        CH_DEV_DISK,
        CH_DEV_NET,
        CH_DEV_RNG,
        CH_DEV_FS,
        CH_DEV_VSOCK,
        CH_DEV_BALLOON,
        CH_DEV_WATCHDOG,
        CH_DEV_RTC,
        CH_DEV_VFIO,
};

struct ch_device {
        char *id;
        enum ch_device_kind kind;
        unsigned slot; /* 1-31; 0: none, a node without function */
        int fd;        /* image, socket or -1 */
        char *socket;  /* to be unlinked with it, or NULL */
        int *tap_fds;
        size_t n_taps;
        json_t *config; /* of a disk or NIC: what it was made from */
        bool plugged;   /* into the running VM */
        bool pending;   /* removed, not ejected */
        int64_t ack_ns; /* what is left until the guest lets go; -1: not by itself */
        unsigned timer;
        struct ch_vmm *vmm;
};

/* Pointers: timers know their device. */
struct ch_devices {
        struct ch_device **v;
        size_t n;
        unsigned next_id; /* of the names we give */
};

/* Make every device of the configuration, in its order, ids filled in; with `saved` (as
 * ch_devices_save() gives it) in the places they had. On failure none is left. */
int ch_devices_make(struct ch_vmm *vmm, const json_t *saved, struct ch_error *e);
void ch_devices_drop(struct ch_vmm *vmm);

/* Lock every disk image, in order. */
int ch_devices_lock(struct ch_vmm *vmm, struct ch_error *e);

/* One device more for a running VM: `config` is completed (id, detected type, host MAC). */
int ch_device_plug(struct ch_vmm *vmm, enum ch_device_kind kind, json_t *config,
                   struct ch_device **ret, struct ch_error *e);

struct ch_device *ch_device_find(const struct ch_vmm *vmm, const char *id);

/* The guest is asked to let the device go; it does when its policy says so. */
void ch_device_unplug(struct ch_device *dev);
void ch_device_eject(struct ch_device *dev); /* it did: the device is freed */
bool ch_devices_pending(const struct ch_vmm *vmm);

/* The guest's clock stops or goes on. */
void ch_devices_pause(struct ch_vmm *vmm);
void ch_devices_resume(struct ch_vmm *vmm);

/* "0000:00:06.0" (new string), the tree of vm.info, and what a snapshot records: new references. */
char *ch_device_bdf(const struct ch_device *dev);
json_t *ch_devices_tree(const struct ch_vmm *vmm);
json_t *ch_devices_save(const struct ch_vmm *vmm);
