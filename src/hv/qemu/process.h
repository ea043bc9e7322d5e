/*
 * A QEMU process: what a start needs to know before it touches anything (the plan), and the
 * descriptors, files and fork that boot and load share. start.c boots with it, load.c loads.
 */
#pragma once

#include "base/proc.h"
#include "hv/launch.h"
#include "hv/qemu/argv.h"
#include "hv/qemu/firmware.h"
#include "hv/qemu/install.h"
#include "hv/qemu/qmp.h"

#define QEMU_MAX_FDS 128 /* what cc_spawn() passes on */

struct qemu_plan {
        struct qemu_install install;
        struct qemu_firmware firmware;
        struct qemu_recipe recipe;
        struct cc_strv argv;
        char *efivars; /* NULL: none */
        bool vhost_net;
        bool clamped;
};
void qemu_plan_clear(struct qemu_plan *p); /* also the cleanup function */
#define QEMU_PLAN CC_CLEANUP(qemu_plan_clear)

/* Firmware for the spec's boot mode. */
int qemu_plan_firmware(const struct hv_env *env, const struct vm_spec *spec, struct qemu_plan *p,
                       struct cc_err *err);

/* Bindings that hold for every start of this VM on this host: binary, firmware, identity, I/O. The
 * plan's install, firmware and recipe are set; strings are borrowed from it. */
void qemu_plan_bind(const struct vm_spec *spec, struct qemu_plan *p, struct qemu_bindings *ret);

/* Descriptors for the child, closed when the scope ends. */
struct qemu_fds {
        struct cc_fd_map map[QEMU_MAX_FDS];
        size_t n;
};
void qemu_fds_close(struct qemu_fds *f); /* also the cleanup function */
#define QEMU_FDS CC_CLEANUP(qemu_fds_close)

/* Takes `from`; it becomes `to` in the child. UNSUPPORTED when there are too many. */
int qemu_fds_add(struct qemu_fds *f, int from, int to, struct cc_err *err);

/* The queues of one TAP and, with `vhost`, as many vhost workers, from *to on, which advances. */
int qemu_fds_tap(struct qemu_fds *f, const char *netns, const char *tap, size_t pairs, bool vhost,
                 int *to, struct cc_err *err);

/* Same for a TAP that is made here and vanishes with its last descriptor: what a machine is started
 * with in place of a NIC that is about to go. */
int qemu_fds_dummy(struct qemu_fds *f, const char *netns, const char *tap, size_t pairs, bool vhost,
                   int *to, struct cc_err *err);

/*
 * Console log, control and agent sockets, qemu.json, cmdline, fork. `fds` holds memory and TAPs and
 * is closed: a connection that only we would hold open could not tell that QEMU is dead. *l is
 * filled for qemu_died(). On failure nothing runs; files may be left.
 */
int qemu_process_start(const struct vm_spec *spec, const struct qemu_plan *p, struct qemu_fds *fds,
                       const char *failpoint, struct hv_launch *l, struct vm_proc *ret,
                       struct cc_err *err);

/* qemu.json of a directory, checked; in load.c. */
int qemu_read_recipe(const char *dir, struct qemu_recipe *ret, struct cc_err *err);

/* Connect to a process just started; its death meanwhile is `launch qemu: <last log line>`. */
int qemu_process_connect(const struct hv_env *env, const struct hv_launch *l,
                         const struct vm_proc *proc, struct qmp **ret, struct cc_err *err);

/* `r` with `why` came from talking to the process: if it died, say its last words instead. */
int qemu_process_failed(const struct hv_launch *l, const struct vm_proc *proc, int r,
                        const struct cc_err *why, struct cc_err *err);
