/*
 * Snapshot rows and who may touch them.
 *
 * One lock file per snapshot. Its maker holds it exclusively from before the pending row to after
 * the last commit (the build lease); readers (clone, restore, export) hold it shared; removal takes
 * it exclusively. Hence: pending and lease free means abandoned, with no guessing by age. Removal
 * is a tombstone, committed before the first file goes: it is rolled forward, never back.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "snap/snap.h"

#define TOMBSTONE_SNAPSHOT "snapshot"

static int lease(const struct snap_env *env, const char *id, enum cc_lock_mode mode, const char *op,
                 int *ret, struct cc_err *err)
{
        CC_FREE char *path = layout_snap_lock(env->config, id);
        int64_t deadline = 0;

        if (env->lock_timeout_ms > 0)
                deadline = cc_monotonic() + env->lock_timeout_ms * CC_NSEC_PER_MSEC;
        return cc_lock(path, mode, op, deadline, ret, err);
}

static int try_lease(const struct snap_env *env, const char *id, const char *op, int *ret,
                     struct cc_err *err)
{
        CC_FREE char *path = layout_snap_lock(env->config, id);

        return cc_lock_try(path, CC_LOCK_EXCLUSIVE, op, ret, err);
}

/* Only a directory that carries the snapshot's own ID is ever removed. */
static int remove_dir(const char *id, const char *dir, struct cc_err *err)
{
        if (cc_isempty(dir))
                return 0;
        if (!cc_id_valid(id) || !cc_streq(cc_basename(dir), id))
                return cc_fail(err, CC_CORRUPT,
                               "snapshot %s: refusing to remove %s, which is not its directory", id,
                               dir);
        return cc_rm_rf(dir, err);
}

