/* cocoon image import */
#include "base/alloc.h"
#include "cli/output.h"
#include "cli/pull.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct output_flags *o = opts;
        ENGINE struct engine e = { 0 };
        PULL struct pull p = { 0 };
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        CC_FREE char *what = xasprintf("import %s", cli->args[0]);
        char kind[16] = "";
        int r;

        cli->quiet_log = o->quiet || output_is_json(o);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = pull_open(cli, &e, what, &p, err);
        if (r == 0)
                r = p.module->import(&p.env, cli->args[0], (const char *const *)cli->args + 1,
                                     cli->n_args - 1, kind, &image, err);
        if (r < 0)
                return cc_wrap(err, "import %s", cli->args[0]);
        pull_close(&p);
        cli_success(cli, "image.import", "imported: %s", image.ref);
        if (output_is_json(o))
                out_json(pull_view(kind, &image));
        else if (o->quiet)
                out_line(image.ref);
        return 0;
}

static const struct opt_group groups[] = { { output_opts, 0, NULL }, { 0 } };

const struct cmd cmd_image_import = {
        .path = "image import",
        .args = "NAME [FILE...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Make an image from files or standard input",
        .long_help =
                "Without FILE the content is read from standard input. Tar files become the layers "
                "of an OCI image in the order given; a qcow2 or raw disk (or its parts in order) "
                "becomes a cloud image. gzip, xz and zstd are unwrapped and must be the only "
                "file.",
        .examples = "cocoon image import base rootfs.tar\n"
                    "cocoon image import app base.tar app.tar\n"
                    "curl -s https://files.example/disk.qcow2 | cocoon image import disk\n",
        .opts = groups,
        .size = sizeof(struct output_flags),
        .complete = COMPLETE_FILE,
        .run = run,
};
