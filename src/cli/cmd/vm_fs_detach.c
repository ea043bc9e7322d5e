/* cocoon vm fs detach */
#include "cli/attach_cmd.h"

struct options {
        struct output_flags out;
        const char *tag;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;

        return detach_run(cli, &o->out, HV_ATTACH_FS, "tag", o->tag, err);
}

static const struct opt rows[] = {
        { .name = "tag",
          .type = OPT_STRING,
          .offset = offsetof(struct options, tag),
          .metavar = "TAG",
          .help = "the share's tag",
          .flags = OPT_REQUIRED },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_fs_detach = {
        .path = "vm fs detach",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Take a shared folder from a running VM",
        .long_help = "Waits up to 30 seconds for the guest to release it. Unmount it there first.",
        .examples = "cocoon vm fs detach web-1 --tag src\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
