/*
 * The one driver interface. A driver gets a resolved struct vm_spec and returns a struct vm_proc;
 * it never sees records, networks or images. One const struct per driver, listed in drivers.def;
 * nobody outside a driver's folder compares its name: callers ask for capabilities.
 */
#pragma once

#include <jansson.h>
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
        HV_CAP_PCI_FLAG = 1 << 7,    /* --pci is meaningful: hot-plug works on such machines only */
        HV_CAP_USER_NET = 1 << 8,    /* has a user-mode network stack */
        HV_CAP_DIRECT_IO = 1 << 9,
        HV_CAP_DISK_QUEUES = 1 << 10,
        HV_CAP_SERIAL_NAMES =
                1 << 11,            /* disks carry serials; else the guest sees /dev/vdX in order */
        HV_CAP_EMULATION = 1 << 12, /* runs without KVM */
        HV_CAP_NIC_HOTPLUG = 1 << 13,
        HV_CAP_SNAPSHOT = 1 << 14,
        HV_CAP_NIC_SWAP = 1 << 15,    /* a clone gets new NICs; else the guest keeps the source's */
        HV_CAP_FIXED_PATHS = 1 << 16, /* device state names disks by the source's absolute paths */
        HV_CAP_BALLOON = 1 << 17,     /* machines have a balloon unless told otherwise */
        HV_CAP_ELF_KERNEL = 1 << 18,  /* boots an uncompressed ELF kernel, no bzImage */
        HV_CAP_ONE_QUEUE = 1 << 19,   /* TAP devices must have a single queue pair */
        HV_CAP_FS_ATTACH = 1 << 21,   /* shared folders, device passthrough and external disks */
        HV_CAP_DEVICE_ATTACH = 1 << 22, /* on a running machine */
        HV_CAP_DISK_ATTACH = 1 << 23,
        HV_CAP_DISK_REQUEUE = 1 << 20, /* a clone may have other disk queue sizes */
        HV_CAP_VCPU_MAX = 1 << 24,     /* knows vCPUs to plug later beside those to boot with */
};

