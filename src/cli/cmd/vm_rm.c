/* cocoon vm rm */
#include "cli/batch.h"

struct options {
        struct output_flags out;
        bool force;
};

static int rm(struct engine *e, const char *id, void *ctx, struct cc_err *err)
{
        const struct options *o = ctx;

        return vm_rm(e, id, o->force, err);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        struct batch batch = {
                .verb = "rm",
                .tag = "vm.rm",
                .done = "deleted VM",
                .none = "no VMs deleted",
                .fn = rm,
                .ctx = o,
        };

        return batch_run(cli, &batch, &o->out, err);
}

static const struct opt rows[] = {
        { .name = "force",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, force),
          .help = "stop a running VM at once, then delete it" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_rm = {
        .path = "vm rm",
        .args = "VM [VM...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Delete virtual machines with their disks",
        .long_help = "A running VM is refused unless --force is given. Images stay.",
        .examples = "cocoon vm rm web-1\ncocoon vm rm --force $(cocoon vm list -q)\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM,
        .run = run,
};
