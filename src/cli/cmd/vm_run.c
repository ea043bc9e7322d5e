/* cocoon vm run: pull if needed, create, start, and perhaps attach or run a command in it. */
#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/size.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/pull.h"
#include "cli/vm_flags.h"
#include "console/console.h"

struct options {
        struct vm_flags vm;
        struct output_flags out;
        struct guest_flags guest;
        const char *pull;
        int64_t boot_timeout;
        bool attach, rm, dry_run;
};

/* Everything that can be refused without looking at images or the host. */
static int check(const struct cli *cli, const struct options *o, struct cc_err *err)
{
        bool command = cli->n_args > cli->n_plain;
        const struct guest_flags *g = &o->guest;

        if (o->rm && !o->attach && !command)
                return cc_fail(err, CC_USAGE, "--rm requires --attach or a command behind --");
        if (command && o->attach)
                return cc_fail(err, CC_USAGE,
                               "--attach and a command behind -- are mutually "
                               "exclusive");
        if (command && (o->out.quiet || output_is_json(&o->out)))
                return cc_fail(err, CC_USAGE, "a command behind -- excludes --output and --quiet");
        if (!command && (g->interactive || g->tty || g->env.len || g->timeout))
                return cc_fail(err, CC_USAGE,
                               "--interactive, --tty, --env and --timeout need a command behind "
                               "--");
        if (command)
                return guest_flags_check(g, err);
        if (o->attach && (o->out.quiet || output_is_json(&o->out)))
                return cc_fail(err, CC_USAGE, "--attach excludes --output and --quiet");
        if (o->attach && !isatty(STDIN_FILENO))
                return cc_fail(err, CC_STATE, "stdin is not a terminal");
        return 0;
}

static int dry_run(struct engine *e, const struct vm_request *request, struct cc_err *err)
{
        VM_DEBUG struct vm_debug debug = { 0 };
        CC_BUF struct cc_buf out = { 0 };
        const struct vm_debug_request as_started = { 0 };
        char memory[24];
        char storage[24];
        int r = vm_debug(e, request, &as_started, &debug, err);

        if (r < 0)
                return r;
        cc_size_format(request->memory, memory);
        cc_size_format(request->storage, storage);
        cc_buf_printf(&out, "would run %s with %s: %lld vCPUs, %s memory, %s disk, %lld NICs\n",
                      request->image, cc_basename(debug.argv.v[0]), (long long)request->cpu, memory,
                      storage, (long long)request->nics);
        for (size_t i = 0; i < request->n_data_disks; i++) {
                cc_size_format(request->data_disks[i].size, storage);
                cc_buf_printf(&out, "would make data disk %s: %s\n", request->data_disks[i].name,
                              storage);
        }
        out_text(out.data);
        return 0;
}

/* What --rm promised, whatever the session came to. */
static int remove_vm(struct cli *cli, const struct vm_record *vm, int r, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        struct cc_err later = CC_ERR_INIT;

        /* The signal that ended the session must not stop the removal it was promised. */
        cc_uninterruptible_begin();
        if (cli_engine(cli, &e, &later) < 0 || vm_rm(&e, vm->id, true, &later) < 0)
                r = cc_join(err, &later);
        else
                cli_success(cli, "vm.rm", "deleted VM: %s", vm->id);
        cc_uninterruptible_end();
        return r;
}

static int attach(struct cli *cli, const struct options *o, const struct vm_record *vm,
                  struct cc_err *err)
{
        CC_FREE char *socket = cc_path_join(vm->run_dir, VM_CONSOLE_SOCKET);
        unsigned char escape = 0;
        int r = console_escape_parse("^]", &escape, err);

        if (r == 0)
                r = console_attach(socket, escape, false, vm->config.name, err);
        return o->rm ? remove_vm(cli, vm, r, err) : r;
}

/* A guest that boots takes as long as it takes; the VMM's end ends the wait. */
static int command(struct cli *cli, const struct options *o, const struct vm_record *vm,
                   struct cc_err *err)
{
        struct guest_flags flags = o->guest;
        int r;

