/*
 * The store (state.md §2): one SQLite database in WAL mode. A transaction holds only database work:
 * no file I/O, no child process, no lock but the writer flock that it takes itself. One struct meta
 * belongs to one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "model/image.h"
#include "model/snapshot.h"
#include "model/vm.h"

struct meta;

struct meta_open_args {
        const char *root_dir;
        const char *run_dir;
        int64_t busy_timeout_ms; /* 0: 30 s */
        bool existing;           /* make nothing: NOT_FOUND where a new store would be made */
};

/* Open, creating the store where state.md §2 allows it; fails closed otherwise: SCHEMA (another
 * store, another version, an upstream root to import), CORRUPT (damaged, or missing although VMs,
 * snapshots or images exist), UNSUPPORTED (file system), DENIED, BUSY, IO. Many threads may each
 * open their own; fork before opening, not after. */
int meta_open(const struct meta_open_args *args, struct meta **ret, struct cc_err *err);
void meta_close(struct meta *m);   /* NULL is fine; rolls back */
void meta_closep(struct meta **m); /* cleanup function */
#define META CC_CLEANUP(meta_closep)

enum meta_tx {
        META_READ,    /* deferred: one consistent snapshot */
        META_DURABLE, /* BEGIN IMMEDIATE behind the writer lock, synchronous FULL */
        META_RELAXED, /* same with NORMAL: only the creating placeholder and network intents */
};

/* Transactions do not nest. begin: BUSY after the deadline, CANCELED on a signal. */
int meta_begin(struct meta *m, enum meta_tx tx, struct cc_err *err);
int meta_commit(struct meta *m, struct cc_err *err); /* on failure the transaction is rolled back */
void meta_rollback(struct meta *m);                  /* no-op when none is open */

/* ---- VMs. Reads work inside or outside a transaction; writes need a write transaction. ---- */

/* Insert a new row (state creating). CONFLICT: name taken (`vm name "X" already exists (id: ..)`,
 * code "name_taken"), 8-character prefix taken (code "id8_taken": draw another ID), or a tombstone
 * on the ID or on a pinned blob. Sets created_at/updated_at/transition fields in *vm. */
int meta_vm_insert(struct meta *m, struct vm_record *vm, struct cc_err *err);

/* Replace an existing row and its derived columns and child rows; ++seq. NOT_FOUND when it is gone.
 * Sets updated_at; with `reason` also transition_generation+1, last_transition_reason and _at. */
int meta_vm_update(struct meta *m, struct vm_record *vm, const char *reason, struct cc_err *err);

/* By exact ID. NOT_FOUND: `vm <id>: vm not found`, code "vm_not_found". */
int meta_vm_get(struct meta *m, const char *id, struct vm_record *ret, struct cc_err *err);

/* Exact ID > exact name > unique ID prefix of >= 3. NOT_FOUND `vm <ref>: vm not found` (hint:
 * closest name), AMBIGUOUS `ambiguous ref "X": multiple matches`. */
int meta_vm_resolve(struct meta *m, const char *ref, char ret_id[27], struct cc_err *err);

/* All rows by creation time, as of one moment. The callback owns nothing and may use the store; a
 * non-zero return stops and is returned. A damaged row is an error that names it. */
typedef int (*meta_vm_fn)(void *ctx, struct vm_record *vm, struct cc_err *err);
int meta_vm_each(struct meta *m, meta_vm_fn fn, void *ctx, struct cc_err *err);

/* The same without disks, boot files, pins, snapshots and unknown keys: for tables of very many. */
int meta_vm_each_brief(struct meta *m, meta_vm_fn fn, void *ctx, struct cc_err *err);

/* Names of all VMs whose name starts with prefix, sorted; at most `limit`. */
int meta_vm_names(struct meta *m, const char *prefix, size_t limit, struct cc_strv *ret,
                  struct cc_err *err);

/* For completion: the same of the VMs in one state; and their IDs that start with prefix. */
int meta_vm_names_in_state(struct meta *m, const char *state, const char *prefix, size_t limit,
                           struct cc_strv *ret, struct cc_err *err);
