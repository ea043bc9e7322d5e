/* cocoon vm list: all VMs. */
#include "cli/vm_list.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        return vm_list_run(cli, opts, NULL, 0, err);
}

static const struct opt_group groups[] = { { list_opts, 0, NULL }, { 0 } };

const struct cmd cmd_vm_list = {
        .path = "vm list",
        .alias = "ls",
        .args = "",
        .help = "List virtual machines",
        .long_help =
                "Sorted by creation time unless --sort says otherwise. Filter keys: state, name "
                "and "
                "image (with wildcards), hypervisor, network, label. A VM whose process is gone "
                "while its record says running shows as \"stopped (stale)\"; the filter word for "
                "that is stale.\n\n"
                "Fields for --format and --sort: id, name, state, cpu, memory, storage, ip, image, "
                "created, started, hypervisor, network, mac, pid.",
        .examples = "cocoon vm list\n"
                    "cocoon vm list --filter state=running --filter name='web-*'\n"
                    "cocoon vm list --format id,name,ip --sort -memory\n",
        .opts = groups,
        .size = sizeof(struct list_flags),
        .flags = CMD_STREAM,
        .run = run,
};
