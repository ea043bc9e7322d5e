/* cocoon vm device detach */
#include "cli/attach_cmd.h"

struct options {
        struct output_flags out;
        const char *id;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;

        return detach_run(cli, &o->out, HV_ATTACH_DEVICE, "id", o->id, err);
}

static const struct opt rows[] = {
        { .name = "id",
          .type = OPT_STRING,
          .offset = offsetof(struct options, id),
          .metavar = "ID",
          .help = "the device's id, as attach printed it",
          .flags = OPT_REQUIRED },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_device_detach = {
        .path = "vm device detach",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Take a PCI device from a running VM",
        .long_help = "Waits up to 30 seconds for the guest to release it.",
        .examples = "cocoon vm device detach web-1 --id gpu0\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