/* What drivers take from the configuration. Strings belong to the caller. */
struct hv_env {
        const char *binary;
        const char *accel;     /* auto | kvm | tcg */
        const char *firmware;  /* "" search */
        const char *bios;      /* "" search */
        const char *root_dir;  /* holds firmware/ and boot files */
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
        /* HV_CAP_VCPU_MAX, for `vm debug`: other values than the driver's own choice; 0: that. */
        int64_t max_cpu, balloon; /* balloon in bytes */
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

/*
 * Snapshots. A snapshot is a flat directory: files of the driver's (device state, memory, its own
 * description of the machine), copies of the writable disks, and cocoon.json, the sidecar, which
 * lists the disks in the driver's order with the paths they had. Core owns directories, copies of
 * disks, the sidecar, records and crash safety; a driver owns its files and the VMM.
 *
 *      save, hibernate      clone                       restore
 *      S1 can_capture       K4 preflight, files staged  R1 preflight (before anything is killed)
 *      S4 pause             K5,K6 load  rewire          R2 files staged
 *      S5 capture           K7 resume  settle           R4 stop (forced)
 *      S7 resume            K8 commit                   R7 load  resume  settle
 *      H9 stop (forced)
 *
 * No operation here undoes another: on any failure after pause core resumes, on any failure after
 * load core stops what load returned. Each state-changing request to a VMM is sent once.
 */

/* What a file name in a snapshot or run directory is to a driver. Everything HV_FILE_MEMORY and
 * HV_FILE_STATE is staged into the run directory before load, exported with the snapshot, and
 * removed from the run directory before another snapshot's files replace it. Disks, cidata.img and
 * cocoon.json are core's own. */
enum hv_file {
        HV_FILE_FOREIGN, /* not the driver's */
        HV_FILE_MEMORY, /* guest memory: hard-linked, and so never written or truncated by anyone */
        HV_FILE_STATE,  /* anything else: copied */
};

/* How guest memory comes back: HV_RESTORE_AUTO lets the driver choose, others are wishes that it
 * downgrades with one warning where it cannot. */
enum hv_restore_mode { HV_RESTORE_AUTO, HV_RESTORE_COPY, HV_RESTORE_ONDEMAND, HV_RESTORE_MMAP };

/* A snapshot as it is found. All strings borrowed. */
struct hv_snapshot {
        const char *dir; /* absolute: the snapshot's directory, or the run dir it is staged in */
        int64_t cpu, memory;         /* as the snapshot's record says */
        const struct hv_disk *disks; /* of the sidecar, with the paths of the source */
        size_t n_disks;
        size_t n_nics; /* as the snapshot's record says */
        bool shared_memory;
};

/* What is plugged into a running machine and pulled out again, never recorded (cli.md §4.6). */
enum hv_attach_kind { HV_ATTACH_FS, HV_ATTACH_DEVICE, HV_ATTACH_DISK };

/* One such device. `key` is what users detach it by; of the others each kind has its own. In a
 * request strings are borrowed, in a list owned. */
struct hv_attachment {
        enum hv_attach_kind kind;
        char *id;                       /* as printed; in a request: unused */
        char *key;                      /* tag | user's id (request: "" none) | disk name */
        char *socket;                   /* fs: of the vhost-user daemon */
        int64_t num_queues, queue_size; /* fs, in a request */
        char *bdf;                      /* device: "0000:01:00.0", "" unknown */
        char *path;                     /* disk: raw image */
        bool ro;
        int direct; /* disk, in a request: O_DIRECT 0, 1, or -1 the driver's choice */
};

struct hv_attachments {
        struct hv_attachment *v;
        size_t n;
};
struct hv_attachment *hv_attachments_add(struct hv_attachments *a); /* zeroed */
void hv_attachments_clear(struct hv_attachments *a);                /* also the cleanup function */
#define HV_ATTACHMENTS CC_CLEANUP(hv_attachments_clear)

/* What a guest must be told by its administrator where the machine does not tell it. */
enum hv_plug_event { HV_PLUGGED, HV_NIC_PULLED, HV_DISK_PULLED };

/* How long a guest may take to release a device (network.md §1). */
#define HV_EJECT_MS 30000

/* How to bring a machine back. */
struct hv_load {
        const struct hv_snapshot *snap; /* dir is spec->run_dir */
        enum hv_restore_mode mode;
        /* A new VM: its NICs replace the snapshot's (HV_CAP_NIC_SWAP: any number, else as many),
         * its disks lie elsewhere, its identity (UUID, generation ID, CID) is its own. False: the
         * same VM, with the same TAPs and MACs. */
        bool clone;
        /* HV_CAP_FIXED_PATHS: the directory that holds the run dirs of this driver's VMs; a path of
         * the source outside of it is refused. */
        const char *vms_dir;
        /* For hv_launch: the label to pass once the process exists ("clone.K5"). */
        const char *failpoint;
};

struct hv_driver {
        const char *name;           /* written into records; never renamed */
        const char *title;          /* for messages */
        const char *dir;            /* directory below run and log */
        const char *log_name;       /* qemu.log */
        const char *pid_name;       /* qemu.pid */
        const char *console_prefix; /* leading part of the kernel command line (images.md §6) */
        unsigned caps;
        size_t max_disks, max_nics;
        size_t max_devices;    /* disks and NICs together; 0: no common limit */
        const char *companion; /* a program that comes with the VMM, for use by hand; NULL: none */
        /* The oldest version without restrictions, and what older ones lack; NULL: any does. */
        const char *full_version, *older_lacks;

        /* ---- required ---- */

