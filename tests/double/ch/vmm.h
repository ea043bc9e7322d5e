/*
 * The double's VMM: one per process, with at most one VM. What Cloud Hypervisor keeps apart is kept
 * apart here: the configuration (vm.create stores it unchecked), the VM that owns devices from
 * vm.boot or vm.restore on, and the device tree, from which a removed device only goes when the
 * guest lets it go.
 *
 * Knobs beside those of common/: PROFILE "51", "52", "53" (53) or "next"; LENIENT (0) to ignore
 * unknown JSON members like the real thing; START_MS (0) between serving the API and creating the
 * VM of the command line; ACK "ms:<n>" (ms:0), "never" or "command": when a guest lets a removed
 * device go; PENDING_PAUSE "ok" (ok) or "die": pausing or snapshotting with a removed device
 * pending kills the VMM; SIGTERM "exit" (exit) or "ignore"; TAP "open" (open), "require" (a missing
 * one is an error instead of created) or "off"; PREFAULT_MS (0): how long an OnDemand restore goes
 * on behind its answer.
 */
#pragma once

#include "chain.h"
#include "common/console.h"
#include "common/guest.h"
#include "common/journal.h"
#include "common/loop.h"
#include "common/settings.h"
#include "device.h"
#include "schema.h"

enum ch_state { CH_CREATED, CH_RUNNING, CH_SHUTDOWN, CH_PAUSED };

struct ch_vmm {
        struct ch_dialect dialect;
        struct dbl_loop *loop;
        struct dbl_journal *journal;
        const struct dbl_settings *settings;

        json_t *config; /* NULL: no VM was created */
        bool owned;     /* there is a VM; its devices are in the list */
        enum ch_state state;
        struct ch_devices devices;
        struct dbl_console *console, *serial;
        bool consoles;    /* both of the configuration are open */
        int helper;       /* keeps the PTY's helper process alive; -1: none */
        bool has_console; /* and the virtio one is not off */
        struct dbl_guest *guest;
        int64_t balloon;        /* bytes the guest has given up; -1: what it was asked for */
        int64_t prefault_until; /* an OnDemand restore goes on until then */
        bool no_shutdown;       /* a guest's power-off does not end the process */
        bool dying;             /* the process ends once its answer is out */
        int status;             /* with this status */
        struct ch_error *why;   /* and these words, unless NULL */
};

void ch_vmm_init(struct ch_vmm *vmm, struct dbl_loop *loop, struct dbl_journal *journal,
                 const struct dbl_settings *settings);
void ch_vmm_free(struct ch_vmm *vmm);

/* The API's actions, named after its endpoints. `config`, `device` and so on are as ch_read() gives
 * them. Errors are the chain below "Error from API" and the endpoint's own line. */
int ch_vm_create(struct ch_vmm *vmm, const json_t *config, struct ch_error *e);
int ch_vm_delete(struct ch_vmm *vmm, struct ch_error *e);
int ch_vm_boot(struct ch_vmm *vmm, struct ch_error *e);
int ch_vm_shutdown(struct ch_vmm *vmm, struct ch_error *e);
int ch_vm_reboot(struct ch_vmm *vmm, struct ch_error *e);
int ch_vm_pause(struct ch_vmm *vmm, struct ch_error *e);
int ch_vm_resume(struct ch_vmm *vmm, struct ch_error *e);
int ch_vm_power_button(struct ch_vmm *vmm, struct ch_error *e);
int ch_vm_info(const struct ch_vmm *vmm, json_t **ret, struct ch_error *e);
int ch_vm_resize(struct ch_vmm *vmm, const json_t *request, struct ch_error *e);
int ch_vm_snapshot(struct ch_vmm *vmm, const json_t *request, struct ch_error *e);
int ch_vm_restore(struct ch_vmm *vmm, const json_t *request, struct ch_error *e);

/* Add a device of `kind` to the running VM (*ret is {"id","bdf"}) or to the configuration (*ret
 * stays NULL). */
int ch_vm_add(struct ch_vmm *vmm, enum ch_device_kind kind, const json_t *device, json_t **ret,
              struct ch_error *e);
int ch_vm_remove(struct ch_vmm *vmm, const json_t *request, struct ch_error *e);

/* Parts of the above, shared between files. */
int ch_consoles_open(struct ch_vmm *vmm, struct ch_error *e);
void ch_consoles_close(struct ch_vmm *vmm);
void ch_vm_drop(struct ch_vmm *vmm); /* devices, consoles and guest end */
void ch_guest_boot(struct ch_vmm *vmm);

/* The VMM thread dies: this answer is the last, the process follows with status 1. */
int ch_vmm_panic(struct ch_vmm *vmm, struct ch_error *e);

/* What the guest did by itself, also on a control command. */
void ch_guest_power(void *vmm, enum dbl_power what);
