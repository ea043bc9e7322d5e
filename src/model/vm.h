/* The VM record and its parts (cli.md §5.2, state.md §2). JSON shape: the tables in vm.c. */
#pragma once

#include "base/str.h"
#include "model/record.h"

enum vm_state { VM_CREATING, VM_CREATED, VM_RUNNING, VM_STOPPED, VM_ERROR, VM_STATE_MAX };
const char *vm_state_name(enum vm_state state);
int vm_state_parse(const char *name, enum vm_state *ret); /* -CC_INVALID, no text */

/* Shown instead of "running" when the process is gone; never stored. */
#define VM_STATE_STALE "stopped (stale)"

struct vm_config {
        int64_t cpu;
        int64_t memory;  /* bytes */
        int64_t storage; /* bytes */
        int64_t queue_size, disk_queue_size;
        char *image, *image_digest, *image_type; /* image_type: oci | cloudimg */
        char *network;                           /* conflist name, "user", ... */
        bool no_direct_io, windows, shared_memory;
        bool no_watchdog, no_balloon, hugepages, mergeable, pci;
        int64_t cpu_weight, cpu_quota_us, cpu_period_us, cpu_burst_us;
        char *cpuset_cpus;
        bool flat;              /* ours: boots from the merged layer, for life (images.md §10.1) */
        struct cc_strv publish; /* ours: "HOST:GUEST" port forwards */
        struct cc_strv dns;     /* ours: servers given at creation */
        json_t *labels;         /* ours: object of strings */
        char *name;
        json_t *extra;
};
extern const struct record_type vm_config_type;

struct nic_network {
        char *ip, *gateway;
        int64_t prefix;
        json_t *extra;
};

extern const struct record_type nic_network_type;

struct nic {
        char *tap, *mac;
        int64_t num_queues, queue_size;
        char *backend, *bridge_dev, *netns_path;
        struct nic_network *network; /* NULL: the guest uses DHCP */
        int64_t mtu;
        json_t *extra;
};
extern const struct record_type nic_type;

/* Roles of disks: "layer", "cow", "cidata", "data". */
struct vm_disk {
        char *path;
        bool ro;
        char *serial, *role;
        char *mount_point, *fstype; /* data disks only */
        int direct_io;              /* -1 inherit, 0, 1; data disks only */
        json_t *extra;
};
extern const struct record_type vm_disk_type;

struct boot_config {
        char *kernel_path, *initrd_path, *cmdline, *firmware_path;
        json_t *extra;
};

extern const struct record_type boot_config_type;

struct proc_ref {
        int64_t pid, starttime;
        char *boot_id;
};

/* A restore that is not finished (state.md §6, R3-R8): what it was to bring back, and whether the
 * files in the run dir are still the old ones ("staged") or may be mixed ("swapping"). */
struct restore_pending {
        char *phase;
        char *snapshot_id;
        char *from_dir; /* empty: from the store */
        json_t *extra;
};
#define RESTORE_STAGED   "staged"
#define RESTORE_SWAPPING "swapping"

struct vm_record {
        char *id, *hypervisor;
        char *state; /* a vm_state name, or VM_STATE_STALE in a public view */
        struct vm_config config;
        int64_t pid;        /* shown only; stored as 0 */
        char *socket_path;  /* shown only, when running */
        char *vsock_socket; /* shown only: of a running machine that has one */
        int64_t vsock_cid;
        char *net_backend, *netns_path, *net_bridge_dev;
        struct record_array network_configs; /* struct nic */
        struct record_array storage_configs; /* struct vm_disk, in attach order */
        bool first_booted;
        struct cc_strv snapshot_ids;
        int64_t transition_generation;
        char *last_transition_reason; /* create boot restart clone restore stop-user error
                                         unexpected-exit */
        int64_t last_transition_at;
        int64_t created_at, updated_at, started_at, stopped_at;
        struct boot_config boot_config;          /* stored only */
        struct cc_strv image_blob_ids;           /* stored only; hex */
        char *run_dir, *log_dir;                 /* stored only; absolute */
        struct proc_ref *proc;                   /* stored only: identity of the running VMM */
        struct restore_pending *restore_pending; /* stored only; NULL: none */
        bool hibernating; /* stored only: its last snapshot is complete, the VMM is to end */
        json_t *extra;
};
extern const struct record_type vm_record_type;

#define VM_RECORD_INIT                                                                             \
        {                                                                                          \
                0                                                                                  \
        }
void vm_record_clear(struct vm_record *vm); /* also the cleanup function */
#define VM_RECORD CC_CLEANUP(vm_record_clear)

static inline struct nic *vm_nic(const struct vm_record *vm, size_t i)
{
        return (struct nic *)vm->network_configs.v + i;
}

static inline struct vm_disk *vm_disk_at(const struct vm_record *vm, size_t i)
{
        return (struct vm_disk *)vm->storage_configs.v + i;
}

/* Resolved network identity (network.md §1): the VM-level field, else NIC 0's; backend "cni" when
 * there are NICs and nothing is recorded; "" without network. Never NULL. */
const char *vm_net_backend(const struct vm_record *vm);
const char *vm_netns_path(const struct vm_record *vm);
const char *vm_net_bridge(const struct vm_record *vm);

/* Every NIC is whole (not a null element, has a MAC): for verbs that use NICs; list, inspect and rm
 * show and remove a VM whose record fails this (network.md §1). CC_INVALID naming VM and index. */
int vm_nics_check(const struct vm_record *vm, struct cc_err *err);

/* Storage invariants of state.md §2, checked at every load that acts on disks and before finalize.
 */
int vm_disks_check(const struct vm_record *vm, struct cc_err *err);

/* Decode the stored JSON text of a row (a NUL follows its n bytes), and the reverse (caller frees).
 */
int vm_record_parse(const char *text, size_t n, struct vm_record *ret, struct cc_err *err);

/* The same without disks, boot files, pins and snapshots: not to be written back. */
int vm_record_parse_brief(const char *text, size_t n, struct vm_record *ret, struct cc_err *err);
char *vm_record_text(const struct vm_record *vm);
