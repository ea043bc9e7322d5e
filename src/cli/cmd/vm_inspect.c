/* cocoon vm inspect */
#include "base/log.h"
#include "cli/attach_cmd.h"
#include "cli/cli.h"
#include "cli/output.h"

/* Read from the VMM itself; one that does not answer costs the field, not the command. */
static void add_attached(struct cli *cli, const struct vm_record *vm, json_t *json)
{
        HV_ATTACHMENTS struct hv_attachments list = { 0 };
        struct cc_err why = CC_ERR_INIT;
        json_t *attached;

        if (vm_attachments(&cli->config, vm, &list, &why) < 0) {
                cc_warn("vm.inspect", "cannot read the attached devices: %s", why.msg);
                return;
        }
        attached = attach_list_json(&list);
        if (attached)
                json_object_set_new(json, "attached_devices", attached);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        json_t *json;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        int r = cli_engine(cli, &e, err);

        if (r < 0)
                return r;
        r = cli_vm_get(cli, &e, cli->args[0], &vm, err);
        if (r < 0)
                return cc_wrap(err, "inspect");
        json = record_dump(&vm_record_type, &vm, RECORD_PUBLIC);
        add_attached(cli, &vm, json);
        out_json(json);
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
