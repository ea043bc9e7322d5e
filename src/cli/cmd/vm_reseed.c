/* cocoon vm reseed: fresh entropy for a guest, by its agent (agent.md §4). */
#include "base/alloc.h"
#include "cli/guest.h"
#include "cli/output.h"

#define RESEED_MS 10000

struct options {
        struct output_flags out;
        bool machine_id;
        int64_t connect_timeout;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        const struct guest_flags flags = { .connect_timeout = o->connect_timeout };
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_AGENT struct vm_agent agent = { 0 };
        AGENT_CONN struct agent_conn conn = AGENT_CONN_INIT;
        int r = guest_flags_check(&flags, err);

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0)
                r = cli_vm_get(cli, &e, cli->args[0], &vm, err);
        if (r < 0)
                return r;
        engine_close(&e);
        r = vm_agent_find(&cli->config, &vm, &agent, err);
        if (r == 0)
                r = guest_dial(&agent, &flags, false, &conn, err);
        if (r == 0)
                r = agent_reseed(&conn, o->machine_id, RESEED_MS, err);
        if (r < 0)
                return cc_wrap(err, "reseed");
        cli_success(cli, "vm.reseed", "reseeded: %s", vm.id);
        if (output_is_json(&o->out))
                out_json(json_pack("{s:s, s:b}", "id", vm.id, "machine_id", o->machine_id));
        else if (o->out.quiet)
                out_line(vm.id);
        return 0;
}

static const struct opt rows[] = {
        { .name = "machine-id",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, machine_id),
          .help = "also draw a new /etc/machine-id" },
        { .name = "connect-timeout",
          .type = OPT_DURATION,
          .offset = offsetof(struct options, connect_timeout),
          .metavar = "DURATION",
          .help = "how long to try an agent that does not answer" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_reseed = {
        .path = "vm reseed",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Give a guest's kernel fresh random numbers",
        .long_help =
                "Guests that came from one snapshot start with the same random numbers. Clones "
                "and restored VMs with an agent are reseeded by themselves; this does it by "
                "hand.",
        .examples = "cocoon vm reseed --machine-id web-2\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
