/* cocoon snapshot save */
#include "cli/save_flags.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        return save_run(cli, opts, "snapshot.save", vm_save, err);
}

static const struct opt_group groups[] = {
        { save_opts, 0, NULL },
        { output_opts, offsetof(struct save_flags, out), "Output" },
        { 0 },
};

const struct cmd cmd_snapshot_save = {
        .path = "snapshot save",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Save a running VM with its memory and disks",
        .long_help = "The VM is paused while it is saved and runs on afterwards, also when saving "
                     "fails. Devices that were attached at run time must be detached first.",
        .examples = "cocoon snapshot save --name golden web-1\n",
        .opts = groups,
        .size = sizeof(struct save_flags),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
