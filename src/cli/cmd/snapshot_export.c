/* cocoon snapshot export */
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "vm/transfer.h"

struct options {
        const char *output, *to_dir;
        bool gzip;
};

static void on_progress(void *ctx, int64_t done, int64_t total)
{
        progress_update(ctx, done, total);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        CC_FREE char *what = xasprintf("export %s", cli->args[0]);
        CC_FREE char *file = NULL;
        struct vm_export_request req = {
                .snapshot = cli->args[0],
                .output = o->output,
                .to_dir = o->to_dir,
                .gzip = o->gzip,
                .progress = on_progress,
                .ctx = what,
        };
        int r = 0;

        if (cc_streq(o->output, "-") && isatty(STDOUT_FILENO))
                return cc_fail(err, CC_USAGE, "refusing to write an archive to a terminal");
        if (opt_given(&cli->set, "output") && !*o->output)
                return cc_fail(err, CC_USAGE, "--output must not be empty");
        r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        progress_begin(cli->globals.progress);
        r = vm_snapshot_export(&e, &req, &file, err);
        progress_end();
        if (r < 0)
                return r;
        cli_success(cli, "snapshot.export", "exported: %s", file);
        return 0;
}

static const struct opt rows[] = {
        { .name = "output",
          .letter = 'o',
          .type = OPT_STRING,
          .offset = offsetof(struct options, output),
          .metavar = "FILE",
          .help = "where to write; - is standard output; <name>.tar or .tar.gz if absent",
          .complete = COMPLETE_FILE },
        { .name = "gzip",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, gzip),
          .help = "compress" },
        { .name = "to-dir",
          .type = OPT_STRING,
          .offset = offsetof(struct options, to_dir),
          .metavar = "DIR",
          .help = "write the files into this directory instead, which is absent or empty; "
                  "snapshot.json comes last",
          .complete = COMPLETE_DIR },
        { 0 },
};

static const struct opt_group groups[] = { { rows, 0, NULL }, { 0 } };

static const struct opt_exclusive excludes[] = {
        { "to-dir", "output", NULL },
        { "to-dir", "gzip", NULL },
        { 0 },
};

const struct cmd cmd_snapshot_export = {
        .path = "snapshot export",
        .args = "SNAPSHOT",
        .min = 1,
        .max = 1,
        .help = "Write a snapshot to a file, a pipe or a directory",
        .long_help = "The archive is a tar that keeps holes, with the base image left out: where "
                     "it is imported, the image must be pulled. It is written beside its target "
                     "and renamed when complete.",
        .examples = "cocoon snapshot export golden\n"
                    "cocoon snapshot export golden -o - | ssh host cocoon snapshot import\n"
                    "cocoon snapshot export golden --to-dir /backup/golden\n",
        .opts = groups,
        .excludes = excludes,
        .size = sizeof(struct options),
        .complete = COMPLETE_SNAPSHOT,
        .run = run,
};
