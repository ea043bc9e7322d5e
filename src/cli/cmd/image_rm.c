/* cocoon image rm */
#include "cli/cli.h"
#include "cli/output.h"
#include "image/image.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct output_flags *o = opts;
        ENGINE struct engine e = { 0 };
        CC_STRV struct cc_strv removed = { 0 };
        const char *ref;
        json_t *succeeded;
        int r;

        cli->quiet_log = o->quiet || output_is_json(o);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = image_rm(e.meta, (const char *const *)cli->args, cli->n_args, &removed, err);
        if (r < 0)
                return r;
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

static const struct opt_group groups[] = { { output_opts, 0, NULL }, { 0 } };

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
        .size = sizeof(struct output_flags),
        .complete = COMPLETE_IMAGE,
        .run = run,
};
