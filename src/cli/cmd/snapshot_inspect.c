/* cocoon snapshot inspect */
#include "cli/cli.h"
#include "cli/output.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        char id[27];
        int r = cli_engine(cli, &e, err);

        if (r < 0)
                return r;
        r = meta_snapshot_resolve(e.meta, cli->args[0], false, id, err);
        if (r == 0)
                r = meta_snapshot_get(e.meta, id, &s, err);
        if (r < 0)
                return cc_wrap(err, "inspect");
        out_record(&snapshot_record_type, &s);
        return 0;
}

const struct cmd cmd_snapshot_inspect = {
        .path = "snapshot inspect",
        .args = "SNAPSHOT",
        .min = 1,
        .max = 1,
        .help = "Print the record of a snapshot as JSON",
        .examples = "cocoon snapshot inspect golden | jq .memory\n",
        .flags = CMD_STREAM,
        .complete = COMPLETE_SNAPSHOT,
        .run = run,
};
