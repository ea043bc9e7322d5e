/*
 * The one driver interface. A driver gets a resolved struct vm_spec and returns a struct vm_proc;
 * it never sees records, networks or images. One const struct per driver, listed in drivers.def;
 * nobody outside a driver's folder compares its name: callers ask for capabilities.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

enum {
        HV_CAP_DIRECT_BOOT = 1 << 0,
        HV_CAP_UEFI = 1 << 1,
        HV_CAP_WINDOWS = 1 << 2,
        HV_CAP_SHARED_MEMORY = 1 << 3,
        HV_CAP_HUGEPAGES = 1 << 4,
        HV_CAP_MERGEABLE = 1 << 5,
        HV_CAP_NO_WATCHDOG = 1 << 6, /* has a watchdog that --no-watchdog omits */
        HV_CAP_PCI_FLAG = 1 << 7,    /* --pci is meaningful */
        HV_CAP_USER_NET = 1 << 8,    /* has a user-mode network stack */
        HV_CAP_DIRECT_IO = 1 << 9,
        HV_CAP_DISK_QUEUES = 1 << 10,
        HV_CAP_SERIAL_NAMES =
                1 << 11,            /* disks carry serials; else the guest sees /dev/vdX in order */
        HV_CAP_EMULATION = 1 << 12, /* runs without KVM */
        HV_CAP_NIC_HOTPLUG = 1 << 13,
        HV_CAP_SNAPSHOT = 1 << 14,
};

/* What drivers take from the configuration. Strings belong to the caller. */
struct hv_env {
        const char *binary;
        const char *accel;     /* auto | kvm | tcg */
        const char *firmware;  /* "" search */
        const char *bios;      /* "" search */
        const char *cache_dir; /* may hold verdicts valid for this boot, e.g. the KVM probe's */
        bool balloon;
        int socket_wait_ms;
        int grace_ms; /* SIGTERM to SIGKILL */
};

struct hv_disk {
        const char *path;
        const char *serial; /* at most 20 bytes */
        const char *format; /* raw | qcow2 */
        bool ro;
        bool direct;      /* O_DIRECT */
        bool boot;        /* UEFI: boot from this one */
        const char *role; /* layer | cow | data | cidata, as recorded; NULL unknown */
};

struct hv_forward {
        uint16_t host, guest; /* TCP */
};

struct hv_nic {
        const char *tap; /* NULL: user-mode stack */
        const char *mac;
        int64_t num_queues; /* 2 x queue pairs */
        int64_t queue_size;
        int64_t mtu; /* 0: default */
};

/* A resolved machine: everything a driver needs to start it. All strings borrowed. */
struct vm_spec {
        const char *id, *name;
        const char *run_dir, *log_dir;         /* exist */
        int64_t cpu, memory;                   /* memory in bytes */
        const char *kernel, *initrd, *cmdline; /* kernel NULL: boot by firmware */
        bool windows, shared_memory, hugepages, mergeable, no_watchdog, no_balloon, pci;
        int64_t disk_queue_size; /* 0: driver default */
        const struct hv_disk *disks;
        size_t n_disks;
        const struct hv_nic *nics;
        size_t n_nics;
        const struct hv_forward *forwards; /* on the user-mode stack of NIC 0 */
        size_t n_forwards;
        const char *netns; /* "" host namespace */
};

/* A process that the record can name again. */
struct vm_proc {
        pid_t pid;
        uint64_t starttime;
        int pidfd;   /* owned */
        int console; /* owned; from launch() of a driver that makes the console itself: the end for
                        the relay. -1: console_open() opens it */
};
void vm_proc_clear(struct vm_proc *p); /* closes; also the cleanup function */
#define VM_PROC_INIT                                                                               \
        {                                                                                          \
                .pidfd = -1, .console = -1                                                         \
        }
#define VM_PROC CC_CLEANUP(vm_proc_clear)

enum hv_state { HV_RUNNING, HV_PAUSED, HV_UNCONFIGURED, HV_BROKEN };

