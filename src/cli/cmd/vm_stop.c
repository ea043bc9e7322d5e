/* cocoon vm stop */
#include "cli/batch.h"

struct options {
        struct output_flags out;
        bool force;
        int64_t timeout;
};

static int stop(struct engine *e, const char *id, void *ctx, struct cc_err *err)
{
        const struct options *o = ctx;

        return vm_stop(e, id, o->force, o->timeout, err);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        struct batch batch = {
                .verb = "stop",
                .tag = "vm.stop",
                .done = "stopped",
                .none = "no VMs stopped",
                .fn = stop,
                .ctx = o,
        };

        if (o->timeout < 0)
                return cc_fail(err, CC_USAGE, "--timeout must not be negative, got %lld",
                               (long long)o->timeout);
        return batch_run(cli, &batch, &o->out, err);
}

static const struct opt rows[] = {
        { .name = "force",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, force),
          .help = "end the VM at once, without asking the guest" },
        { .name = "timeout",
          .type = OPT_INT,
          .offset = offsetof(struct options, timeout),
          .fallback = "0",
          .metavar = "SECONDS",
          .help = "time the guest gets to shut down; 0 takes the configured one" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_stop = {
        .path = "vm stop",
        .args = "VM [VM...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Stop virtual machines",
        .long_help =
                "The guest is asked to shut down and ended when it does not in time. A VM that "
                "is already stopped counts as success.",
        .examples = "cocoon vm stop web-1\ncocoon vm stop --timeout 5 web-1 web-2\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
