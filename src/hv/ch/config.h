/*
 * A Cloud Hypervisor machine in memory (cloud-hypervisor.md §2) and its two forms: the flags of a
 * cold boot and the JSON of the API. Both come from one struct, so that they cannot drift. A pure
 * function of the spec and of what the host offers; whoever launches supplies the latter.
 */
#pragma once

#include "base/json.h"
#include "hv/driver.h"

#define CH_SLOTS         31 /* of the one PCI segment, without its host bridge */
#define CH_QUEUE_SIZE    512
#define CH_QUEUE_MAX     32768
#define CH_SERIAL_LEN    20 /* virtio-blk's serial field */
#define CH_VCPUS_MAX     254
#define CH_BALLOON_MIN   (INT64_C(256) << 20)
#define CH_VSOCK_CID     3 /* of every guest: each has a socket of its own */
#define CH_NET_ID_PREFIX "cocoon-net-"

enum ch_tty { CH_TTY_OFF, CH_TTY_PTY, CH_TTY_TTY, CH_TTY_SOCKET };

struct ch_disk {
        const char *path;
        const char *serial; /* NULL: none */
        bool ro, direct;
        bool qcow2; /* else raw */
        int64_t queues, queue_size;
        bool pinned; /* queue i runs on the i-th CPU of ch_config.cpus */
};

struct ch_net {
        const char *id, *tap, *mac;
        int64_t queues; /* receive and transmit queues together */
        int64_t queue_size;
};

/* Strings are borrowed from the spec and the host, or held by `own`. */
struct ch_config {
        const char *api_socket; /* NULL: the VMM serves no API */
        int64_t boot_vcpus, max_vcpus;
        bool kvm_hyperv;
        int64_t memory; /* bytes */
        bool hugepages, shared, mergeable;
        const char *firmware; /* or: */
        const char *kernel, *initramfs, *cmdline;
        struct ch_disk *disks;
        size_t n_disks;
        struct ch_net *nets;
        size_t n_nets;
        bool watchdog;
        int64_t balloon; /* bytes, 0: none */
        enum ch_tty serial, console;
        const char *serial_socket;
        const char *vsock_socket; /* NULL: no vsock */
        const int *cpus;          /* the host CPUs we may use */
        size_t n_cpus;
        struct cc_strv own;
};
void ch_config_clear(struct ch_config *c); /* also the cleanup function */
#define CH_CONFIG CC_CLEANUP(ch_config_clear)

/* What the host adds to a spec. Borrowed. */
struct ch_host {
        const char *firmware; /* for machines without a kernel */
        const char *api_socket, *serial_socket, *vsock_socket;
        int64_t online_cpus;
        const int *cpus; /* our affinity mask as a list; may be empty */
        size_t n_cpus;
};

/* The machine of a cold boot. Refuses (INVALID, UNSUPPORTED) what §2.1 refuses: formats, queue
 * sizes, serials, combinations, more devices than slots. */
int ch_config_make(const struct vm_spec *spec, const struct ch_host *host, struct ch_config *ret,
                   struct cc_err *err);

/* For `vm debug`: no API socket, and the line that the guest uses as its console on the terminal.
 */
void ch_config_on_terminal(struct ch_config *c);

/* The flags of §2.4 behind `binary`. INVALID for a value that the syntax cannot carry. */
int ch_config_argv(const struct ch_config *c, const char *binary, struct cc_strv *ret,
                   struct cc_err *err);

/* The objects of §2.2. INVALID when a string is not UTF-8. *ret is owned. */
int ch_config_json(const struct ch_config *c, json_t **ret, struct cc_err *err);
int ch_disk_json(const struct ch_config *c, const struct ch_disk *disk, json_t **ret,
                 struct cc_err *err);
int ch_net_json(const struct ch_net *net, json_t **ret, struct cc_err *err);

/* The value of a disk's queue_affinity: queue i on the i-th CPU of `cpus`, round and round.
 * Owned. */
json_t *ch_affinity_json(int64_t queues, const int *cpus, size_t n_cpus);

/* cocoon-net-<mac without colons, lower-case>: a NIC's device id (§6). Caller frees. */
char *ch_net_id(const char *mac);
