/* cocoon vm inspect */
#include "cli/cli.h"
#include "cli/output.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        int r = cli_engine(cli, &e, err);

        if (r < 0)
                return r;
        r = cli_vm_get(cli, &e, cli->args[0], &vm, err);
        if (r < 0)
                return cc_wrap(err, "inspect");
        out_record(&vm_record_type, &vm);
        return 0;
}

const struct cmd cmd_vm_inspect = {
        .path = "vm inspect",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Print the record of a virtual machine as JSON",
        .examples = "cocoon vm inspect web-1\ncocoon vm inspect web-1 | jq -r .state\n",
        .flags = CMD_STREAM,
        .complete = COMPLETE_VM,
        .run = run,
};
