/*
 * Snapshots out of and into the store (state.md §5).
 *
 * Import:
 *   I1  gzip recognised, snapshot.json read and judged, name checked: nothing exists yet
 *   I2  fresh ID, build lease, durable pending row
 *   I3  files extracted, holes kept, synced
 *   I4  sizes, sidecar, the driver's own check
 *   I5  durable: complete
 *
 * Killed in between, a pending row with a free lease is left, for gc or whoever wants its name.
 * Export writes beside its target and renames; a killed one leaves FILE.partial.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "snap/archive.h"
#include "vm/revive.h"
#include "vm/transfer.h"

static int open_module(const struct snap_module **ret, struct cc_err *err)
{
        const void *opened;
        int r = cc_module_open("snap", &opened, err);

        if (r < 0)
                return r;
        *ret = opened;
        return 0;
}

/* ---- export ---- */

static int touch(struct engine *e, const char *id, struct cc_err *err)
{
        int r = meta_begin(e->meta, META_DURABLE, err);

        if (r < 0)
                return r;
        r = meta_snapshot_touch(e->meta, id, cc_now(), err);
        if (r < 0) {
                meta_rollback(e->meta);
                return r;
        }
        return meta_commit(e->meta, err);
}

/* Names may hold what a file name cannot, or would mean a directory. */
static char *default_file(const struct snapshot_record *s, bool gzip)
{
        char *name = xasprintf("%s.tar%s", snapshot_label(s), gzip ? ".gz" : "");

        for (char *p = name; *p; p++)
                if (*p == '/' || *p == ':')
                        *p = '-';
        return name;
}

static int write_to(const struct snap_export *x, struct cc_err *err)
{
        const struct snap_module *module = NULL;
        int r = open_module(&module, err);

        return r < 0 || !module ? r : module->write(x, err);
}

static int write_file(struct snap_export *x, const char *file, struct cc_err *err)
{
        CC_FREE char *partial = xasprintf("%s.partial", file);
        CC_CLOSE int fd =
                open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", partial);
        x->fd = fd;
        r = write_to(x, err);
        if (r == 0)
                r = cc_failpoint("export.partial", err);
        if (r == 0)
                r = cc_publish_file(partial, file, false, err);
        if (r < 0)
                (void)unlink(partial);
        return r;
}

int vm_snapshot_export(struct engine *e, const struct vm_export_request *req, char **ret_file,
                       struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct snap_env env = vm_snap_env(e);
        struct cc_err why = CC_ERR_INIT;
        CC_FREE char *file = NULL;
        CC_CLOSE int lease = -1;
        struct snap_export x = {
                .rec = &s, .gzip = req->gzip, .progress = req->progress, .ctx = req->ctx
        };
        int r = snap_open(&env, req->snapshot, "snapshot.export", &s, &lease, err);

        if (r == 0)
                r = hv_driver_find(s.hypervisor, &x.drv, err);
        if (r == 0)
                r = hv_require(x.drv, HV_CAP_SNAPSHOT, "snapshots", err);
        if (r < 0)
                return r;
        if (!cc_isempty(req->to_dir)) {
                file = xstrdup(req->to_dir);
                r = snap_to_dir(x.drv, &s, req->to_dir, err);
        } else if (cc_streq(req->output, "-")) {
                file = xstrdup("-");
                x.fd = STDOUT_FILENO;
                r = write_to(&x, err);
        } else {
                file = cc_isempty(req->output) ? default_file(&s, req->gzip) : xstrdup(req->output);
                r = write_file(&x, file, err);
        }
        if (r < 0)
                return cc_wrap(err, "export %s", req->snapshot);
        /* The archive is complete; that its use was not noted harms nobody. */
        if (touch(e, s.id, &why) < 0)
                cc_warn("snapshot.export", "%s", why.msg);
        *ret_file = TAKE_PTR(file);
        return 0;
}

/* ---- import ---- */

struct import {
        struct engine *e;
        const struct vm_import_request *req;
        const struct snap_module *module;
        struct snap_reader *reader;
        struct snapshot_record rec;
        const struct hv_driver *drv; /* NULL: not known before the files are read */
        int lease;
};

static void import_clear(struct import *i)
{
        if (i->module)
                i->module->close(i->reader);
        snapshot_record_clear(&i->rec);
        if (i->lease >= 0)
                close(i->lease);
}

