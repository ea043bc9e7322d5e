/* The double of the cloud-hypervisor program: launch, signals, control, end. See vmm.h for the
 * knobs, and common/ for those of every double. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"
#include "base/alloc.h"
#include "base/json.h"
#include "base/timeutil.h"
#include "cli.h"
#include "common/control.h"
#include "validate.h"

struct program {
        struct ch_cli cli;
        struct ch_vmm vmm;
        struct dbl_loop *loop;
        struct dbl_journal *journal;
        struct dbl_faults *faults;
        struct dbl_settings *settings;
        struct dbl_server *server;
        struct dbl_control *control;
        struct dbl_server_form form;
        int lock; /* api.sock.lock, -1 without one */
};

static void print_version(int release)
{
        printf("cloud-hypervisor %s\n", ch_build_version(release));
        if (release >= 53)
                puts("Migration Protocol Versions: 0");
}

/* ---- the API socket ----------------------------------------------------------------------- */

static int lock_socket(struct program *p, const char *path, struct ch_error *e)
{
        CC_FREE char *lock_path = xasprintf("%s.lock", path);
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        p->lock = open(lock_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (p->lock < 0) {
                ch_fail_errno(e, errno);
                return ch_wrap(e, "Error creation API server's socket");
        }
        if (fcntl(p->lock, F_OFD_SETLK, &lock) < 0)
                return ch_fail(e, CH_OTHER,
                               "API socket \"%s\" is already in use by another running instance",
                               path);
        /* Whoever held it is gone, and so is the use of the socket. */
        (void)unlink(path);
        return 0;
}

static int serve(struct program *p, const char *path, struct ch_error *e)
{
        struct cc_err err = CC_ERR_INIT;
        int fd;

        if (p->vmm.dialect.release >= 53 && lock_socket(p, path, e) < 0)
                return ch_wrap(e, "Failed to start the VMM thread");
        if (dbl_listen(path, &fd, &err) < 0) {
                if (err.sys)
                        ch_fail_errno(e, err.sys);
                else
                        ch_fail(e, CH_OTHER, "%s", err.msg);
                ch_wrap(e, "Error creation API server's socket");
                return ch_wrap(e, "Failed to start the VMM thread");
        }
        p->form = ch_api_form;
        if (p->vmm.dialect.release >= 54)
                p->form.body_max = 4 << 20;
        p->server = dbl_server_new(p->loop, p->journal, p->faults, &p->form, &p->vmm, fd);
        return 0;
}

/* ---- the VM of the command line ----------------------------------------------------------- */

static int start_vm(struct program *p, struct ch_error *e)
{
        CC_JSON json_t *config = NULL;

        if (p->cli.payload) {
                if (ch_cli_config(&p->cli, &p->vmm.dialect, &config, e) < 0)
                        return ch_wrap(e, "Error parsing config");
                if (ch_validate(config, e) < 0) {
                        ch_wrap(e, "Error validating configuration");
                        return ch_wrap(e, "Error parsing config");
                }
                if (ch_vm_create(&p->vmm, config, e) < 0) {
                        ch_wrap(e, "The VM could not be created");
                        return ch_wrap(e, "Error creating VM");
                }
                if (ch_vm_boot(&p->vmm, e) < 0) {
                        ch_wrap(e, "The VM could not boot");
                        return ch_wrap(e, "Error booting VM");
                }
        } else if (p->cli.restore) {
                if (ch_cli_restore(&p->cli, &p->vmm.dialect, &config, e) < 0)
                        return ch_wrap(e, "Error parsing restore");
                if (ch_vm_restore(&p->vmm, config, e) < 0) {
                        ch_wrap(e, "The VM could not be restored");
                        return ch_wrap(e, "Error restoring VM");
                }
        }
        return 0;
}

static void on_start(void *arg)
{
        struct program *p = arg;
        CH_ERROR struct ch_error e = { 0 };

        if (start_vm(p, &e) == 0)
                return;
        ch_error_print(&e);
        dbl_loop_exit(p->loop, 1);
}

/* ---- signals and control ------------------------------------------------------------------ */

static void on_signal(void *arg, int sig)
{
        struct program *p = arg;

        dbl_journal_add(p->journal, "signal", json_pack("{s:s}", "signal", sigabbrev_np(sig)));
        if (!cc_streq(dbl_setting(p->settings, "SIGTERM"), "ignore"))
                dbl_loop_exit(p->loop, 0);
}

static int control(void *ctx, const char *name, const char *argument, struct cc_err *err)
{
        struct program *p = ctx;
        struct ch_device *dev = ch_device_find(&p->vmm, argument);
        long long n = 0;

        if (cc_streq(name, "poweroff") || cc_streq(name, "reboot")) {
                if (!p->vmm.owned)
                        return cc_fail(err, CC_STATE, "no VM");
                dbl_guest_off(p->vmm.guest);
                ch_guest_power(&p->vmm, *name == 'p' ? DBL_POWER_OFF : DBL_POWER_REBOOT);
        } else if (cc_streq(name, "ack")) {
                if (!dev || !dev->pending)
                        return cc_fail(err, CC_NOT_FOUND, "no such pending device");
                ch_device_eject(dev);
        } else if (cc_streq(name, "balloon")) {
                if (cc_parse_i64(argument, &n) < 0 || n < 0)
                        return cc_fail(err, CC_INVALID, "bytes wanted");
                p->vmm.balloon = n;
        } else if (cc_streq(name, "crash")) {
                (void)kill(getpid(), SIGKILL);
        } else {
                return cc_fail(err, CC_INVALID, "unknown command");
        }
        return 0;
}

static int run(struct program *p, struct ch_error *e)
{
        struct cc_err err = CC_ERR_INIT;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        (void)signal(SIGCHLD, SIG_IGN);
        (void)signal(SIGPIPE, SIG_IGN);
        if (dbl_loop_signals(p->loop, &set, on_signal, p, &err) < 0)
                return ch_fail(e, CH_OTHER, "%s", err.msg);
        if (p->cli.api_socket && serve(p, p->cli.api_socket, e) < 0)
                return -1;
        p->control = dbl_control_new(p->loop, p->journal, dbl_setting(p->settings, "CONTROL"),
                                     control, p);
        dbl_loop_at(p->loop,
                    cc_monotonic() + dbl_setting_int(p->settings, "START_MS", 0) * CC_NSEC_PER_MSEC,
                    on_start, p);
        return dbl_loop_run(p->loop);
}

int main(int argc, char **argv)
{
        struct program p = { .lock = -1 };
        CH_ERROR struct ch_error e = { 0 };
        int status;

        umask(077);
        p.settings = dbl_settings_load(argv[0]);
        p.loop = dbl_loop_new();
        p.journal = dbl_journal_open(dbl_setting(p.settings, "JOURNAL"));
        p.faults = dbl_faults_new(dbl_setting(p.settings, "FAULTS"));
        ch_vmm_init(&p.vmm, p.loop, p.journal, p.settings);
        ch_cli_parse(&p.cli, argc, argv);
        if (p.cli.version) {
                print_version(p.vmm.dialect.release);
                status = 0;
        } else {
                dbl_journal_start(p.journal, argc, argv);
                p.vmm.no_shutdown = p.cli.no_shutdown;
                status = run(&p, &e);
                if (status < 0) {
                        ch_error_print(&e);
                        status = 1;
                }
                /* The socket goes only with a clean end: a crash leaves it. */
                if (status == 0 && p.cli.api_socket)
                        (void)unlink(p.cli.api_socket);
                dbl_journal_add(p.journal, "exit", json_pack("{s:i}", "status", status));
        }
        dbl_server_free(p.server);
        dbl_control_free(p.control);
        ch_vmm_free(&p.vmm);
        ch_cli_free(&p.cli);
        dbl_faults_free(p.faults);
        dbl_journal_free(p.journal);
        dbl_loop_free(p.loop);
        dbl_settings_free(p.settings);
        if (p.lock >= 0)
                close(p.lock);
        return status;
}