int meta_vm_ids_like(struct meta *m, const char *state, const char *prefix, size_t limit,
                     struct cc_strv *ret, struct cc_err *err);

/* IDs of all VMs, and of one driver's in one state, sorted bytewise. */
int meta_vm_ids(struct meta *m, struct cc_strv *ret, struct cc_err *err);
int meta_vm_ids_in_state(struct meta *m, const char *driver, const char *state, struct cc_strv *ret,
                         struct cc_err *err);
/* IDs of one driver's VMs whose hibernation may not be finished; ask the record. */
int meta_vm_ids_hibernating(struct meta *m, const char *driver, struct cc_strv *ret,
                            struct cc_err *err);
int meta_vm_exists(struct meta *m, const char *id, bool *ret, struct cc_err *err);

/* Delete the row; leaves a vm_gone row for watchers. Absent is fine. */
int meta_vm_delete(struct meta *m, const char *id, struct cc_err *err);

/* ---- Images ---- */

/* Insert or replace one ref record; refs to one digest share the images row, and a digest without
 * refs goes. `blobs` = hex pins of the digest, replacing earlier ones. CONFLICT, code
 * "being_removed": a tombstone is on one of them. */
int meta_image_put(struct meta *m, const char *kind, const struct image_record *image,
                   const struct cc_strv *blobs, struct cc_err *err);

typedef int (*meta_image_fn)(void *ctx, const char *kind, struct image_record *image,
                             struct cc_err *err);
/* Every ref record, by kind then created_at. kind NULL: both. */
int meta_image_each(struct meta *m, const char *kind, meta_image_fn fn, void *ctx,
                    struct cc_err *err);
/* By exact ref key. NOT_FOUND without text when absent. */
int meta_image_get(struct meta *m, const char *kind, const char *ref, struct image_record *ret,
                   struct cc_err *err);
int meta_image_ref_delete(struct meta *m, const char *kind, const char *ref, struct cc_err *err);

/* Does an image, a VM or a snapshot pin the blob? */
int meta_blob_pinned(struct meta *m, const char *hex, bool *ret, struct cc_err *err);

/* IDs of snapshots, all or the unfinished ones, sorted bytewise. */
int meta_snapshot_ids(struct meta *m, bool pending_only, struct cc_strv *ret, struct cc_err *err);

/* When finished snapshots were used last, the most recent first; no record is parsed. */
struct meta_snapshot_use {
        const char *id, *name; /* name "" none */
        int64_t bytes, accessed_at /* 0 never */, created_at;
};
typedef void (*meta_snapshot_use_fn)(void *ctx, const struct meta_snapshot_use *use);
int meta_snapshot_uses(struct meta *m, meta_snapshot_use_fn fn, void *ctx, struct cc_err *err);

/* For completion: names and IDs of finished snapshots that start with prefix, sorted, at most
 * `limit`; `unnamed`: of those only that have no name. */
int meta_snapshot_names(struct meta *m, const char *prefix, size_t limit, struct cc_strv *ret,
                        struct cc_err *err);
int meta_snapshot_ids_like(struct meta *m, const char *prefix, bool unnamed, size_t limit,
                           struct cc_strv *ret, struct cc_err *err);

/* ---- Snapshots ---- */

/* Insert a new row, usually pending. CONFLICT: `snapshot name "X" already in use by <id>` (code
 * "snapshot_name_taken"), or a tombstone on the ID or on a pinned blob. Sets created_at unless the
 * record brings one. */
int meta_snapshot_insert(struct meta *m, struct snapshot_record *s, struct cc_err *err);

/* Replace an existing row and what derives from it. NOT_FOUND when it is gone; name as above. */
int meta_snapshot_update(struct meta *m, const struct snapshot_record *s, struct cc_err *err);

/* By exact ID, pending or not. NOT_FOUND `snapshot not found`, code "snapshot_not_found". */
int meta_snapshot_get(struct meta *m, const char *id, struct snapshot_record *ret,
                      struct cc_err *err);

/* Exact ID > exact name > unique ID prefix of >= 3. Pending rows only with `pending`. NOT_FOUND
 * `snapshot not found` (hint: closest name), AMBIGUOUS. */
