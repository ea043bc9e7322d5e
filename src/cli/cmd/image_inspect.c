/* cocoon image inspect */
#include "cli/output.h"
#include "cli/pull.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        char kind[16];
        int r = cli_engine(cli, &e, err);

        if (r == 0)
                r = image_resolve(e.meta, cli->args[0], kind, &image, err);
        if (r < 0)
                return r;
        out_json(pull_view(kind, &image));
        return 0;
}

const struct cmd cmd_image_inspect = {
        .path = "image inspect",
        .args = "IMAGE",
        .min = 1,
        .max = 1,
        .help = "Print what is known about an image as JSON",
        .long_help = "IMAGE is a reference, a digest, or at least 12 digits of one.",
        .examples = "cocoon image inspect debian:12\n",
        .flags = CMD_STREAM,
        .complete = COMPLETE_IMAGE,
        .run = run,
};
