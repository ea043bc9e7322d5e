/* cocoon vm device attach */
#include "cli/attach_cmd.h"

struct options {
        struct output_flags out;
        const char *pci, *id;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        struct hv_attachment what = {
                .kind = HV_ATTACH_DEVICE,
                .key = (char *)o->id,
                .bdf = (char *)o->pci,
        };

        return attach_run(cli, &o->out, &what, "pci", err);
}

static const struct opt rows[] = {
        { .name = "pci",
          .type = OPT_STRING,
          .offset = offsetof(struct options, pci),
          .metavar = "ADDRESS",
          .help = "01:00.0, 0000:01:00.0 or its directory below /sys/bus/pci/devices",
          .flags = OPT_REQUIRED },
        { .name = "id",
          .type = OPT_STRING,
          .offset = offsetof(struct options, id),
          .metavar = "ID",
          .help = "what to detach it by; without, one is made" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_device_attach = {
        .path = "vm device attach",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Pass a PCI device of the host to a running VM",
        .long_help = "The device must be bound to vfio-pci. It is not recorded: it is gone after a "
                     "stop, and prevents snapshots.",
        .examples = "cocoon vm device attach web-1 --pci 01:00.0 --id gpu0\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