int meta_snapshot_resolve(struct meta *m, const char *ref, bool pending, char ret_id[27],
                          struct cc_err *err);

/* Who holds a name: 1 and the ID (*ret_pending may be NULL), 0 nobody. */
int meta_snapshot_holder(struct meta *m, const char *name, char ret_id[27], bool *ret_pending,
                         struct cc_err *err);

typedef int (*meta_snapshot_fn)(void *ctx, struct snapshot_record *s, struct cc_err *err);
/* All rows, pending ones too, by creation time. */
int meta_snapshot_each(struct meta *m, meta_snapshot_fn fn, void *ctx, struct cc_err *err);

/* Note a use, for eviction. A snapshot that is gone is fine. */
int meta_snapshot_touch(struct meta *m, const char *id, int64_t when, struct cc_err *err);

/* Delete the row with its pins, and take its ID out of every VM record. Absent is fine. */
int meta_snapshot_delete(struct meta *m, const char *id, struct cc_err *err);

/* ---- Network index rows (network.md §1) ---- */
struct meta_network {
        char *id, *type, *vm_id, *if_name;
        struct nic_network *network;
};
/* Insert, or replace the row of that id. CONFLICT: another row has this NIC. */
int meta_network_put(struct meta *m, const struct meta_network *row, struct cc_err *err);
typedef int (*meta_network_fn)(void *ctx, const struct meta_network *row, struct cc_err *err);
int meta_network_each(struct meta *m, const char *vm_id, meta_network_fn fn, void *ctx,
                      struct cc_err *err); /* vm_id NULL: all */
/* Delete one row, with if_name NULL all of the VM; absent is fine. */
int meta_network_delete(struct meta *m, const char *vm_id, const char *if_name, struct cc_err *err);

/* ---- Tombstones ---- */
enum tombstone_phase { TOMBSTONE_LEASED, TOMBSTONE_DELETING };
struct tombstone {
        const char *kind; /* "vm", "snapshot", "network", "blob", "dir" */
        const char *id;
        const char *lease_id;
        enum tombstone_phase phase;
        int64_t leased_at;
        const char *payload; /* JSON text */
};
/* Insert; the holder of the same lease_id may replace phase and payload. CONFLICT: another's. */
int meta_tombstone_put(struct meta *m, const struct tombstone *t, struct cc_err *err);
typedef int (*meta_tombstone_fn)(void *ctx, const struct tombstone *t, struct cc_err *err);
int meta_tombstone_get(struct meta *m, const char *kind, const char *id, meta_tombstone_fn fn,
                       void *ctx,
                       struct cc_err *err); /* fn is called at most once; 0 also when absent */
int meta_tombstone_each(struct meta *m, meta_tombstone_fn fn, void *ctx, struct cc_err *err);
int meta_tombstone_delete(struct meta *m, const char *kind, const char *id, struct cc_err *err);

/* ---- Watchers and maintenance ---- */

/*
 * Is the store sound: the file's own structure, foreign keys, and whether columns and child rows
 * say what the records say. Each finding goes to fn as one line, at most 20 of a kind; *ret_n is
 * how many there were. Errors: the check itself failed.
 */
typedef void (*meta_finding_fn)(void *ctx, const char *text);
int meta_check(struct meta *m, meta_finding_fn fn, void *ctx, size_t *ret_n, struct cc_err *err);

/* The current change number: every write of a VM row takes the next one. */
int meta_seq(struct meta *m, int64_t *ret, struct cc_err *err);
typedef int (*meta_gone_fn)(void *ctx, const char *id, const char *name, struct cc_err *err);
/* VM rows with seq > since, then deletions; *ret_complete false: `since` is older than what is
 * kept. */
int meta_changes(struct meta *m, int64_t since, meta_vm_fn changed, meta_gone_fn gone, void *ctx,
                 bool *ret_complete, struct cc_err *err);

/* Copy the store to the file `dest` while others use it: verified, then renamed into place, 0600.
 * An earlier `dest` is valid until then. Putting the copy back as meta.db (without -wal) restores
 * it. */
int meta_backup(struct meta *m, const char *dest, struct cc_err *err);
