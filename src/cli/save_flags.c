/* Saving a VM, for both verbs. See save_flags.h. */
#include "cli/save_flags.h"

const struct opt save_opts[] = {
        { .name = "name",
          .type = OPT_STRING,
          .offset = offsetof(struct save_flags, name),
          .metavar = "NAME",
          .help = "name of the snapshot; must be free" },
        { .name = "description",
          .type = OPT_STRING,
          .offset = offsetof(struct save_flags, description),
          .metavar = "TEXT",
          .help = "what it is, at most 4 KiB" },
        { 0 },
};

int save_run(struct cli *cli, const struct save_flags *f, const char *tag, save_fn fn,
             struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        char id[27];
        int r;

        cli->quiet_log = f->out.quiet || output_is_json(&f->out);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = meta_vm_resolve(e.meta, cli->args[0], id, err);
        if (r == 0)
                r = fn(&e, id, f->name, f->description, &s, err);
        if (r < 0)
                return r;
        cli_success(cli, tag, "snapshot saved: %s", s.id);
        if (output_is_json(&f->out))
                out_record(&snapshot_record_type, &s);
        else if (f->out.quiet)
                out_line(s.id);
        return 0;
}
