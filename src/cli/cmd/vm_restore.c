/* cocoon vm restore */
#include "cli/output.h"
#include "cli/source_flags.h"

struct options {
        struct source_flags source;
        struct output_flags out;
        bool force;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct vm_restore_request req = { .force = o->force };
        char id[27];
        int r = source_flags_parse(&o->source, cli->n_args > 1 ? cli->args[1] : NULL, &req.source,
                                   &req.mode, err);

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        if (r == 0 && o->force && !*o->source.from_dir)
                r = cc_fail(err, CC_USAGE, "--force only applies with --from-dir");
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0)
                r = meta_vm_resolve(e.meta, cli->args[0], id, err);
        if (r == 0)
                r = vm_restore(&e, id, cli->args[0], &req, &vm, err);
        if (r < 0)
                return r;
        cli_success(cli, "vm.restore", "VM %s restored (state: %s)", vm.id, vm.state);
        if (output_is_json(&o->out))
                out_record(&vm_record_type, &vm);
        else if (o->out.quiet)
                out_line(vm.id);
        return 0;
}

static const struct opt rows[] = {
        { .name = "force",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, force),
          .help = "with --from-dir: restore a snapshot that was not taken of this VM" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { source_opts, offsetof(struct options, source), "Source" },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_restore = {
        .path = "vm restore",
        .args = "VM [SNAPSHOT]",
        .min = 1,
        .max = 2,
        .help = "Put a VM back to one of its snapshots",
        .long_help = "Memory and disks become what they were when the snapshot was taken, and the "
                     "VM runs on from there; what happened since is lost. Its name and network "
                     "stay. The snapshot is judged before the VM is touched.",
        .examples = "cocoon vm restore web-1 before-upgrade\n"
                    "cocoon vm restore web-1 --from-dir /backup/web-1\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM,
        .run = run,
};
