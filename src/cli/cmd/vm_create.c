/* cocoon vm create: a VM that is not started yet. */
#include "cli/output.h"
#include "cli/pull.h"
#include "cli/vm_flags.h"

struct options {
        struct vm_flags vm;
        struct output_flags out;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        ENGINE struct engine e = { 0 };
        DATA_DISKS struct data_disks disks = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct vm_request request;
        int r = vm_flags_request(&o->vm, cli->args[0], &disks, &request, err);

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0)
                r = pull_ensure(cli, &e, request.image, "never", request.flat, err);
        if (r == 0)
                r = vm_create(&e, &request, false, &vm, err);
        if (r < 0)
                return r;
        cli_success(cli, "vm.create", "VM created: %s (name: %s, state: %s)", vm.id, vm.config.name,
                    vm.state);
        cli_success(cli, "vm.create", "start with: cocoon vm start %s", vm.id);
        if (output_is_json(&o->out))
                out_record(&vm_record_type, &vm);
        else if (o->out.quiet)
                out_line(vm.id);
        return 0;
}

static const struct opt_group groups[] = {
        VM_FLAG_GROUPS(struct options, vm),
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_create = {
        .path = "vm create",
        .args = "IMAGE",
        .min = 1,
        .max = 1,
        .help = "Create a virtual machine from an image without starting it",
        .long_help = "The image must have been pulled or imported. Sizes take the suffixes K, M, G "
                     "and T, all binary.",
        .examples = "cocoon vm create --name web-1 --cpu 2 --memory 1G debian:12\n"
                    "cocoon vm create --data-disk size=20G,mount=/srv debian:12\n",
        .opts = groups,
        .excludes = vm_excludes,
        .size = sizeof(struct options),
        .complete = COMPLETE_IMAGE,
        .run = run,
};
