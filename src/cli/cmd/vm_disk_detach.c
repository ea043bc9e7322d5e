/* cocoon vm disk detach */
#include "cli/attach_cmd.h"

struct options {
        struct output_flags out;
        const char *name;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;

        return detach_run(cli, &o->out, HV_ATTACH_DISK, "name", o->name, err);
}

static const struct opt rows[] = {
        { .name = "name",
          .type = OPT_STRING,
          .offset = offsetof(struct options, name),
          .metavar = "NAME",
          .help = "the disk's name",
          .flags = OPT_REQUIRED },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_disk_detach = {
        .path = "vm disk detach",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Take a disk image from a running VM",
        .long_help = "Waits up to 30 seconds for the guest to release it. Unmount it there first. "
                     "The file stays.",
        .examples = "cocoon vm disk detach web-1 --name db\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
