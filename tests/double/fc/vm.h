/*
 * The machine of the Firecracker double: what its API configures, and where its life stands. The
 * API (api.h) routes requests to the functions of preboot.c, devices.c, boot.c, snapshot.c and
 * runtime.c, which all work on this one struct; main.c owns it.
 *
 * Two kinds of refusal. A fault is what the real Firecracker answers, word for word. A violation
 * is what it would let pass although no careful client does it; it goes into the journal, where a
 * test finds it, and the request is executed as the real one would.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/guest.h"
#include "common/journal.h"
#include "common/loop.h"
#include "common/server.h"
#include "common/settings.h"
#include "log.h"

enum fcd_state { FCD_NOT_STARTED, FCD_RUNNING, FCD_PAUSED };

/* A block device or a network interface. */
struct fcd_device {
        json_t *config; /* as GET /vm/config shows it */
        int fd;         /* the open file or TAP; -1: a TAP that is only recorded */
};

struct fcd_devices {
        struct fcd_device *v; /* in the order in which the guest finds them */
        size_t n;
};

struct fcd_vm {
        /* What the process was started with. */
        const struct dbl_settings *settings;
        struct dbl_loop *loop;
        struct dbl_journal *journal;
        struct fcd_log log;
        const char *version; /* "1.16.1" */
        unsigned minor;      /* 16 */
        const char *id;
        bool pci;

        enum fcd_state state;
        bool configured; /* something that a snapshot brings along was asked for */
        bool metrics;    /* PUT /metrics was there: once only */
        json_t *machine; /* GET /machine-config */
        json_t *boot;    /* boot-source as sent; NULL: none yet */
        char *cmdline;   /* validated command line of the boot source */
        int kernel, initrd;
        struct fcd_devices drives, nics;
        json_t *vsock, *balloon, *entropy; /* NULL: not configured */
        int vsock_listener;
        char *serial_out; /* PUT /serial; NULL: standard output */

        struct dbl_guest *guest;
        int serial_fd;    /* where its console goes: standard output, or PUT /serial's file */
        int cad_unread;   /* key sequences nobody has taken from the keyboard controller */
        bool cad_reboots; /* the guest is shutting down because of one */
        char nonce[33];   /* of this boot: stamped into guest memory */
        int mem_fd;       /* the memory file it was loaded from, -1: booted */
        char *memory;     /* mapped from there */
        uint64_t memory_size;
        unsigned owed;   /* answers on their way */
        int exit_status; /* the process ends with it behind the answer; -1: it goes on */
};

/* The limit of device slots, less what the platform takes itself. */
enum { FCD_MMIO_DEVICES = 17, FCD_PCI_DEVICES = 31 };

void fcd_vm_init(struct fcd_vm *vm);
void fcd_vm_clear(struct fcd_vm *vm); /* closes and frees what the machine holds */

void fcd_violation(struct fcd_vm *vm, const char *fmt, ...) CC_PRINTF(2, 3);

/* ---- answers ---- */

void fcd_ok(struct dbl_reply *reply);                                          /* 204 */
void fcd_fault(struct dbl_reply *reply, const char *fmt, ...) CC_PRINTF(2, 3); /* 400 */

/* "No such file or directory (os error 2)"; the buffer is static. */
const char *fcd_os_error(int errnum);

/* ---- devices ---- */

struct fcd_device *fcd_device_find(const struct fcd_devices *d, const char *key, const char *id);
void fcd_device_remove(struct fcd_devices *d, size_t i);
size_t fcd_device_total(const struct fcd_vm *vm); /* all virtio devices configured */

/* A rate limiter as GET shows it: null if it limits nothing. */
void fcd_settle_limiter(json_t *config, const char *key);

/* Open what a device's configuration names. *ret_fd, or -1 with the text behind "Unable to create
 * the virtio block device: " (drive) or "Could not create the network device: " (NIC) in fault. */
int fcd_drive_open(struct fcd_vm *vm, const json_t *config, int *ret_fd, struct cc_buf *fault);
void fcd_drive_claim(struct fcd_vm *vm, const struct fcd_device *drive); /* once it is in place */
int fcd_nic_open(struct fcd_vm *vm, const json_t *config, int *ret_fd, struct cc_buf *fault);

/* Bind the vsock's socket; -1 with the text behind "Error binding to the host-side Unix socket: ".
 */
int fcd_vsock_bind(const char *path, int *ret_fd, struct cc_buf *fault);

/* Insert into the configuration, before boot or, with PCI, while the machine lives. */
void fcd_put_drive(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_nic(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_vsock(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_unplug(struct fcd_vm *vm, struct fcd_devices *d, const char *key, const char *id,
                struct dbl_reply *reply);
void fcd_patch_drive(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);

/* ---- configuration before boot (preboot.c) ---- */

void fcd_put_machine(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_boot_source(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_balloon(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_entropy(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_serial(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_logger(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_put_metrics(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);

/* ---- life (boot.c, runtime.c) ---- */

void fcd_start(struct fcd_vm *vm, struct dbl_reply *reply);
void fcd_pause(struct fcd_vm *vm, struct dbl_reply *reply);
void fcd_resume(struct fcd_vm *vm, struct dbl_reply *reply);
void fcd_ctrl_alt_del(struct fcd_vm *vm, struct dbl_reply *reply);
void fcd_patch_balloon(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);

/* ---- what GETs show (show.c) ---- */

json_t *fcd_show_info(const struct fcd_vm *vm);
json_t *fcd_show_config(const struct fcd_vm *vm);

/* ---- snapshots (snapshot.c) ---- */

void fcd_snapshot_save(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
void fcd_snapshot_restore(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);
