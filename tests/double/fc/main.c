/*
 * A stand-in for Firecracker: its command line, its API on a unix socket, its manners as a process,
 * and behind them a guest that is only text. It runs nothing and needs no KVM. What it checks and
 * how it fails is Firecracker 1.16.1, compared with the real one by the suite that drives both.
 *
 * Knobs beside those of the common part (settings.h):
 *   VERSION    "1.16.1": what it claims to be, and which fields, limits and formats it knows
 *   BZIMAGE    1: a kernel need not be ELF
 *   IO_URING   "deny": the asynchronous drive engine is not to be had
 *   TAP        "record": TAPs are not opened
 *   KEYBOARD   "none": the guest has no keyboard driver, SendCtrlAltDel moves nothing
 *   SIGTERM    "ignore"
 * The power button is SendCtrlAltDel, after which the guest restarts: the process ends.
 * Commands on the CONTROL socket:
 *   write-disks TEXT   into every writable drive, at its start
 *   print TEXT         on the console; flood BYTES: that many, in lines of 64
 *   poweroff, reboot   by the guest: only the second ends the process
 *   crash              SIGKILL to itself
 * Journal: beside the common events "process" (identity at start) and "violation" (vm.h).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"
#include "args.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "common/control.h"
#include "common/fault.h"
#include "disk.h"
#include "manners.h"
#include "serial.h"
#include "vm.h"
#include "vmstate.h"

enum {
        EXIT_GENERIC = 1,
        EXIT_BAD_CONFIGURATION = 152,
        EXIT_BAD_ARGUMENT = 153,
        EXIT_SIGHUP = 156,
};

/* ---- the guest's side --------------------------------------------------------------------- */

static void guest_output(void *ctx, const char *data, size_t n)
{
        fcd_serial_write(ctx, data, n);
}

/* Only a reset reaches the VMM: behind a power-off it idles on. */
static void guest_power(void *ctx, enum dbl_power what)
{
        struct fcd_vm *vm = ctx;

        if (what == DBL_POWER_OFF && !vm->cad_reboots)
                return;
        vm->exit_status = 0;
        if (!vm->owed)
                dbl_loop_exit(vm->loop, 0);
}

static json_t *guest_disk_load(void *ctx)
{
        return fcd_disk_load(ctx);
}

static void guest_disk_store(void *ctx, json_t *files)
{
        fcd_disk_store(ctx, files);
}

static const struct dbl_guest_host guest_host = {
        .output = guest_output,
        .power = guest_power,
        .disk_load = guest_disk_load,
        .disk_store = guest_disk_store,
};

/* ---- a test's hand ------------------------------------------------------------------------ */

static int control(void *ctx, const char *name, const char *argument, struct cc_err *err)
{
        struct fcd_vm *vm = ctx;
        long long n;

        if (cc_streq(name, "write-disks"))
                return fcd_disk_pattern(vm, argument, err);
        if (cc_streq(name, "crash"))
                return kill(getpid(), SIGKILL);
        if (cc_streq(name, "poweroff") || cc_streq(name, "reboot")) {
                if (vm->state == FCD_NOT_STARTED)
                        return cc_fail(err, CC_STATE, "no machine");
                dbl_guest_off(vm->guest);
                guest_power(vm, *name == 'p' ? DBL_POWER_OFF : DBL_POWER_REBOOT);
                return 0;
        }
        if (cc_streq(name, "print")) {
                fcd_serial_write(vm, argument, strlen(argument));
                return 0;
        }
        if (cc_streq(name, "flood") && cc_parse_i64(argument, &n) == 0) {
                char line[64];

                memset(line, '.', sizeof(line));
                line[sizeof(line) - 1] = '\n';
                for (; n > 0; n -= (long long)sizeof(line))
                        fcd_serial_write(vm, line, sizeof(line));
                return 0;
        }
        return cc_fail(err, CC_USAGE, "unknown command %s", name);
}

/* ---- the process -------------------------------------------------------------------------- */

static void on_signal(void *arg, int sig)
{
        struct fcd_vm *vm = arg;
        sigset_t set;

        dbl_journal_add(vm->journal, "signal", json_pack("{s:s}", "signal", strsignal(sig)));
        if (sig == SIGHUP)
                _exit(EXIT_SIGHUP);
        if (cc_streq(dbl_setting(vm->settings, "SIGTERM"), "ignore"))
                return;
        /* No handler: it dies on the spot and leaves its sockets behind. */
        (void)signal(sig, SIG_DFL);
        sigemptyset(&set);
        sigaddset(&set, sig);
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
        (void)raise(sig);
}

