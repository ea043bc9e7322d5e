/* cocoon __complete: candidates for the last word, asked by the completion scripts. */
#include "cli/complete.h"
#include "cli/cli.h"
#include "cli/output.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        CC_BUF struct cc_buf out = { 0 };

        complete_words(cli->args, cli->n_args, &out);
        out_text(out.data);
        return 0;
}

const struct cmd cmd_complete = {
        .path = "__complete",
        .args = "[ARG...]",
        .max = CMD_ANY,
        .help = "List what could stand for the last word",
        .flags = CMD_NO_CONFIG | CMD_HIDDEN | CMD_STREAM | CMD_RAW,
        .run = run,
};