static int delete_row(struct meta *m, const char *id, struct cc_err *err)
{
        int r = meta_begin(m, META_DURABLE, err);

        if (r < 0)
                return r;
        r = meta_snapshot_delete(m, id, err);
        if (r == 0)
                r = meta_tombstone_delete(m, TOMBSTONE_SNAPSHOT, id, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

int snap_collect_pending(const struct snap_env *env, const char *id, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct cc_err why = CC_ERR_INIT;
        CC_CLOSE int fd = -1;
        int r = try_lease(env, id, "snapshot.collect", &fd, &why);

        if (r == -CC_BUSY)
                return 0;
        if (r == 0)
                r = meta_snapshot_get(env->meta, id, &s, &why);
        if (r == -CC_NOT_FOUND || (r == 0 && !s.pending))
                return 0;
        if (r < 0)
                return cc_err_copy(err, &why);
        r = remove_dir(id, s.data_dir, err);
        if (r == 0)
                r = delete_row(env->meta, id, err);
        if (r < 0)
                return cc_wrap(err, "remove abandoned snapshot %s", id);
        cc_info("snapshot", "removed the abandoned snapshot %s", id);
        return 1;
}

/* 1: the name was held by an abandoned build, which is gone now; 0: it is held in earnest. */
static int free_name(const struct snap_env *env, const char *name, struct cc_err *err)
{
        char holder[CC_ID_LEN + 1];
        bool pending = false;
        int r = meta_snapshot_holder(env->meta, name, holder, &pending, err);

        if (r < 0)
                return r;
        if (r == 0)
                return 1;
        return pending ? snap_collect_pending(env, holder, err) : 0;
}

int snap_name_free(const struct snap_env *env, const char *name, struct cc_err *err)
{
        int r;

        if (cc_isempty(name))
                return 0;
        if (!cc_snapshot_name_valid(name))
                return cc_fail(err, CC_INVALID,
                               "invalid snapshot name \"%s\": want "
                               "^[a-zA-Z0-9][a-zA-Z0-9._:/-]{0,254}$",
                               name);
        r = free_name(env, name, err);
        if (r != 0)
                return r < 0 ? r : 0;
        r = cc_fail(err, CC_CONFLICT, "snapshot name \"%s\" already exists", name);
        cc_code(err, "snapshot_name_taken");
        return r;
}

static int insert(struct meta *m, struct snapshot_record *s, struct cc_err *err)
{
        int r = meta_begin(m, META_DURABLE, err);

        if (r < 0)
                return r;
        r = meta_snapshot_insert(m, s, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

int snap_reserve(const struct snap_env *env, const char *op, struct snapshot_record *s,
                 int *ret_lease, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        CC_CLOSE int fd = -1;
        char id[CC_ID_LEN + 1];
        int r;

        cc_id_new(id);
        cc_strset(&s->id, id);
        free(s->data_dir);
        s->data_dir = layout_snapshot_dir(env->config, id);
        s->pending = true;
        r = lease(env, id, CC_LOCK_EXCLUSIVE, op, &fd, err);
        if (r < 0)
                return r;
        r = insert(env->meta, s, &why);
        if (r < 0 && cc_streq(why.code, "snapshot_name_taken")) {
                int freed = free_name(env, s->name, err);

                if (freed < 0)
                        return freed;
                if (freed) {
                        why = (struct cc_err)CC_ERR_INIT;
                        r = insert(env->meta, s, &why);
                }
        }
        if (r < 0)
                return cc_err_copy(err, &why);
        *ret_lease = TAKE_FD(fd);
        return 0;
}

void snap_discard(const struct snap_env *env, const struct snapshot_record *s)
{
        struct cc_err err = CC_ERR_INIT;
        int r;

        cc_uninterruptible_begin();
        r = remove_dir(s->id, s->data_dir, &err);
        if (r == 0)
                r = delete_row(env->meta, s->id, &err);
        if (r < 0)
                cc_warn("snapshot", "remove unfinished snapshot %s: %s", s->id, err.msg);
        cc_uninterruptible_end();
}

int snap_finalize(struct meta *m, struct snapshot_record *s, int64_t bytes, struct cc_err *err)
{
        s->pending = false;
        s->bytes = bytes;
        return meta_snapshot_update(m, s, err);
}

static int note_tombstone(void *ctx, const struct tombstone *t, struct cc_err *err)
{
        *(bool *)ctx = t->phase == TOMBSTONE_DELETING;
        return 0;
}

int snap_open(const struct snap_env *env, const char *ref, const char *op,
              struct snapshot_record *ret, int *ret_lease, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        CC_CLOSE int fd = -1;
        char id[CC_ID_LEN + 1];
        bool dying = false;
        int r = meta_snapshot_resolve(env->meta, ref, false, id, err);

        if (r == 0)
                r = lease(env, id, CC_LOCK_SHARED, op, &fd, err);
        /* Again, now that nobody can remove it. */
        if (r == 0)
                r = meta_snapshot_get(env->meta, id, &s, err);
        if (r == 0)
                r = meta_tombstone_get(env->meta, TOMBSTONE_SNAPSHOT, id, note_tombstone, &dying,
                                       err);
        if (r < 0)
                return r;
        if (dying || s.pending)
                return cc_fail(err, CC_CONFLICT,
                               "snapshot %s is being removed: finish with \"cocoon snapshot rm\"",
                               id);
        *ret = s;
        s = (struct snapshot_record)SNAPSHOT_RECORD_INIT;
        *ret_lease = TAKE_FD(fd);
        return 0;
}

/* The point of no return. A tombstone that is there already is ours to finish: we hold the lease.
 */
static int bury(struct meta *m, const struct snapshot_record *s, struct cc_err *err)
{
        CC_JSON json_t *payload =
                json_pack("{s:s, s:s}", "id", s->id, "data_dir", s->data_dir ? s->data_dir : "");
        CC_FREE char *text = cc_json_compact(payload);
        char lease_id[CC_ID_LEN + 1];
        struct tombstone t = {
                .kind = TOMBSTONE_SNAPSHOT,
                .id = s->id,
                .lease_id = lease_id,
                .phase = TOMBSTONE_DELETING,
                .leased_at = cc_now(),
                .payload = text,
        };
        bool there = false;
        int r;

        cc_id_new(lease_id);
        r = meta_begin(m, META_DURABLE, err);
        if (r < 0)
                return r;
        r = meta_tombstone_get(m, TOMBSTONE_SNAPSHOT, s->id, note_tombstone, &there, err);
        if (r == 0 && !there) {
                /* One that was only leased decided nothing, and its holder is dead. */
                r = meta_tombstone_delete(m, TOMBSTONE_SNAPSHOT, s->id, err);
                if (r == 0)
                        r = meta_tombstone_put(m, &t, err);
        }
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

int snap_rm(const struct snap_env *env, const char *id, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct cc_err why = CC_ERR_INIT;
        CC_CLOSE int fd = -1;
        int r = try_lease(env, id, "snapshot.rm", &fd, &why);

        if (r == -CC_BUSY)
                return cc_fail(err, CC_BUSY,
                               "snapshot %s is in use by an active clone/restore/export", id);
        if (r < 0)
                return cc_err_copy(err, &why);
        r = meta_snapshot_get(env->meta, id, &s, err);
        if (r == 0)
                r = bury(env->meta, &s, err);
        if (r == 0)
                r = cc_failpoint("snapshot_rm.tombstone", err);
        if (r < 0)
                return r;
        cc_uninterruptible_begin();
        r = remove_dir(id, s.data_dir, err);
        if (r == 0)
                r = cc_failpoint("snapshot_rm.dir", err);
        if (r == 0)
                r = delete_row(env->meta, id, err);
        if (r == 0)
                r = cc_failpoint("snapshot_rm.done", err);
        cc_uninterruptible_end();
        return r;
}