static int watch_signals(struct fcd_vm *vm, struct cc_err *err)
{
        sigset_t set;

        (void)signal(SIGPIPE, SIG_IGN);
        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGTERM);
        return dbl_loop_signals(vm->loop, &set, on_signal, vm, err);
}

/* The way out of every failure: a line in the log, one on stderr, the status. */
static int quit(const struct fcd_vm *vm, int status, const char *text, const char *debug)
{
        fcd_log_write(&vm->log, FCD_LOG_ERROR, "main", "%s", text);
        (void)fprintf(stderr, "Error: %s\n", debug);
        fcd_log_write(&vm->log, FCD_LOG_ERROR, "main",
                      "Firecracker exiting with error. exit_code=%d", status);
        return status;
}

static int succeed(const struct fcd_vm *vm)
{
        (void)fflush(stdout);
        fcd_log_write(&vm->log, FCD_LOG_INFO, "main",
                      "Firecracker exiting successfully. exit_code=0");
        return 0;
}

static int describe(const struct fcd_vm *vm, const char *path)
{
        static const char prefix[] = "Failed to load snapshot state from file: ";
        static const char open_prefix[] = "Failed to open snapshot file: ";
        CC_BUF struct cc_buf fault = { 0 };
        CC_FREE char *version = NULL;
        CC_JSON json_t *state = NULL;
        CC_FREE char *text = NULL;

        if (fcd_vmstate_read(path, &state, &version, &fault) == 0) {
                (void)printf("v%s\n", version);
                return succeed(vm);
        }
        text = cc_startswith(fault.data, prefix)
                       ? xasprintf("When printing Snapshot Data format: Invalid data format "
                                   "version of snapshot file: %s",
                                   fault.data + strlen(prefix))
                       : xasprintf("When printing Snapshot Data format: Unable to open snapshot "
                                   "state file: %s",
                                   fault.data + strlen(open_prefix));
        return quit(vm, EXIT_GENERIC, text, "PrintSnapshotDataFormat");
}

/* Everything that may be wrong before the API is there. Returns -1 to go on, else the status. */
static int prepare(struct fcd_vm *vm, const struct fcd_args *args, int *ret_listener)
{
        CC_BUF struct cc_buf reason = { 0 };
        CC_FREE char *text = NULL;
        CC_FREE char *debug = NULL;
        struct cc_err err = CC_ERR_INIT;
        int level = args->level ? fcd_log_level(args->level) : FCD_LOG_INFO;
        int errnum;

        if (fcd_args_check_id(args->id, &reason) < 0) {
                fcd_log_write(&vm->log, FCD_LOG_ERROR, "main",
                              "Firecracker panicked at src/firecracker/src/main.rs:309:48:\n"
                              "Invalid instance ID: %s",
                              reason.data);
                abort();
        }
        vm->id = vm->log.id = args->id;
        if (level < 0) {
                text = xasprintf("Invalid value for logger level: Failed to parse string to level "
                                 "filter: %s.Possible values: [Error, Warning, Info, Debug]",
                                 args->level);
                debug = xasprintf("InvalidLogLevel(LevelFilterFromStrError(\"%s\"))", args->level);
                return quit(vm, EXIT_BAD_CONFIGURATION, text, debug);
        }
        errnum = args->log_path ? fcd_log_open(&vm->log, args->log_path, vm->minor >= 14) : 0;
        if (errnum) {
                text = xasprintf("Could not initialize logger: Failed to open target file: %s",
                                 fcd_os_error(errnum));
                debug = xasprintf("LoggerInitialization(LoggerUpdateError(Os { code: %d }))",
                                  errnum);
                return quit(vm, EXIT_GENERIC, text, debug);
        }
        vm->log.level = (enum fcd_level)level;
        fcd_log_write(&vm->log, FCD_LOG_INFO, "main", "Running Firecracker v%s", vm->version);
        if (dbl_listen(args->api_sock, ret_listener, &err) == 0)
                return -1;
        if (err.sys == EADDRINUSE) {
                text = xasprintf("RunWithApiError error: Failed to open the API socket at: %s. "
                                 "Check that it is not already used.",
                                 args->api_sock);
                debug = xasprintf("RunWithApi(FailedToBindSocket(\"%s\"))", args->api_sock);
        } else {
                text = xasprintf("RunWithApiError error: Failed to bind and run the HTTP server: "
                                 "IO error: %s",
                                 err.sys ? fcd_os_error(err.sys) : err.msg);
                debug = xstrdup("RunWithApi(FailedToBindAndRunHttpServer(IOError))");
        }
        return quit(vm, EXIT_GENERIC, text, debug);
}

