/* cocoon gc */
#include <string.h>

#include "base/size.h"
#include "base/timeutil.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "gc/gc.h"

struct options {
        struct output_flags out;
        struct gc_options gc;
};

static void print_json(const struct gc_report *report, bool dry_run)
{
        json_t *root = json_object();
        json_t *collected = json_array();
        json_t *failures = json_array();

        for (size_t i = 0; i < report->n_items; i++) {
                const struct gc_item *it = &report->items[i];

                json_t *item = json_pack("{s:s, s:o, s:s, s:I}", "module", it->module, "id",
                                         out_string(it->id), "reason", it->reason, "bytes",
                                         (json_int_t)it->bytes);

                if (it->would)
                        json_object_set_new(item, "dry_run", json_true());
                json_array_append_new(collected, item);
        }
        for (size_t i = 0; i < report->n_failures; i++) {
                const struct gc_failure *f = &report->failures[i];

                json_array_append_new(failures,
                                      json_pack("{s:s, s:o, s:o}", "module", f->module, "id",
                                                out_string(f->id), "error", out_string(f->error)));
        }
        json_object_set_new(root, "collected", collected);
        json_object_set_new(root, "failures", failures);
        json_object_set_new(root, "duration_ms", json_integer(report->duration / CC_NSEC_PER_MSEC));
        if (dry_run)
                json_object_set_new(root, "dry_run", json_true());
        if (report->busy)
                json_object_set_new(root, "busy", json_true());
        out_json(root);
}

/* "qemu=1 oci=2": items come module by module. */
static void counts(const struct gc_report *report, struct cc_buf *ret)
{
        for (size_t i = 0; i < report->n_items;) {
                const char *module = report->items[i].module;
                size_t n = 0;

                while (i < report->n_items && strcmp(report->items[i].module, module) == 0) {
                        n++;
                        i++;
                }
                cc_buf_printf(ret, "%s=%zu ", module, n);
        }
        if (report->n_items == 0)
                cc_buf_str(ret, "nothing to collect ");
}

/* A criterion that was not given judges nothing. */
static int check_criterion(const struct cli *cli, const struct options *o, const char *name,
                           int64_t *value, struct cc_err *err)
{
        if (!opt_given(&cli->set, name)) {
                *value = -1;
                return 0;
        }
        if (!o->gc.snapshots)
                return cc_fail(err, CC_USAGE, "--%s requires --snapshot", name);
        if (*value < 0)
                return cc_fail(err, CC_USAGE, "--%s must not be negative", name);
        return 0;
}

static int check(const struct cli *cli, struct options *o, struct cc_err *err)
{
        int r = check_criterion(cli, o, "snapshot-keep", &o->gc.keep, err);

        if (r == 0)
                r = check_criterion(cli, o, "snapshot-age", &o->gc.age, err);
        if (r == 0)
                r = check_criterion(cli, o, "snapshot-size", &o->gc.size, err);
        if (r == 0 && o->gc.snapshots_dry_run && !o->gc.snapshots)
                r = cc_fail(err, CC_USAGE, "--snapshot-dry-run requires --snapshot");
        return r;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        ENGINE struct engine e = { 0 };
        GC_REPORT struct gc_report report = { 0 };
        CC_BUF struct cc_buf summary = { 0 };
        int r;

        cli->quiet_log = output_is_json(&o->out);
        r = check(cli, o, err);
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0)
                r = gc_run(&e, &o->gc, &report, err);
        if (r < 0)
                return r;
        counts(&report, &summary);
        if (report.busy)
                cli_success(cli, "gc.Run", "another gc is running; nothing to do");
        else
                cli_success(cli, "gc.Run", "completed: %s(failures: %zu, duration: %lld ms)",
                            summary.data, report.n_failures,
                            (long long)(report.duration / CC_NSEC_PER_MSEC));
        if (output_is_json(&o->out))
                print_json(&report, o->gc.dry_run);
        for (size_t i = 0; i < report.n_failures; i++)
                cli_item_add(cli, report.failures[i].id, report.failures[i].error);
        if (report.n_failures == 0)
                return 0;
        cli->items_verb = "gc";
        return cc_fail(err, CC_PARTIAL, "gc: %zu of %zu failed", report.n_failures,
                       report.n_failures + report.n_items);
}

static const struct opt rows[] = {
        { .name = "dry-run",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, gc.dry_run),
          .help = "show what would be removed, change nothing" },
        { .name = "snapshot",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, gc.snapshots),
          .help = "also remove snapshots: all, or those that fail one of the following" },
        { .name = "snapshot-keep",
          .type = OPT_INT,
          .offset = offsetof(struct options, gc.keep),
          .metavar = "N",
          .help = "this many of the last used stay" },
        { .name = "snapshot-age",
          .type = OPT_DURATION,
          .offset = offsetof(struct options, gc.age),
          .metavar = "DURATION",
          .help = "those used within this time stay" },
        { .name = "snapshot-size",
          .type = OPT_SIZE,
          .offset = offsetof(struct options, gc.size),
          .metavar = "SIZE",
          .help = "the last used stay as far as they fit into this size" },
        { .name = "snapshot-dry-run",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, gc.snapshots_dry_run),
          .help = "show which snapshots would go, and collect everything else" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_json_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_gc = {
        .path = "gc",
        .args = "",
        .min = 0,
        .max = 0,
        .help = "Remove what nothing uses any more",
        .long_help =
                "Layers and cloud images without an image, VM or snapshot; what interrupted "
                "commands left: half-made VMs, directories, processes, downloads older than an "
                "hour, locks. What is in use is left alone; nothing is waited for.",
        .examples = "cocoon gc --dry-run\ncocoon gc -o json\n"
                    "cocoon gc --snapshot --snapshot-keep 10 --snapshot-age 720h\n",
        .opts = groups,
        .size = sizeof(struct options),
        .run = run,
};
