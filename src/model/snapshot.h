/*
 * The snapshot record (cli.md §5.2, state.md §2): the guest-visible part of a VM's configuration,
 * flat at top level, and what belongs to the snapshot itself. JSON shape: the table in snapshot.c.
 */
#pragma once

#include "model/vm.h"

struct snapshot_record {
        /* name, publish, labels and cgroup policy are the VM's, not the snapshot's: always empty */
        struct vm_config config;
        char *id, *name, *description;
        struct cc_strv image_blob_ids; /* hex */
        char *hypervisor;              /* empty in upstream's older archives: cloud-hypervisor */
        int64_t nics;
        char *net_backend, *net_bridge_dev; /* ours: how the source was attached */
        int64_t created_at;
        char *source_vm_id; /* ours; empty for imported ones */
        int64_t bytes;      /* ours: allocated size of the data directory */
        int64_t last_accessed_at;
        bool pending;   /* stored only: being made or being abandoned */
        char *data_dir; /* stored only; absolute */
        json_t *extra;
};
extern const struct record_type snapshot_record_type;

#define SNAPSHOT_RECORD_INIT                                                                       \
        {                                                                                          \
                0                                                                                  \
        }
void snapshot_record_clear(struct snapshot_record *s); /* also the cleanup function */
#define SNAPSHOT_RECORD CC_CLEANUP(snapshot_record_clear)

/* Name, else ID: how messages call it. */
const char *snapshot_label(const struct snapshot_record *s);

/* Decode the stored JSON text of a row (a NUL follows its n bytes), and the reverse (caller frees).
 */
int snapshot_record_parse(const char *text, size_t n, struct snapshot_record *ret,
                          struct cc_err *err);
char *snapshot_record_text(const struct snapshot_record *s);
