/* cocoon image rm */
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/dry_run.h"
#include "cli/output.h"
#include "image/image.h"

struct options {
        struct output_flags out;
        bool dry_run;
};

/* The references that would go, each with the size of its image. */
static int would_rm(struct engine *e, const struct cc_strv *refs, const struct output_flags *out,
                    struct cc_err *err)
{
        DRY_RUN struct dry_run dry = { 0 };
        struct record_array images = { 0 };
        int r = image_list(e->meta, &images, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < images.len; i++) {
                struct image_view *v = (struct image_view *)images.v + i;

                if (cc_strv_has(refs, v->name))
                        dry_run_add(&dry, "image", v->name, NULL, v->size);
                record_clear(&image_view_type, v);
        }
        free(images.v);
        dry_run_print(&dry, out);
        return 0;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *options = opts;
        const struct output_flags *o = &options->out;
        ENGINE struct engine e = { 0 };
        CC_STRV struct cc_strv removed = { 0 };
        const char *ref;
        json_t *succeeded;
        int r;

        cli->quiet_log = o->quiet || output_is_json(o);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = image_rm(e.meta, (const char *const *)cli->args, cli->n_args, options->dry_run,
                             &removed, err);
        if (r < 0)
                return r;
        if (options->dry_run)
                return would_rm(&e, &removed, o, err);
        succeeded = json_array();
        cc_strv_foreach (&removed, i, ref) {
                cli_success(cli, "image.rm", "deleted: %s", ref);
                if (o->quiet)
                        out_line(ref);
                json_array_append_new(succeeded, out_string(ref));
        }
        if (removed.len == 0)
                cli_success(cli, "image.rm", "no matching images found");
        if (output_is_json(o)) {
                json_t *root = json_object();

                json_object_set(root, "succeeded", succeeded);
                out_json(root);
        }
        json_decref(succeeded);
        return 0;
}

static const struct opt rows[] = { DRY_RUN_ROW(offsetof(struct options, dry_run)), { 0 } };

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_image_rm = {
        .path = "image rm",
        .args = "ID [ID...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Remove images",
        .long_help =
                "ID is a reference, a digest, or at least 12 digits of one; a digest removes every "
                "reference to it. If one cannot be resolved, nothing is removed. Data that a VM "
                "still uses stays until that VM is gone.",
        .examples = "cocoon image rm debian:12\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_IMAGE,
        .run = run,
};
