/* cocoon snapshot import */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "vm/transfer.h"

struct options {
        struct output_flags out;
        const char *name, *description;
};

static void on_progress(void *ctx, int64_t done, int64_t total)
{
        progress_update("import", done, total);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct vm_import_request req = {
                .fd = STDIN_FILENO,
                .name = o->name,
                .description = o->description,
                .progress = on_progress,
        };
        CC_CLOSE int fd = -1;
        int r;

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        if (cli->n_args) {
                fd = open(cli->args[0], O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        return cc_fail_errno(err, errno, "open %s", cli->args[0]);
                req.fd = fd;
        }
        r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        progress_begin(cli->quiet_log ? "none" : cli->globals.progress);
        r = vm_snapshot_import(&e, &req, &s, err);
        progress_end();
        if (r < 0)
                return r;
        cli_success(cli, "snapshot.import", "snapshot imported: %s", s.id);
        if (output_is_json(&o->out))
                out_record(&snapshot_record_type, &s);
        else if (o->out.quiet)
                out_line(s.id);
        return 0;
}

static const struct opt rows[] = {
        { .name = "name",
          .type = OPT_STRING,
          .offset = offsetof(struct options, name),
          .metavar = "NAME",
          .help = "name of the snapshot; the archive's if absent" },
        { .name = "description",
          .type = OPT_STRING,
          .offset = offsetof(struct options, description),
          .metavar = "TEXT",
          .help = "what it is; the archive's if absent" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_snapshot_import = {
        .path = "snapshot import",
        .args = "[FILE]",
        .max = 1,
        .help = "Read a snapshot from an archive",
        .long_help =
                "Without FILE from standard input; gzip is recognised. The snapshot gets an ID "
                "of its own. What is damaged, incomplete or inconsistent is refused, and "
                "nothing of it stays.",
        .examples = "cocoon snapshot import golden.tar.gz\n"
                    "ssh host cocoon snapshot export golden -o - | cocoon snapshot import\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_FILE,
        .run = run,
};
