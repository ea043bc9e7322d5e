/* cocoon vm logs: the VMM's log. Finding the file lives here, following it in ../follow.c. */
#include "base/fs.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/output.h"

struct options {
        bool follow;
        int64_t tail;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const struct hv_driver *driver = NULL;
        CC_FREE char *path = NULL;
        int r;

        if (o->tail < 0)
                return cc_fail(err, CC_USAGE, "--tail must not be negative, got %lld",
                               (long long)o->tail);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = cli_vm_get(cli, &e, cli->args[0], &vm, err);
        if (r == 0)
                r = hv_driver_find(vm.hypervisor ? vm.hypervisor : "", &driver, err);
        if (r != 0)
                return cc_wrap(err, "logs");
        engine_close(&e);
        path = cc_path_join(vm.log_dir, driver->log_name);
        return follow_file(path, o->tail, o->follow, err);
}

static const struct opt rows[] = {
        { .name = "follow",
          .letter = 'f',
          .type = OPT_BOOL,
          .offset = offsetof(struct options, follow),
          .help = "keep printing what is added, also over restarts of the VM" },
        { .name = "tail",
          .type = OPT_INT,
          .offset = offsetof(struct options, tail),
          .fallback = "0",
          .metavar = "N",
          .help = "start with the last N lines; 0 prints all" },
        { 0 },
};

static const struct opt_group groups[] = { { rows, 0, NULL }, { 0 } };

const struct cmd cmd_vm_logs = {
        .path = "vm logs",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Print the log of a virtual machine's hypervisor process",
        .long_help = "This is what the hypervisor wrote, not the guest's console. The file starts "
                     "anew with each start of the VM.",
        .examples = "cocoon vm logs web-1\ncocoon vm logs -f --tail 20 web-1\n",
        .opts = groups,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .complete = COMPLETE_VM,
        .run = run,
};