struct hv_driver {
        const char *name;           /* written into records; never renamed */
        const char *title;          /* for messages */
        const char *dir;            /* directory below run and log */
        const char *log_name;       /* qemu.log */
        const char *pid_name;       /* qemu.pid */
        const char *console_prefix; /* leading part of the kernel command line (images.md §6) */
        unsigned caps;
        size_t max_disks, max_nics;

        /* ---- required ---- */

        /* Can this driver run here: binary found, version sufficient. `detail` (may be NULL) gets
         * what follows "using <name> with " in messages: "kvm", or
         * "emulation (tcg): <reason>; expect 10-50x slower guests". UNAVAILABLE names the fix. */
        int (*probe)(const struct hv_env *env, struct cc_buf *detail, struct cc_err *err);
        /* Check a spec without side effects: limits and combinations. Also used before reserving.
         */
        int (*check)(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err);
        /* Files that must exist before launch beyond disks (firmware variables, recipe).
         * Idempotent. */
        int (*prepare)(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err);
        /* Start, configure, boot. On failure nothing started by the call is left behind. */
        int (*launch)(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
                      struct cc_err *err);
        /* The live process of a VM, verified (state.md §3 live check), or -CC_NOT_FOUND without
         * text. starttime 0: not recorded. */
        int (*find)(const char *run_dir, const char *log_dir, uint64_t starttime,
                    struct vm_proc *ret);
        /* Ask the live VMM what it is doing. A slow answer is CC_TIMEOUT ("busy"), never "dead". */
        int (*state)(const struct hv_env *env, const char *run_dir, enum hv_state *ret,
                     struct cc_err *err);
        /* End it: graceful within grace_ms (0: no graceful window), then forced. Success = process
         * gone. */
        int (*stop)(const struct hv_env *env, const char *run_dir, struct vm_proc *proc,
                    int grace_ms, struct cc_err *err);
        /* Resume a paused VM (state.md §8). */
        int (*resume)(const struct hv_env *env, const char *run_dir, struct cc_err *err);
        /* Names of runtime files in the run dir, NULL-terminated: removed after stop and before
         * start. */
        const char *const *runtime_files;
        /* Path of the socket shown as socket_path, relative to the run dir. */
        const char *socket_name;
        /* The end of the guest's console that its one reader holds, of a live VMM: a connected
         * serial socket, a PTY's master or its slave; nonblocking, owned by the caller. Asked again
         * when it ends while the VMM lives. UNAVAILABLE when there is none (yet). NULL: no
         * console. */
        int (*console_open)(const char *run_dir, int vmm_pidfd, int *ret, struct cc_err *err);
        /* The file below the log dir to which the VMM copies its console (the relay keeps it below
         * 8 MiB). NULL: none. */
        const char *console_log_name;
        /* The launch as an argv for `vm debug`, from the launcher's own builder, in the form that a
         * shell can start: what a launch passes as descriptors goes by name, the console is the
         * terminal. Files to copy first are added to *ret_copies as pairs (from, to). */
        int (*debug)(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
                     struct cc_strv *ret_copies, struct cc_err *err);
};

/* By recorded name; "" = cloud-hypervisor (older records). Unknown or not built in: UNSUPPORTED. */
int hv_driver_find(const char *name, const struct hv_driver **ret, struct cc_err *err);

/* Row i of the table, NULL past the end. */
const struct hv_driver *hv_driver_at(size_t i);

/* One message in one place for a refused capability: "<what>: backend <name> does not support
 * <what>". */
int hv_require(const struct hv_driver *drv, unsigned cap, const char *what, struct cc_err *err);

/* console_open() of the driver named `driver`: what the console relay is given (its
 * console_open_fn).
 */
int hv_console_open(const char *driver, const char *run_dir, int vmm_pidfd, int *ret,
                    struct cc_err *err);

/* KVM probe of qemu.md §10, cached by boot id in cache_dir (NULL: not cached). Returns 0 when KVM
 * runs guest code at hardware speed; else -CC_UNAVAILABLE with the reason as text. */
int hv_kvm_probe(const char *cache_dir, struct cc_err *err);
