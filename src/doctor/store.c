/* The records: is the store sound, and does the host look as it says. */
#include <sys/stat.h>

#include "base/fs.h"
#include "doctor/internal.h"
#include "gc/gc.h"

#define SHOWN_MAX 20

/* The store, if there is one; says why not. */
static int open_store(struct doctor *d, struct engine *ret, bool quiet)
{
        struct meta_open_args args = { .root_dir = d->config->root_dir,
                                       .run_dir = d->config->run_dir,
                                       .existing = true };
        struct cc_err why = CC_ERR_INIT;
        int r = meta_open(&args, &ret->meta, &why);

        ret->config = d->config;
        if (r == -CC_NOT_FOUND) {
                doctor_say(d, DOCTOR_PASS, NULL, "%s", why.msg);
                return r;
        }
        if (r < 0 && !quiet)
                doctor_say(d, DOCTOR_FAIL, *why.hint ? why.hint : NULL, "%s", why.msg);
        return r;
}

static void say_finding(void *ctx, const char *text)
{
        doctor_say(ctx, DOCTOR_FAIL, "restore a backup, or ask for help with the store", "%s",
                   text);
}

void doctor_store(struct doctor *d)
{
        ENGINE struct engine e = { 0 };
        struct cc_err why = CC_ERR_INIT;
        size_t n = 0;

        if (open_store(d, &e, false) < 0)
                return;
        if (meta_check(e.meta, say_finding, d, &n, &why) < 0)
                doctor_say(d, DOCTOR_FAIL, "restore a backup", "%s", why.msg);
        else if (n == 0)
                doctor_say(d, DOCTOR_PASS, NULL, "whole; rows, names and pins agree");
}

/* ---- the records against the host ---- */

struct walk {
        struct doctor *d;
        size_t n, wrong;
};

/* Lines beyond the bound are only counted. */
static bool shown(struct walk *w)
{
        return w->wrong++ < SHOWN_MAX;
}

static int look_at_vm(void *ctx, struct vm_record *vm, struct cc_err *err)
{
        struct walk *w = ctx;
        const char *name = cc_isempty(vm->config.name) ? vm->id : vm->config.name;

        w->n++;
        vm_present(w->d->config, vm);
        if (cc_streq(vm->state, VM_STATE_STALE) && shown(w))
                doctor_say(w->d, DOCTOR_WARN, "\"cocoon vm start\" or \"cocoon vm stop\" it",
                           "VM %s is recorded as running, but its process is gone", name);
        if (cc_streq(vm->state, vm_state_name(VM_CREATING)))
                return 0;
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *disk = vm_disk_at(vm, i);

                /* The seed goes after the first boot, its entry stays. */
                if (!cc_isempty(disk->path) && !cc_streq(disk->role, "cidata") &&
                    !cc_exists(disk->path) && shown(w))
                        doctor_say(w->d, DOCTOR_FAIL, NULL, "VM %s: its disk %s is missing", name,
                                   disk->path);
        }
        return 0;
}

static int look_at_snapshot(void *ctx, struct snapshot_record *s, struct cc_err *err)
{
        struct walk *w = ctx;
        struct stat st;

        w->n++;
        if (!s->pending && !cc_isempty(s->data_dir) &&
            (stat(s->data_dir, &st) < 0 || !S_ISDIR(st.st_mode)) && shown(w))
                doctor_say(w->d, DOCTOR_FAIL, "\"cocoon snapshot rm\" it",
                           "snapshot %s: its directory %s is missing", snapshot_label(s),
                           s->data_dir);
        return 0;
}

/* What a collection would remove is what killed commands left. */
static size_t look_for_garbage(struct doctor *d, struct engine *e)
{
        static const struct gc_options dry = {
                .dry_run = true, .quiet = true, .keep = -1, .age = -1, .size = -1
        };
        GC_REPORT struct gc_report report = { 0 };
        struct cc_err why = CC_ERR_INIT;

        if (gc_run(e, &dry, &report, &why) < 0) {
                doctor_say(d, DOCTOR_FAIL, NULL, "%s", why.msg);
                return 1;
        }
        for (size_t i = 0; i < report.n_items && i < SHOWN_MAX; i++)
                doctor_say(d, DOCTOR_WARN, "\"cocoon gc\" removes it", "%s: %s of %s",
                           report.items[i].reason, report.items[i].module, report.items[i].id);
        for (size_t i = 0; i < report.n_failures && i < SHOWN_MAX; i++)
                doctor_say(d, DOCTOR_WARN, NULL, "%s %s: %s", report.failures[i].module,
                           report.failures[i].id, report.failures[i].error);
        return report.n_items + report.n_failures;
}

void doctor_consistency(struct doctor *d)
{
        ENGINE struct engine e = { 0 };
        struct walk vms = { .d = d };
        struct walk snapshots = { .d = d };
        struct cc_err why = CC_ERR_INIT;
        size_t garbage;
        int r = open_store(d, &e, true);

        if (r == 0)
                r = meta_vm_each(e.meta, look_at_vm, &vms, &why);
        if (r == 0)
                r = meta_snapshot_each(e.meta, look_at_snapshot, &snapshots, &why);
        if (r == -CC_NOT_FOUND && !e.meta)
                return;
        if (r < 0) {
                doctor_say(d, DOCTOR_FAIL, NULL, "the records cannot be read%s%s",
                           *why.msg ? ": " : "", why.msg);
                return;
        }
        garbage = look_for_garbage(d, &e);
        if (vms.wrong + snapshots.wrong > SHOWN_MAX || garbage > SHOWN_MAX)
                doctor_say(d, DOCTOR_WARN, NULL, "%zu findings in all; only the first are shown",
                           vms.wrong + snapshots.wrong + garbage);
        else if (vms.wrong + snapshots.wrong + garbage == 0)
                doctor_say(d, DOCTOR_PASS, NULL, "%zu VMs and %zu snapshots are as recorded", vms.n,
                           snapshots.n);
}
