/*
 * The recipe (qemu.md §8): everything about a QEMU machine that its guest, and so a snapshot's
 * device state, can tell apart. It is written to qemu.json in the run dir at each launch and
 * travels with snapshots; there it is hostile input. What may differ between two starts of one
 * machine (paths, sockets, TAPs, MACs, UUIDs) is not here but in the bindings, argv.h.
 */
#pragma once

#include "hv/driver.h"
#include "model/record.h"

#define QEMU_MAX_DISKS  128 /* slots 08-17, eight functions each */
#define QEMU_MAX_NICS   8   /* root ports rp0-rp7 */
#define QEMU_PORTS      16
#define QEMU_FREE_PORT  8 /* the first that is not a NIC's */
#define QEMU_AGENTS     4
#define QEMU_SERIAL_LEN 20 /* virtio-blk's serial field */
#define QEMU_RECIPE     "qemu.json"

struct qemu_disk {
        char *file; /* base name; layers: NULL, their content is named by `blob` */
        char *blob; /* hex digest of a layer */
        char *serial, *format, *role;
        bool ro;
        int64_t queues, queue_size;
        int64_t port; /* root port it was plugged into while loading; 0: its fixed address */
};

struct qemu_nic {
        char *kind; /* tap | user */
        int64_t pairs, queue_size;
        int64_t mtu; /* 0: the device has no host_mtu */
};

struct qemu_recipe {
        int64_t version;
        char *qemu, *arch, *machine;
        char *accel; /* kvm | tcg */
        char *cpu;
        int64_t vcpus, memory; /* memory in bytes */
        char *boot;            /* direct | uefi */
        int64_t ports;
        int64_t fw_size;           /* bytes of pflash0 */
        int64_t vars_size;         /* bytes of pflash1; 0: none */
        struct record_array disks; /* struct qemu_disk */
        struct record_array nics;  /* struct qemu_nic */
        bool rng, vsock, watchdog, balloon, vmgenid, hugepages;
        int64_t agent_ports;
};

void qemu_recipe_clear(struct qemu_recipe *r); /* also the cleanup function */
#define QEMU_RECIPE_CLEANUP CC_CLEANUP(qemu_recipe_clear)

static inline struct qemu_disk *qemu_recipe_disk(const struct qemu_recipe *r, size_t i)
{
        return (struct qemu_disk *)r->disks.v + i;
}

static inline struct qemu_nic *qemu_recipe_nic(const struct qemu_recipe *r, size_t i)
{
        return (struct qemu_nic *)r->nics.v + i;
}

bool qemu_recipe_uefi(const struct qemu_recipe *r);
bool qemu_recipe_kvm(const struct qemu_recipe *r);

/* What the host adds to a spec. */
struct qemu_host {
        const char *version, *machine;
        bool kvm;
        int64_t fw_size, vars_size;
        bool balloon; /* configured */
};

/* The recipe of a cold boot. Queue sizes out of range are clamped; *ret_clamped tells. */
void qemu_recipe_make(const struct vm_spec *spec, const struct qemu_host *host,
                      struct qemu_recipe *ret, bool *ret_clamped);

/* What a NIC of the spec is to the guest; qemu_recipe_nic_free() releases it. */
void qemu_recipe_nic_make(const struct hv_nic *nic, struct qemu_nic *ret);
void qemu_recipe_nic_free(struct qemu_nic *nic);

/* Replace the NICs, except those of the old ones with keep[i]. */
void qemu_recipe_set_nics(struct qemu_recipe *r, const struct hv_nic *nics, size_t n,
                          const bool *keep);

/* Add a disk that was plugged into root port `port`. */
void qemu_recipe_plug_disk(struct qemu_recipe *r, const struct vm_spec *spec,
                           const struct hv_disk *disk, int64_t port);

/* `text` comes from anywhere: every value the argv builder relies on is checked. CC_INVALID. */
int qemu_recipe_parse(const char *text, size_t n, struct qemu_recipe *ret, struct cc_err *err);

/* JSON text; the caller frees. */
char *qemu_recipe_text(const struct qemu_recipe *r);

/* Largest power of two <= v, within [min, max]. */
int64_t qemu_clamp_pow2(int64_t v, int64_t min, int64_t max);