        /* Can this driver run here: binary found, version sufficient. `detail` (may be NULL) gets
         * what follows "using <name> with " in messages: "kvm", or
         * "emulation (tcg): <reason>; expect 10-50x slower guests". UNAVAILABLE names the fix. */
        int (*probe)(const struct hv_env *env, struct cc_buf *detail, struct cc_err *err);
        /* The version of the installed VMM, "53.0", into *ret; errors as probe. */
        int (*version)(const struct hv_env *env, struct cc_buf *ret, struct cc_err *err);
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
         * text; -CC_IO, also without text, when that cannot be told. starttime 0: not recorded. */
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
        /* Asked before the directories of a VM without a live process go: STATE when its control
         * socket still answers, so that a VMM exists which find() cannot see. NULL: find() sees
         * all. */
        int (*vacant)(const struct hv_env *env, const char *run_dir, struct cc_err *err);
        /* Names of runtime files in the run dir, NULL-terminated: removed after stop and before
         * start. */
        const char *const *runtime_files;
        /* Path of the socket shown as socket_path, relative to the run dir. */
        const char *socket_name;
        /* How the guest's agent is reached (agent.md §1), relative to the run dir: a hybrid vsock
         * socket, or the sockets of serial ports, NULL-terminated. NULL: not this way. A machine
         * made by an older version may lack them. */
        const char *agent_vsock;
        const char *const *agent_ports;
        /* Whether a program in the guest of a live VMM has the agent's ports open: only the VMM can
         * tell without waiting for it. NULL: ask the agent. */
        int (*agent_open)(const struct hv_env *env, const char *run_dir, bool *ret,
                          struct cc_err *err);
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
        /* The requests to socket_name that follow such a launch and boot the guest, as triples of
         * method, target and body, from the launcher's own builder. NULL: the argv says it all. */
        int (*debug_requests)(const struct hv_env *env, const struct vm_spec *spec,
                              struct cc_strv *ret, struct cc_err *err);
        /* What to know about the terminal of that launch, for a comment above it. */
        const char *debug_hint;

        /* ---- with HV_CAP_SNAPSHOT; all but can_capture, rewire, settle and sidecar required ----
         */

        enum hv_file (*classify)(const char *name);
        /* May this live VM, to which nothing is attached, be captured now? A pending eject or a
         * device that cannot be saved is an error. Changes nothing. */
        int (*can_capture)(const struct hv_env *env, const char *run_dir, struct cc_err *err);
        /* Stop the vCPUs; returns when no guest I/O is in flight. */
        int (*pause)(const struct hv_env *env, const char *run_dir, struct cc_err *err);
        /* Of a paused VM: write the driver's files into the existing empty directory `dir` (0640,
         * not synced). *ret_disks: the disks that the machine has, in its order, each by path or by
         * base name, for the sidecar. May take minutes; not cancelable by a signal unless the VMM
         * can be left as it was. */
        int (*capture)(const struct hv_env *env, const char *run_dir, const struct vm_proc *proc,
                       const char *dir, struct cc_strv *ret_disks, struct cc_err *err);
        /* Add what the driver wants in the sidecar, or take out what must not travel; `sidecar` has
         * storage_configs, boot_config, cpu, memory, nics, source_root_dir, source_run_dir. */
        int (*sidecar)(const struct hv_env *env, const char *run_dir, json_t *sidecar,
                       struct cc_err *err);
        /* Judge a snapshot without touching anything: files complete and consistent, equal to what
         * `snap` says (cpu, memory, disks one by one, NIC count), loadable by what is installed
         * here. The directory comes from anywhere: hostile input. `sidecar` as in cocoon.json.
         * *ret_macs (may be NULL): the MACs that the guest has, where the driver's files tell. */
        int (*preflight)(const struct hv_env *env, const struct hv_snapshot *snap,
                         const json_t *sidecar, struct cc_strv *ret_macs, struct cc_err *err);
        /* Start the VMM in spec->netns and load; the guest is left paused. spec is the VM as it
         * shall be: its disks correspond one to one to the snapshot's first n_disks, further ones
         * are rewire's to add. The run dir holds the staged files. Does what prepare and launch do
         * otherwise (log, pid file, cmdline, sockets). On failure nothing started by the call is
         * left behind; staged files stay. */
        int (*load)(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
                    struct vm_proc *ret, struct cc_err *err);
        /* Between load and resume: swap NICs, add disks, anchor paths, as far as a paused guest
         * lets it. NULL: nothing to do. */
        int (*rewire)(const struct hv_env *env, const struct vm_spec *spec,
                      const struct hv_load *how, const struct vm_proc *proc, struct cc_err *err);
        /* After resume: what needs a running guest. An uncooperative guest is a warning; an error
         * means that the machine is not usable. NULL: nothing to do. */
        int (*settle)(const struct hv_env *env, const struct vm_spec *spec,
                      const struct hv_load *how, const struct vm_proc *proc, struct cc_err *err);