/* The name it shall have: the user's, else its own, which upstream may have chosen freely. */
static int check_name(struct import *i, struct cc_err *err)
{
        const char *name = cc_isempty(i->req->name) ? i->rec.name : i->req->name;
        struct snap_env env = vm_snap_env(i->e);
        char holder[27];
        bool pending = false;
        int r;

        if (i->lease >= 0)
                return 0; /* reserved already: the last commit checks what is left */
        if (!cc_isempty(i->req->name))
                return snap_name_free(&env, name, err);
        if (cc_isempty(name))
                return 0;
        if (strlen(name) > 255)
                return cc_fail(err, CC_INVALID, "snapshot name is longer than 255 bytes");
        for (const char *p = name; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return cc_fail(err, CC_INVALID, "snapshot name has control characters");
        r = meta_snapshot_holder(i->e->meta, name, holder, &pending, err);
        if (r > 0 && pending)
                return 0; /* reserving settles that */
        if (r <= 0)
                return r;
        r = cc_fail(err, CC_CONFLICT, "snapshot name \"%s\" already in use by %s", name, holder);
        cc_code(err, "snapshot_name_taken");
        return r;
}

/* What the envelope says, made ours: judged, with a name and ID of this store. */
static int adopt(struct import *i, const struct snap_envelope *e, struct cc_err *err)
{
        const struct vm_import_request *req = i->req;
        int r;

        record_copy(&snapshot_record_type, &i->rec, &e->config);
        cc_strset(&i->rec.id, NULL);
        r = snap_config_check(&i->rec, err);
        if (r == 0)
                r = hv_driver_find(i->rec.hypervisor, &i->drv, err);
        if (r == 0)
                r = hv_require(i->drv, HV_CAP_SNAPSHOT, "snapshots", err);
        if (r == 0)
                r = check_name(i, err);
        if (r < 0)
                return r;
        cc_strset(&i->rec.hypervisor, i->drv->name);
        if (!cc_isempty(req->name))
                cc_strset(&i->rec.name, req->name);
        if (!cc_isempty(req->description))
                cc_strset(&i->rec.description, req->description);
        return 0;
}

/* I1. */
static int begin(struct import *i, struct cc_err *err)
{
        const struct snap_envelope *envelope;
        int r = open_module(&i->module, err);

        if (r < 0 || !i->module)
                return r;
        r = i->module->open(i->req->fd, i->req->progress, i->req->ctx, &i->reader, err);
        if (r < 0)
                return r;
        envelope = i->module->envelope(i->reader);
        if (envelope)
                r = adopt(i, envelope, err);
        else if (!cc_isempty(i->req->name))
                cc_strset(&i->rec.name, i->req->name);
        return r < 0 ? r : cc_failpoint("import.I1", err);
}

/* I3. */
static int extract(struct import *i, struct cc_err *err)
{
        int r;

        if (mkdir(i->rec.data_dir, 0750) < 0)
                return cc_fail_errno(err, errno, "create directory %s", i->rec.data_dir);
        r = i->module->extract(i->reader, i->drv, i->rec.data_dir, err);
        if (r == 0)
                r = snap_sync(i->rec.data_dir, err);
        return r < 0 ? r : cc_failpoint("import.I3", err);
}

/* The envelope came last: now the record can be filled, and what does not belong goes. */
static int adopt_late(struct import *i, struct cc_err *err)
{
        CC_FREE char *id = xstrdup(i->rec.id);
        CC_FREE char *dir = xstrdup(i->rec.data_dir);
        CC_DIR DIR *d = NULL;
        struct dirent *e;
        int r = adopt(i, i->module->envelope(i->reader), err);

        cc_strset(&i->rec.id, id);
        cc_strset(&i->rec.data_dir, dir);
        i->rec.pending = true;
        if (r < 0)
                return r;
        d = opendir(dir);
        while (d && (e = readdir(d)))
                if (snap_file_name_valid(e->d_name) && !snap_file_belongs(i->drv, e->d_name)) {
                        cc_warn("snapshot.import",
                                "archive member %s does not belong here: skipped", e->d_name);
                        (void)unlinkat(dirfd(d), e->d_name, 0);
                }
        return 0;
}

/* I4. */
static int verify(struct import *i, struct cc_err *err)
{
        const struct snap_envelope *envelope = i->module->envelope(i->reader);
        REVIVAL struct revival rev = REVIVAL_INIT;
        int r = snap_files_check(i->rec.data_dir, envelope, err);

        if (r < 0)
                return r;
        rev.drv = i->drv;
        vm_hv_env(i->e->config, i->drv, &rev.env);
        record_copy(&snapshot_record_type, &rev.rec, &i->rec);
        r = revival_judge(i->e, &rev, err);
        return r < 0 ? r : cc_failpoint("import.I4", err);
}

/* I5. */
static int finalize(struct import *i, struct cc_err *err)
{
        int64_t bytes = 0;
        int r = snap_allocated(i->rec.data_dir, &bytes, err);

        if (r == 0 && cc_interrupted())
                r = cc_fail(err, CC_CANCELED, "interrupted");
        if (r == 0)
                r = meta_begin(i->e->meta, META_DURABLE, err);
        if (r < 0)
                return r;
        i->rec.last_accessed_at = i->rec.created_at;
        r = snap_finalize(i->e->meta, &i->rec, bytes, err);
        if (r < 0) {
                meta_rollback(i->e->meta);
                return r;
        }
        return meta_commit(i->e->meta, err);
}

static int steps(struct import *i, struct cc_err *err)
{
        int r = cc_failpoint("import.I2", err);

        if (r == 0)
                r = extract(i, err);
        if (r == 0 && !i->drv)
                r = adopt_late(i, err);
        if (r == 0)
                r = verify(i, err);
        return r < 0 ? r : finalize(i, err);
}

int vm_snapshot_import(struct engine *e, const struct vm_import_request *req,
                       struct snapshot_record *ret, struct cc_err *err)
{
        CC_CLEANUP(import_clear) struct import i = { .e = e, .req = req, .lease = -1 };
        struct snap_env env = vm_snap_env(e);
        int r = begin(&i, err);

        if (r == 0)
                r = snap_reserve(&env, "snapshot.import", &i.rec, &i.lease, err);
        if (r < 0)
                return r;
        r = steps(&i, err);
        if (r < 0) {
                snap_discard(&env, &i.rec);
                return r;
        }
        r = cc_failpoint("import.I5", err);
        if (r < 0)
                return r;
        *ret = i.rec;
        i.rec = (struct snapshot_record)SNAPSHOT_RECORD_INIT;
        return 0;
}
