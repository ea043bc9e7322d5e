/* What the checks share. */
#pragma once

#include "doctor/doctor.h"
#include "vm/vm.h"

struct doctor {
        const struct config *config;
        const struct doctor_options *options;
        struct doctor_report *report;
        const char *check; /* the one that is running */
        bool usable;       /* a driver can run VMs here */
        bool emulation;    /* so can one without KVM */
        char subnet[24], gateway[16];
};

struct doctor_check {
        const char *name;
        /* Look, and say at least one line. Changes nothing. */
        void (*probe)(struct doctor *d);
        /* Cure what the probe found; called only when it was not all well, idempotent, safe to be
         * killed at any point. What it could not do is an error; the probe runs again either way.
         * NULL: there is no cure. */
        int (*fix)(struct doctor *d, struct cc_err *err);
};

/* One line of the running check. `hint` NULL: none. */
void doctor_say(struct doctor *d, enum doctor_verdict verdict, const char *hint, const char *fmt,
                ...) CC_PRINTF(4, 5);

/* Hand a finished report over, counted. */
void doctor_report_move(struct doctor_report *from, struct doctor_report *to);

/* ---- drivers.c ---- */
void doctor_drivers(struct doctor *d);
void doctor_kvm(struct doctor *d);
int doctor_kvm_fix(struct doctor *d, struct cc_err *err);

/* ---- tools.c ---- */
void doctor_modules(struct doctor *d);
void doctor_tools(struct doctor *d);
int doctor_tools_fix(struct doctor *d, struct cc_err *err);
void doctor_firmware(struct doctor *d);

/* ---- host.c ---- */
void doctor_dirs(struct doctor *d);
int doctor_dirs_fix(struct doctor *d, struct cc_err *err);
void doctor_space(struct doctor *d);
void doctor_reflinks(struct doctor *d);
void doctor_tun(struct doctor *d);
void doctor_vsock(struct doctor *d);
int doctor_modprobe_tun(struct doctor *d, struct cc_err *err);
int doctor_modprobe_vsock(struct doctor *d, struct cc_err *err);
void doctor_cgroup(struct doctor *d);
/* modprobe(8) `module`. */
int doctor_modprobe(const char *module, struct cc_err *err);

/* ---- net.c ---- */
void doctor_plugins(struct doctor *d);
void doctor_conflists(struct doctor *d);
int doctor_conflists_fix(struct doctor *d, struct cc_err *err);
void doctor_sysctl(struct doctor *d);
int doctor_sysctl_fix(struct doctor *d, struct cc_err *err);
void doctor_forward(struct doctor *d);
int doctor_forward_fix(struct doctor *d, struct cc_err *err);

/* ---- store.c ---- */
void doctor_store(struct doctor *d);
void doctor_consistency(struct doctor *d);

/* ---- upgrade.c ---- */
void doctor_upgrade(struct doctor *d, const struct doctor_fetch *how);