static int serve(struct fcd_vm *vm, int listener)
{
        struct dbl_faults *faults = dbl_faults_new(dbl_setting(vm->settings, "FAULTS"));
        struct dbl_control *hand = NULL;
        struct dbl_server *server = NULL;
        int status;

        vm->guest = dbl_guest_new(vm->loop, vm->journal, vm->settings, &guest_host, vm);
        hand = dbl_control_new(vm->loop, vm->journal, dbl_setting(vm->settings, "CONTROL"), control,
                               vm);
        server = dbl_server_new(vm->loop, vm->journal, faults,
                                vm->minor >= 16 ? &fcd_api_form : &fcd_api_form_old, vm, listener);
        status = dbl_loop_run(vm->loop);
        fcd_serial_end(vm);
        dbl_server_free(server);
        dbl_control_free(hand);
        dbl_guest_free(vm->guest);
        dbl_faults_free(faults);
        if (status)
                return quit(vm, status,
                            "RunWithApiError error: Failed to build MicroVM: Loading snapshot "
                            "failed..",
                            "RunWithApi(BuildMicroVmError(Restore))");
        return succeed(vm);
}

static int run(struct fcd_vm *vm, int argc, char **argv)
{
        CC_BUF struct cc_buf text = { 0 };
        CC_BUF struct cc_buf debug = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct fcd_args args;
        int listener = -1;
        int status;

        vm->id = vm->log.id = "anonymous-instance";
        if (fcd_args_parse(argc, argv, &args, &text, &debug) < 0) {
                CC_FREE char *line = xasprintf("Arguments parsing error: %s \\n\\nFor more "
                                               "information try --help.",
                                               text.data);
                CC_FREE char *inner = xasprintf("ParseArguments(%s)", debug.data);

                return quit(vm, EXIT_BAD_ARGUMENT, line, inner);
        }
        if (args.version || args.help) {
                (void)printf("Firecracker v%s\n\n", vm->version);
                return succeed(vm);
        }
        if (args.snapshot_version) {
                (void)printf("v%s\n", fcd_format_version(vm->minor));
                return succeed(vm);
        }
        if (args.describe_snapshot)
                return describe(vm, args.describe_snapshot);
        fcd_check_manners(vm, argc, argv, &args);
        vm->pci = args.enable_pci;
        status = prepare(vm, &args, &listener);
        if (status >= 0)
                return status;
        if (watch_signals(vm, &err) < 0)
                return quit(vm, EXIT_GENERIC, err.msg, "RegisterSignalHandlers");
        return serve(vm, listener);
}

int main(int argc, char **argv)
{
        struct fcd_heritage heritage;
        struct dbl_settings *settings;
        struct fcd_vm vm;
        long long minor = 16;
        int status;

        fcd_heritage_read(&heritage); /* before anything is opened */
        settings = dbl_settings_load(argv[0]);
        fcd_vm_init(&vm);
        vm.settings = settings;
        vm.version = dbl_setting(settings, "VERSION");
        if (!vm.version)
                vm.version = "1.16.1";
        if (strlen(vm.version) > 3)
                minor = strtol(vm.version + 2, NULL, 10);
        vm.minor = (unsigned)minor;
        vm.journal = dbl_journal_open(dbl_setting(settings, "JOURNAL"));
        vm.loop = dbl_loop_new();
        dbl_journal_start(vm.journal, argc, argv);
        fcd_heritage_note(&vm, &heritage);
        status = run(&vm, argc, argv);
        dbl_journal_add(vm.journal, "exit", json_pack("{s:i}", "status", status));
        fcd_vm_clear(&vm);
        dbl_loop_free(vm.loop);
        dbl_journal_free(vm.journal);
        dbl_settings_free(settings);
        return status;
}
