/*
 * Snapshots at rest (state.md §4, §5): rows and leases, the directory of files, the sidecar
 * cocoon.json, the envelope snapshot.json. What a VMM does to make or load one is a driver's; in
 * which order things happen to a VM is src/vm's. Archives are in the loadable module (archive.h).
 */
#pragma once

#include "config/config.h"
#include "hv/driver.h"
#include "meta/meta.h"

struct snap_env {
        const struct config *config;
        struct meta *meta;
        int64_t lock_timeout_ms; /* 0: wait for ever */
};

/* ---- store.c: rows, leases, removal ---- */

/*
 * S2, I2: give *s an ID and a data directory (not made yet), take the build lease (exclusive lock
 * on the snapshot, held until *ret_lease is closed) and commit the pending row, which claims the
 * name and pins the blobs. A pending row whose lease is free is an abandoned build: it is removed
 * for its name. CONFLICT `snapshot name "X" already in use by <id>`.
 */
int snap_reserve(const struct snap_env *env, const char *op, struct snapshot_record *s,
                 int *ret_lease, struct cc_err *err);

/* The way back from snap_reserve(): directory, then row. Not cancelable; failures are logged, gc
 * repeats it. The caller holds the lease. */
void snap_discard(const struct snap_env *env, const struct snapshot_record *s);

/* The row is pending no more. Inside the caller's write transaction. */
int snap_finalize(struct meta *m, struct snapshot_record *s, int64_t bytes, struct cc_err *err);

/* Preflight of a name: 0 when it is valid and free, or held by an abandoned build that is removed
 * now. CONFLICT `snapshot name "X" already exists`. "" is free. */
int snap_name_free(const struct snap_env *env, const char *name, struct cc_err *err);

/* A finished snapshot for reading: shared lease, then the row. NOT_FOUND `snapshot not found`, also
 * for pending rows; CONFLICT while it is being removed. */
int snap_open(const struct snap_env *env, const char *ref, const char *op,
              struct snapshot_record *ret, int *ret_lease, struct cc_err *err);

/* Remove an abandoned build if nobody works on it. 1 removed, 0 somebody does or it is not pending
 * any more. For gc and for who wants its name. */
int snap_collect_pending(const struct snap_env *env, const char *id, struct cc_err *err);

/* Remove a snapshot, or finish its interrupted removal. BUSY `snapshot <id> is in use by an active
 * clone/restore/export`. */
int snap_rm(const struct snap_env *env, const char *id, struct cc_err *err);

/* ---- check.c: what may come from outside ---- */

/* The configuration of a snapshot record, as a VM shall have it: numbers within limits and this
 * host's CPUs, names, digests (state.md §6.3). CC_INVALID naming the field. */
int snap_config_check(const struct snapshot_record *s, struct cc_err *err);

/* ---- files.c: the directory ---- */

#define SNAP_ENVELOPE "snapshot.json"
#define SNAP_SIDECAR  "cocoon.json"
#define SNAP_CIDATA   "cidata.img"
#define SNAP_MODE     0640

/* A single, plain file name: what an archive or a listing may hold. */
bool snap_file_name_valid(const char *name);

/* Does `name` belong to a snapshot of this driver: one of its own, a disk, or the sidecar. */
bool snap_file_belongs(const struct hv_driver *drv, const char *name);

/* Names of the regular files of a snapshot directory that belong to it, sorted; others are left
 * out. A directory or link under such a name is CC_INVALID. */
int snap_list(const struct hv_driver *drv, const char *dir, struct cc_strv *ret,
              struct cc_err *err);

/* Copy `from` to the new file `to` (reflink, else data extents), SNAP_MODE, not synced. */
int snap_copy(const char *from, const char *to, struct cc_err *err);

/* Bring the files of directory `from` into the existing directory `to`: memory by hard link where
 * `link_memory` and the file system allow it, else by copy; the rest by copy. Not synced. */
int snap_stage(const struct hv_driver *drv, const char *from, const char *to, bool link_memory,
               struct cc_err *err);

