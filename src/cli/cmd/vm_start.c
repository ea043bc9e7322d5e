/* cocoon vm start */
#include "cli/batch.h"

static int start(struct engine *e, const char *id, void *ctx, struct cc_err *err)
{
        return vm_start(e, id, err);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        static const struct batch batch = {
                .verb = "start",
                .tag = "vm.start",
                .done = "started",
                .none = "no VMs started",
                .fn = start,
        };

        return batch_run(cli, &batch, opts, err);
}

static const struct opt_group groups[] = { { output_opts, 0, NULL }, { 0 } };

const struct cmd cmd_vm_start = {
        .path = "vm start",
        .args = "VM [VM...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Start virtual machines",
        .long_help = "VMs are named by ID, name, or the beginning of an ID. All references are "
                     "resolved before anything is done; then the VMs start side by side, and one "
                     "failure does not stop the others. A VM that already runs counts as success.",
        .examples = "cocoon vm start web-1 web-2\n",
        .opts = groups,
        .size = sizeof(struct output_flags),
        .complete = COMPLETE_VM_STOPPED,
        .run = run,
};
