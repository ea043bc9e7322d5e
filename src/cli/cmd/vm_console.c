/* cocoon vm console: the terminal on a VM's serial console. */
#include "base/alloc.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "console/console.h"

struct options {
        const char *escape;
        bool read_only;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_FREE char *socket = NULL;
        unsigned char escape;
        int r = cli_engine(cli, &e, err);

        if (r < 0)
                return r;
        r = cli_vm_get(cli, &e, cli->args[0], &vm, err);
        if (r < 0)
                return cc_wrap(err, "console");
        if (!cc_streq(vm.state, vm_state_name(VM_RUNNING))) {
                r = cc_fail(err, CC_STATE, "console: vm %s is %s: vm not running", vm.id, vm.state);
                cc_code(err, "vm_not_running");
                cc_hint(err, "start it with: cocoon vm start %s", vm.config.name);
                return r;
        }
        r = console_escape_parse(o->escape, &escape, err);
        if (r < 0)
                return r;
        r = vm_relay_ensure(&cli->config, &vm, err);
        if (r < 0)
                return cc_wrap(err, "console");
        socket = cc_path_join(vm.run_dir, VM_CONSOLE_SOCKET);
        engine_close(&e); /* a session may last for days */
        return console_attach(socket, escape, o->read_only, cli->args[0], err);
}

static const struct opt rows[] = {
        { .name = "escape-char",
          .type = OPT_STRING,
          .offset = offsetof(struct options, escape),
          .fallback = "^]",
          .metavar = "CHAR",
          .help = "key that, followed by '.', detaches: ^a to ^z, ^@ to ^_, or one character" },
        { .name = "read-only",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, read_only),
          .help = "only watch; what is typed is not sent" },
        { 0 },
};

static const struct opt_group groups[] = { { rows, 0, NULL }, { 0 } };

const struct cmd cmd_vm_console = {
        .path = "vm console",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Attach the terminal to a virtual machine's console",
        .long_help = "Type the escape character and a dot to detach (^]. by default). Several "
                     "sessions may be attached at once; recent output is shown first.",
        .examples = "cocoon vm console web-1\ncocoon vm console --escape-char ^a web-1\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