        /* ---- with HV_CAP_NIC_HOTPLUG ---- */

        /* Plug spec->nics[index], the last one, into the running machine: one state-changing
         * request, and on its failure the machine is as before. */
        int (*nic_add)(const struct hv_env *env, const struct vm_spec *spec, size_t index,
                       struct cc_err *err);
        /* Take NIC `index` with this MAC out and wait until the guest has released it. Gone already
         * is success; an eject asked for earlier is only waited for. TIMEOUT: the guest did not
         * answer within HV_EJECT_MS, nothing may be torn down, and it can be tried again. */
        int (*nic_remove)(const struct hv_env *env, const char *run_dir, size_t index,
                          const char *mac, struct cc_err *err);
        /* MACs of the NICs that the machine has or is still releasing, lower case. Without
         * HV_CAP_NIC_SWAP they may be those of a clone's source, and come in the order of the
         * indices. */
        int (*nic_list)(const struct hv_env *env, const char *run_dir, struct cc_strv *ret,
                        struct cc_err *err);

        /* ---- with one of the attach capabilities ---- */

        /* Plug it in; CONFLICT when key, path or address is in use. *ret_id as printed; owned. */
        int (*attach)(const struct hv_env *env, const char *run_dir,
                      const struct hv_attachment *what, char **ret_id, struct cc_err *err);
        /* Take it out, waiting as nic_remove does. NOT_FOUND when there is none of that key. */
        int (*detach)(const struct hv_env *env, const char *run_dir, enum hv_attach_kind kind,
                      const char *key, struct cc_err *err);
        int (*attachments)(const struct hv_env *env, const char *run_dir,
                           struct hv_attachments *ret, struct cc_err *err);
        /* The command by which a Linux guest takes note, `index` being the NIC's; caller frees.
         * NULL: the machine tells the guest. */
        char *(*guest_hint)(enum hv_plug_event event, size_t index);
};

/* What a capability is to users, for docs/limitations.md: one row for each of the bits above. */
enum hv_cap_kind {
        HV_CAP_ASKED, /* without it what asks for it is refused (UNSUPPORTED) */
        HV_CAP_QUIET, /* without it something else happens */
        HV_CAP_BOUND, /* having it is the limitation */
};

struct hv_cap_row {
        unsigned cap;
        enum hv_cap_kind kind;
        const char *what;
        const char *how; /* ASKED: the command or flag; QUIET: what happens without it; BOUND: what
                            it means */
};
/* Row i, NULL past the end. */
const struct hv_cap_row *hv_cap_row_at(size_t i);

/* By recorded name; "" = cloud-hypervisor (older records). Unknown or not built in: UNSUPPORTED. */
int hv_driver_find(const char *name, const struct hv_driver **ret, struct cc_err *err);

/* Row i of the table, NULL past the end. */
const struct hv_driver *hv_driver_at(size_t i);

/* One message in one place for a refused capability (cli.md §4.6): "<what>: backend <name>: backend
 * does not support <what>"; with a verb in front where that is another word. UNSUPPORTED. */
int hv_require_for(const struct hv_driver *drv, unsigned cap, const char *verb, const char *what,
                   struct cc_err *err);
int hv_require(const struct hv_driver *drv, unsigned cap, const char *what, struct cc_err *err);

/* The same for hot-plug on a machine that was created with --pci or not (HV_CAP_PCI_FLAG). */
int hv_require_plug(const struct hv_driver *drv, unsigned cap, bool pci, const char *verb,
                    const char *what, struct cc_err *err);

/* console_open() of the driver named `driver`: what the console relay is given (its
 * console_open_fn).
 */
int hv_console_open(const char *driver, const char *run_dir, int vmm_pidfd, int *ret,
                    struct cc_err *err);

/* KVM probe of qemu.md §10, cached by boot id in cache_dir (NULL: not cached). Returns 0 when KVM
 * runs guest code at hardware speed; else -CC_UNAVAILABLE with the reason as text. */
int hv_kvm_probe(const char *cache_dir, struct cc_err *err);
