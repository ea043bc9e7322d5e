/* cocoon meta backup */
#include "base/fs.h"
#include "cli/cli.h"
#include "cli/output.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct output_flags *o = opts;
        const struct meta_open_args args = { .root_dir = cli->config.root_dir,
                                             .run_dir = cli->config.run_dir,
                                             .existing = true };
        META struct meta *m = NULL;
        int r;

        cli->quiet_log = output_is_json(o);
        r = meta_open(&args, &m, err);
        if (r == 0)
                r = meta_backup(m, cli->args[0], err);
        if (r < 0)
                return r;
        cli_success(cli, "meta.backup", "saved: %s", cli->args[0]);
        if (output_is_json(o))
                out_json(json_pack("{s:o}", "backup", out_string(cli->args[0])));
        return 0;
}

static const struct opt_group groups[] = { { output_json_opts, 0, NULL }, { 0 } };

const struct cmd cmd_meta_backup = {
        .path = "meta backup",
        .args = "FILE",
        .min = 1,
        .max = 1,
        .help = "Copy the records to a file while others use them",
        .long_help =
                "The copy is complete and verified before it takes the name; an earlier file of "
                "that name is valid until then. To restore it, see that nothing of cocoon runs, "
                "remove meta.db-wal and meta.db-shm, and put the copy back as "
                "<root-dir>/meta/meta.db. Images, disks and snapshots are files of their own and "
                "are not in it.",
        .examples = "cocoon meta backup /var/backups/cocoon.db\n",
        .opts = groups,
        .size = sizeof(struct output_flags),
        .complete = COMPLETE_FILE,
        .run = run,
};
