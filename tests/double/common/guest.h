/*
 * The fake guest of a double: what a test sees of the machine behind a VMM. It "boots" for a
 * while, prints the tiny test image's readiness line on its console, answers a root shell there
 * (shell.h), obeys its power button and stands still while the VM is paused. Its state can be saved
 * into a snapshot and goes on in another process. Device models, PTYs and sockets are the
 * double's own business: the guest only takes bytes in and gives bytes out.
 *
 * Knobs: BOOT_MS (0: at once) how long it boots; POWER_BUTTON "exit-after:<ms>" (exit-after:0) or
 * "ignore".
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "journal.h"
#include "loop.h"
#include "settings.h"
#include "shell.h"

/* What the guest needs of its VMM; all are required. */
struct dbl_guest_host {
        void (*output)(void *ctx, const char *data, size_t n); /* bytes for the console */
        void (*power)(void *ctx, enum dbl_power what);         /* it turned itself off, or resets */
        json_t *(*disk_load)(void *ctx); /* files on its disk, or NULL; new reference */
        void (*disk_store)(void *ctx, json_t *files); /* borrowed */
};

/* What it finds at boot. Strings are copied. */
struct dbl_guest_machine {
        const char *cmdline; /* kernel command line, "" for firmware boots */
        int cpus;
        size_t disks;
        const char *const *macs; /* of its NICs, lower case */
        size_t n_nics;
        bool silent; /* no console: it boots without a word */
};

struct dbl_guest;

struct dbl_guest *dbl_guest_new(struct dbl_loop *loop, struct dbl_journal *journal,
                                const struct dbl_settings *settings,
                                const struct dbl_guest_host *host, void *ctx);
void dbl_guest_free(struct dbl_guest *g);

void dbl_guest_boot(struct dbl_guest *g, const struct dbl_guest_machine *m); /* power on */
void dbl_guest_off(struct dbl_guest *g);           /* power cut: memory is gone, nothing runs */
void dbl_guest_pause(struct dbl_guest *g);         /* its clock stands still */
void dbl_guest_resume(struct dbl_guest *g);        /* and goes on; nothing when it was not paused */
bool dbl_guest_running(const struct dbl_guest *g); /* on and not paused */
bool dbl_guest_booted(const struct dbl_guest *g);  /* the readiness line is out */

void dbl_guest_power_button(struct dbl_guest *g);
void dbl_guest_input(struct dbl_guest *g, const char *data, size_t n);

/* The running state, for a snapshot file (new reference), and its continuation: paused. A value
 * that dbl_guest_save() did not write leaves the guest off and is CC_INVALID. */
json_t *dbl_guest_save(const struct dbl_guest *g);
int dbl_guest_load(struct dbl_guest *g, const json_t *state, struct cc_err *err);

/* The addresses the guest gives its NICs, "a,b" or "none" (new string). */
char *dbl_guest_addresses(const char *cmdline, const char *const *macs, size_t n_nics);
