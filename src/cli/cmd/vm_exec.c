/* cocoon vm exec: a command in the guest, by its agent (cli.md §7). */
#include "cli/guest.h"

struct options {
        struct guest_flags guest;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        int r;

        if (cli->n_args < 2)
                return cc_fail(err, CC_USAGE, "exec: no command given");
        r = guest_flags_check(&o->guest, err);
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0)
                r = cli_vm_get(cli, &e, cli->args[0], &vm, err);
        if (r < 0)
                return r;
        engine_close(&e); /* a session may last for days */
        return guest_run(cli, &vm, &o->guest, cli->args + 1, cli->n_args - 1, err);
}

static const struct opt_group groups[] = {
        { guest_opts, offsetof(struct options, guest), NULL },
        { 0 },
};

const struct cmd cmd_vm_exec = {
        .path = "vm exec",
        .args = "VM -- CMD [ARG...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Run a command in a running virtual machine",
        .long_help =
                "The guest's agent (cocoon-agent) runs the command; no shell is involved. Standard "
                "output and error are the command's, and so is the exit code: 128 and the signal's "
                "number for a command that a signal ended. 125 says that cocoon or the agent "
                "failed, 124 that --timeout passed. Ending this command ends the guest's.\n\n"
                "A command that begins with a dash, or has flags, goes behind --.",
        .examples = "cocoon vm exec web-1 -- uname -a\n"
                    "cocoon vm exec -it web-1 -- sh\n"
                    "tar c site | cocoon vm exec -i web-1 -- tar x -C /srv\n"
                    "cocoon vm exec --user www-data --workdir /srv web-1 -- make\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
