/* cocoon snapshot rm */
#include "cli/cli.h"
#include "cli/dry_run.h"
#include "cli/output.h"
#include "vm/snapshot.h"

struct options {
        struct output_flags out;
        bool dry_run;
};

/* All references first: one that cannot be resolved deletes nothing. Also abandoned ones, by ID. */
static int resolve(struct cli *cli, struct meta *m, struct cc_strv *ret, struct cc_err *err)
{
        for (size_t i = 0; i < cli->n_args; i++) {
                char id[27];
                int r = meta_snapshot_resolve(m, cli->args[i], true, id, err);

                if (r < 0)
                        return cc_wrap(err, "resolve \"%s\"", cli->args[i]);
                if (!cc_strv_has(ret, id))
                        cc_strv_add(ret, id);
        }
        return 0;
}

static int would_rm(struct engine *e, const struct cc_strv *ids, const struct output_flags *out,
                    struct cc_err *err)
{
        DRY_RUN struct dry_run dry = { 0 };
        const char *id;

        cc_strv_foreach (ids, i, id) {
                SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
                int r = meta_snapshot_get(e->meta, id, &s, err);

                if (r < 0)
                        return r;
                dry_run_add(&dry, "snapshot", id, s.name, s.bytes);
        }
        dry_run_print(&dry, out);
        return 0;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *options = opts;
        const struct output_flags *o = &options->out;
        ENGINE struct engine e = { 0 };
        CC_STRV struct cc_strv ids = { 0 };
        json_t *succeeded;
        const char *id;
        int r;

        cli->quiet_log = o->quiet || output_is_json(o);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = resolve(cli, e.meta, &ids, err);
        if (r == 0 && options->dry_run)
                return would_rm(&e, &ids, o, err);
        succeeded = json_array();
        cc_strv_foreach (&ids, i, id) {
                if (r < 0)
                        break;
                r = vm_snapshot_rm(&e, id, err);
                if (r < 0)
                        break;
                cli_success(cli, "snapshot.rm", "deleted: %s", id);
                if (o->quiet)
                        out_line(id);
                json_array_append_new(succeeded, json_string(id));
        }
        if (output_is_json(o)) {
                json_t *root = json_object();

                json_object_set(root, "succeeded", succeeded);
                out_json(root);
        }
        json_decref(succeeded);
        return r < 0 ? cc_wrap(err, "rm") : 0;
}

static const struct opt rows[] = { DRY_RUN_ROW(offsetof(struct options, dry_run)), { 0 } };

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_snapshot_rm = {
        .path = "snapshot rm",
        .args = "SNAPSHOT [SNAPSHOT...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Delete snapshots",
        .long_help = "All references are resolved first; if one is unknown nothing is deleted. "
                     "Clones made from a snapshot do not need it any more.",
        .examples = "cocoon snapshot rm golden\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_SNAPSHOT,
        .run = run,
};
