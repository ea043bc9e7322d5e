/* cocoon vm hibernate */
#include "cli/save_flags.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        return save_run(cli, opts, "vm.hibernate", vm_hibernate, err);
}

static const struct opt_group groups[] = {
        { save_opts, 0, NULL },
        { output_opts, offsetof(struct save_flags, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_hibernate = {
        .path = "vm hibernate",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Save a running VM and end it in the same moment",
        .long_help =
                "Nothing runs between the snapshot and the end: `vm restore` continues exactly "
                "there. If anything fails before, the VM runs on.",
        .examples = "cocoon vm hibernate --name asleep web-1\ncocoon vm restore web-1 asleep\n",
        .opts = groups,
        .size = sizeof(struct save_flags),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