/* fsync every file of a directory, then the directory. */
int snap_sync(const char *dir, struct cc_err *err);

/* Allocated bytes of the files in a directory. */
int snap_allocated(const char *dir, int64_t *ret, struct cc_err *err);

/* ---- sidecar.c: cocoon.json ---- */

struct snap_nic {
        char *mac;
        int64_t mtu;
};

/* The machine's disks in its own order with the paths that they had on the source, and how it
 * boots. The keys behind boot_config are ours; upstream's files lack them. */
struct snap_sidecar {
        struct record_array storage_configs; /* struct vm_disk */
        struct boot_config boot_config;
        int64_t cpu, memory;
        struct record_array nics; /* struct snap_nic */
        char *source_root_dir, *source_run_dir;
        json_t *extra; /* the driver's */
};
void snap_sidecar_clear(struct snap_sidecar *s); /* also the cleanup function */
#define SNAP_SIDECAR_CLEANUP CC_CLEANUP(snap_sidecar_clear)

/* The JSON of a VM's sidecar: `attached` names its disks as the driver reported them (paths or base
 * names). CC_INVALID when one is not in the record. New reference. */
int snap_sidecar_make(const struct config *c, const struct vm_record *vm,
                      const struct cc_strv *attached, json_t **ret, struct cc_err *err);

/*
 * Read and check a directory's cocoon.json; *ret_json (may be NULL) gets the whole document. Roles,
 * flags and names are valid, paths absolute, clean and below the root or run directory of this
 * installation or of the one it names as its source; every resident disk is a file in `dir`.
 */
int snap_sidecar_read(const struct config *c, const char *dir, struct snap_sidecar *ret,
                      json_t **ret_json, struct cc_err *err);

/*
 * The disks and boot files as they are here: layers, kernel and initrd re-derived from their
 * digests, which must be pinned by the snapshot, resident disks below `run_dir`. Nothing of the
 * source's paths but file names survives. Fills vm->storage_configs and vm->boot_config.
 */
int snap_localise(const struct config *c, const struct snapshot_record *s,
                  const struct snap_sidecar *side, const char *run_dir, struct vm_record *vm,
                  struct cc_err *err);

/* True for disks that live in the VM's own directory (cow, data, cidata). */
bool snap_disk_resident(const struct vm_disk *d);

/* ---- envelope.c: snapshot.json ---- */

struct snap_file {
        char *name;
        int64_t size; /* logical */
        char *sha256; /* of the logical content; empty: not known */
};
extern const struct record_type snap_file_type;

struct snap_envelope {
        struct snapshot_record config;
        struct record_array files; /* struct snap_file; empty: not told (upstream's) */
        bool has_files;
};
void snap_envelope_clear(struct snap_envelope *e); /* also the cleanup function */
#define SNAP_ENVELOPE_CLEANUP CC_CLEANUP(snap_envelope_clear)

#define SNAP_ENVELOPE_MAX ((size_t)16 << 20)

/* The text; `files` NULL: without. Caller frees. */
char *snap_envelope_text(const struct snapshot_record *s, const struct record_array *files);

/* Hostile text: shape, version, file list. The configuration is judged by snap_config_check(). */
int snap_envelope_parse(const char *text, size_t n, struct snap_envelope *ret, struct cc_err *err);

/* ---- dir.c: the directory form ---- */

/* Names with their logical sizes, appended to *ret (struct snap_file), also on failure. */
int snap_file_list(const char *dir, const struct cc_strv *names, struct record_array *ret,
                   struct cc_err *err);

/* Every file that the envelope lists is there, regular, and as long as it says. */
int snap_files_check(const char *dir, const struct snap_envelope *e, struct cc_err *err);

/* Write a snapshot into `dir`, which is absent or empty; snapshot.json last. */
int snap_to_dir(const struct hv_driver *drv, const struct snapshot_record *s, const char *dir,
                struct cc_err *err);

/* Open a directory as a snapshot: envelope read, file sizes compared, configuration checked. The
 * record's data_dir is the absolute path. */
int snap_from_dir(const char *dir, struct snapshot_record *ret, struct cc_err *err);
