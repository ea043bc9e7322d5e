/* cocoon meta import */
#include "base/log.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "image/module.h"
#include "meta/import.h"

struct options {
        struct output_flags out;
        bool rename_conflicts;
};

static json_t *strings(const struct cc_strv *v)
{
        json_t *list = json_array();
        const char *s;

        cc_strv_foreach (v, i, s)
                json_array_append_new(list, out_string(s));
        return list;
}

static void print_json(const struct meta_import_report *r)
{
        json_t *root = json_object();

        json_object_set_new(root, "vms", json_integer((json_int_t)r->vms));
        json_object_set_new(root, "snapshots", json_integer((json_int_t)r->snapshots));
        json_object_set_new(root, "networks", json_integer((json_int_t)r->networks));
        json_object_set_new(root, "images", json_integer((json_int_t)r->images));
        json_object_set_new(root, "sources", strings(&r->sources));
        json_object_set_new(root, "renamed", strings(&r->renamed));
        if (r->resumed)
                json_object_set_new(root, "resumed", json_true());
        out_json(root);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        META_IMPORT_REPORT struct meta_import_report report = { 0 };
        struct meta_import_args args = {
                .root_dir = cli->config.root_dir,
                .run_dir = cli->config.run_dir,
                .rename_conflicts = o->rename_conflicts,
        };
        const void *module;
        const char *text;
        int r = cc_module_open("image", &module, err);

        cli->quiet_log = output_is_json(&o->out);
        if (r < 0)
                return r;
        args.digest = ((const struct image_module *)module)->digest;
        r = meta_import(&args, &report, err);
        if (r < 0)
                return r;
        cc_strv_foreach (&report.notes, i, text)
                cc_warn("meta.import", "%s", text);
        cc_strv_foreach (&report.renamed, i, text)
                cc_warn("meta.import", "renamed %s", text);
        if (report.resumed)
                cli_success(cli, "meta.import", "the interrupted import is finished");
        else
                cli_success(cli, "meta.import",
                            "imported: %zu VMs, %zu snapshots, %zu networks, %zu images",
                            report.vms, report.snapshots, report.networks, report.images);
        if (output_is_json(&o->out))
                print_json(&report);
        return 0;
}

static const struct opt rows[] = {
        { .name = "rename-conflicts",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, rename_conflicts),
          .help = "give the second of two VMs of one name another one" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_json_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_meta_import = {
        .path = "meta import",
        .args = "",
        .help = "Take over the records of an older installation",
        .long_help =
                "The JSON indexes or the SQLite store found below --root-dir become this program's "
                "records; IDs, paths and times stay as they are, and VMs that run keep running. "
                "Afterwards the files read are called NAME.converted-<time>. It is done wholly or "
                "not at all: interrupted, run it again.\n\n"
                "VM names are unique over all hypervisors here. Where they were not, "
                "--rename-conflicts appends the first 8 characters of the ID to the second one's.",
        .examples = "cocoon meta import\ncocoon --root-dir /srv/cocoon meta import\n",
        .opts = groups,
        .size = sizeof(struct options),
        .run = run,
};