        flags.connect_timeout = o->boot_timeout;
        r = guest_run(cli, vm, &flags, cli->args + cli->n_plain, cli->n_args - cli->n_plain, err);
        return o->rm ? remove_vm(cli, vm, r, err) : r;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        ENGINE struct engine e = { 0 };
        DATA_DISKS struct data_disks disks = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct vm_request request = { 0 };
        const struct hv_driver *driver;
        int r = check(cli, o, err);

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        if (r == 0)
                r = vm_flags_request(&o->vm, cli->args[0], &disks, &request, err);
        if (r == 0)
                r = vm_request_check(&request, err);
        /* A driver that is not here must not cost a pull first. */
        if (r == 0 && *request.driver)
                r = hv_driver_find(request.driver, &driver, err);
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        if (o->dry_run)
                return dry_run(&e, &request, err);
        r = pull_ensure(cli, &e, request.image, o->pull, request.flat, err);
        if (r == 0)
                r = vm_create(&e, &request, true, &vm, err);
        if (r < 0)
                return r;
        cli_success(cli, "vm.run", "VM created: %s (name: %s)", vm.id, vm.config.name);
        cli_success(cli, "vm.run", "started: %s", vm.id);
        if (output_is_json(&o->out))
                out_record(&vm_record_type, &vm);
        else if (o->out.quiet)
                out_line(vm.id);
        engine_close(&e); /* a session may last for days */
        if (cli->n_args > cli->n_plain)
                return command(cli, o, &vm, err);
        return o->attach ? attach(cli, o, &vm, err) : 0;
}

static const char *const policies[] = { "missing", "always", "never", NULL };

static const struct opt rows[] = {
        { .name = "pull",
          .type = OPT_ENUM,
          .offset = offsetof(struct options, pull),
          .fallback = "missing",
          .metavar = "WHEN",
          .help = "missing, always or never",
          .values = policies },
        { .name = "attach",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, attach),
          .help = "attach the terminal to the console after the start" },
        { .name = "rm",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, rm),
          .help = "delete the VM when the command behind -- or the attached session ends" },
        { .name = "interactive",
          .letter = 'i',
          .type = OPT_BOOL,
          .offset = offsetof(struct options, guest.interactive),
          .help = "with a command: pass standard input on" },
        { .name = "tty",
          .letter = 't',
          .type = OPT_BOOL,
          .offset = offsetof(struct options, guest.tty),
          .help = "with a command: run it on a terminal of its own" },
        { .name = "env",
          .letter = 'e',
          .type = OPT_STRINGS,
          .offset = offsetof(struct options, guest.env),
          .metavar = "KEY=VALUE",
          .help = "with a command: set an environment variable; may be repeated" },
        { .name = "timeout",
          .type = OPT_DURATION,
          .offset = offsetof(struct options, guest.timeout),
          .metavar = "DURATION",
          .help = "with a command: end it after this time (exit code 124); 0 never" },
        { .name = "boot-timeout",
          .type = OPT_DURATION,
          .offset = offsetof(struct options, boot_timeout),
          .fallback = "5m",
          .metavar = "DURATION",
          .help = "with a command: how long to wait for the guest's agent" },
        { .name = "dry-run",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, dry_run),
          .help = "check everything and say what would happen; makes nothing" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        VM_FLAG_GROUPS(struct options, vm),
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_run = {
        .path = "vm run",
        .args = "IMAGE [-- CMD [ARG...]]",
        .min = 1,
        .max = 1,
        .help = "Create a virtual machine from an image and start it",
        .long_help = "An image that is not here yet is pulled first. The VM keeps running after "
                     "the command returns. Sizes take the suffixes K, M, G and T, all binary.\n\n"
                     "With a command behind -- the guest's agent runs it once it answers, as vm "
                     "exec does; the exit code is the command's.",
        .examples = "cocoon vm run --name web-1 debian:12\n"
                    "cocoon vm run --publish 8080:80 --memory 2G debian:12\n"
                    "# look at it and throw it away\n"
                    "cocoon vm run --attach --rm debian:12\n"
                    "cocoon vm run --rm debian:12 -- uname -a\n",
        .opts = groups,
        .excludes = vm_excludes,
        .flags = CMD_COMMAND,
        .size = sizeof(struct options),
        .complete = COMPLETE_IMAGE,
        .run = run,
};
