/*
 * Starting Firecracker (firecracker.md §1-3).
 *
 * Order: look everything up, build argv and requests, make the console's PTY, fork. Firecracker
 * makes its API socket itself; inotify and the pidfd tell when it is there or never will be. Then
 * the requests in their order, then InstanceStart, once. Until the fork nothing needs undoing but
 * files; after it, hv_abort() ends the process, and the runtime files go. The caller holds the VM's
 * lock throughout.
 *
 * The console. The guest's serial line is Firecracker's stdin and stdout, the slave of a PTY that
 * we make, raw from the start. When the last descriptor of its master closes, the line is dead for
 * good. So Firecracker itself keeps one more, which it does not know: a launch that is killed, a
 * relay that cannot start or is killed cost nothing but the output of that time, because the next
 * relay takes the descriptor from the running process (fc_console_open). Nobody else reads it:
 * output that finds the PTY full is dropped by Firecracker, whose guest never waits. The PTY is
 * never a controlling terminal: SIGHUP would end Firecracker.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "hv/fc/api.h"
#include "hv/fc/fc.h"
#include "hv/fc/install.h"
#include "hv/fc/machine.h"
#include "hv/launch.h"

#define SOCKET_WAIT_MS 5000
#define DEATH_MS       2000

const char *const fc_runtime_files[] = {
        FC_API_SOCK, FC_VSOCK_SOCK, "console.sock", FC_PID, "cmdline", NULL,
};

/* Everything a start needs to know before it touches anything. */
struct plan {
        struct fc_install install;
        struct fc_requests requests;
        struct cc_strv argv;
        bool io_uring;
};

static void plan_clear(struct plan *p)
{
        fc_install_clear(&p->install);
        fc_requests_clear(&p->requests);
        cc_strv_free(&p->argv);
}

static void build_argv(const struct vm_spec *spec, const char *binary, struct cc_strv *argv)
{
        cc_strv_add(argv, binary);
        cc_strv_add(argv, "--api-sock");
        cc_strv_take(argv, cc_path_join(spec->run_dir, FC_API_SOCK));
        cc_strv_add(argv, "--log-path");
        cc_strv_take(argv, cc_path_join(spec->log_dir, FC_LOG));
        cc_strv_add(argv, "--level");
        cc_strv_add(argv, "Warning");
        /* The ID, never the name, which may hold what Firecracker panics at. */
        cc_strv_add(argv, "--id");
        cc_strv_add(argv, spec->id);
}

static int make_plan(const struct hv_env *env, const struct vm_spec *spec, struct plan *p,
                     struct cc_err *err)
{
        struct fc_host host;
        int r = fc_machine_check(spec, err);

        if (r == 0)
                r = fc_install_find(env->binary, env->cache_dir, &p->install, err);
        if (r < 0)
                return r;
        p->io_uring = fc_io_uring_usable();
        host = (struct fc_host){
                .io_uring = p->io_uring,
                .nic_mtu = fc_version_at_least(&p->install, 1, 16, 0),
        };
        build_argv(spec, p->install.binary, &p->argv);
        return fc_machine_requests(spec, &host, &p->requests, err);
}

int fc_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
             struct cc_strv *ret_copies, struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        int r = make_plan(env, spec, &p, err);

        (void)ret_copies;
        if (r < 0)
                return r;
        *ret_argv = p.argv;
        p.argv = (struct cc_strv){ 0 };
        return 0;
}

int fc_debug_requests(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret,
                      struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        int r = make_plan(env, spec, &p, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < p.requests.n; i++) {
                cc_strv_add(ret, p.requests.v[i].method);
                cc_strv_add(ret, p.requests.v[i].target);
                cc_strv_add(ret, p.requests.v[i].body);
        }
        cc_strv_add(ret, "PUT");
        cc_strv_add(ret, "/actions");
        cc_strv_add(ret, FC_INSTANCE_START);
        return 0;
}

/* Our words for a file it cannot read name the file; Firecracker's are an error number. */
static int check_readable(const char *what, const char *path, struct cc_err *err)
{
        if (cc_isempty(path) || access(path, R_OK) == 0)
                return 0;
        return cc_fail_errno(err, errno, "%s %s", what, path);
}

/* Firecracker would make a device that is missing, and nothing would be connected to it. */
static int check_taps(const struct vm_spec *spec, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };

        for (size_t i = 0; i < spec->n_nics; i++)
                cc_strv_add(&names, spec->nics[i].tap);
        return names.len ? hv_taps_check(spec->netns, (const char *const *)names.v, names.len, err)
                         : 0;
}

static int check_files(const struct vm_spec *spec, struct cc_err *err)
{
        int r = check_readable("kernel", spec->kernel, err);

        if (r == 0)
                r = check_readable("initrd", spec->initrd, err);
        for (size_t i = 0; r == 0 && i < spec->n_disks; i++)
                r = check_readable("disk", spec->disks[i].path, err);
        return r;
}

/* Raw, so that neither the line discipline nor an echo touches the guest's bytes. */
static int make_console(int *ret_master, int *ret_slave, struct cc_err *err)
{
        CC_CLOSE int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        CC_CLOSE int slave = -1;
        struct termios raw;

        if (master < 0)
                return cc_fail_errno(err, errno, "open a pseudo terminal");
        if (grantpt(master) < 0 || unlockpt(master) < 0)
                return cc_fail_errno(err, errno, "unlock pseudo terminal");
        slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0 || tcgetattr(slave, &raw) < 0)
                return cc_fail_errno(err, errno, "open pseudo terminal slave");
        cfmakeraw(&raw);
        if (tcsetattr(slave, TCSANOW, &raw) < 0)
                return cc_fail_errno(err, errno, "set pseudo terminal to raw mode");
        *ret_master = TAKE_FD(master);
        *ret_slave = TAKE_FD(slave);
        return 0;
}

int fc_console_open(const char *run_dir, int vmm_pidfd, int *ret, struct cc_err *err)
{
        CC_CLOSE int fd = (int)syscall(SYS_pidfd_getfd, vmm_pidfd, FC_CONSOLE_FD, 0u);
        unsigned pty;
        int flags;

        (void)run_dir;
        if (fd < 0) {
                int e = errno;

                (void)cc_fail_errno(err, e, "take the console from firecracker");
                if (e == EPERM)
                        cc_hint(err, "pidfd_getfd(2) is forbidden here: the console is back when "
                                     "the VM is started again");
                return err ? -(int)err->class : -CC_UNAVAILABLE;
        }
        /* A VMM that something else started may hold anything under that number. */
        if (ioctl(fd, TIOCGPTN, &pty) < 0)
                return cc_fail(err, CC_UNAVAILABLE,
                               "firecracker does not hold its console: it is back when the VM is "
                               "started again");
        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return cc_fail_errno(err, errno, "make console nonblocking");
        *ret = TAKE_FD(fd);
        return 0;
}

/* An empty log from the first moment, which a follower waits for; the previous one is kept. */
static int rotate_log(const struct vm_spec *spec, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->log_dir, FC_LOG);
        CC_FREE char *old = cc_path_join(spec->log_dir, FC_LOG_OLD);
        CC_CLOSE int fd = -1;

        if (rename(path, old) < 0 && errno != ENOENT)
                return cc_fail_errno(err, errno, "rotate log %s", path);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        return fd < 0 ? cc_fail_errno(err, errno, "open log %s", path) : 0;
}

/* The error of a Firecracker that ended while we were `doing` something. */
static int died(const struct hv_launch *l, const char *doing, struct cc_err *err)
{
        CC_FREE char *line = hv_last_words(l->log_dir, FC_STDERR);

        if (!*line) {
                free(line);
                line = hv_last_words(l->log_dir, FC_LOG);
        }
        return cc_fail(err, CC_UNAVAILABLE, "launch firecracker: %s: %s", doing,
                       *line ? line : "the process ended without a message");
}

/* Until something in the run dir changes, the process ends, or `ms` have passed. 1: it ended. */
static int wait_event(int watch, int pidfd, int ms)
{
        struct pollfd fds[3] = {
                { .fd = pidfd, .events = POLLIN },
                { .fd = watch, .events = POLLIN },
                { .fd = cc_interrupt_wait_fd(), .events = POLLIN },
        };
        char events[4096] __attribute__((aligned(8)));

        if (poll(fds, CC_ARRAY_LEN(fds), ms) < 0)
                return 0;
        if (fds[1].revents)
                (void)!read(watch, events, sizeof(events)); /* only that something happened */
        return fds[0].revents ? 1 : 0;
}

/* Firecracker binds, then listens: between the two a connection is refused, and no event follows.
 */
static int wait_socket(const struct hv_env *env, const struct hv_launch *l, int pidfd,
                       struct cc_err *err)
{
        int wait_ms = env->socket_wait_ms > 0 ? env->socket_wait_ms : SOCKET_WAIT_MS;
        int64_t deadline = cc_monotonic() + wait_ms * CC_NSEC_PER_MSEC;
        CC_CLOSE int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

        if (watch < 0 || inotify_add_watch(watch, l->run_dir, IN_CREATE) < 0)
                return cc_fail_errno(err, errno, "watch %s", l->run_dir);
        for (;;) {
                struct cc_err why = CC_ERR_INIT;
                CC_CLOSE int fd = -1;
                int64_t left;

                if (hv_connect_unix(l->run_dir, FC_API_SOCK, &fd, &why) == 0)
                        return 0;
                left = (deadline - cc_monotonic() + CC_NSEC_PER_MSEC - 1) / CC_NSEC_PER_MSEC;
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (left <= 0)
                        return cc_fail(err, CC_TIMEOUT,
                                       "launch firecracker: its socket was not ready within %d ms",
                                       wait_ms);
                if (why.sys == ECONNREFUSED)
                        left = 1;
                if (wait_event(watch, pidfd, (int)left) == 1)
                        return died(l, "exited before its socket was ready", err);
        }
}

static int send_all(const struct hv_launch *l, const struct fc_requests *requests, int pidfd,
                    struct cc_err *err)
{
        struct fc_api api = { .run_dir = l->run_dir, .pidfd = pidfd };
        struct cc_err why = CC_ERR_INIT;
        const char *target = NULL;
        CC_FREE char *doing = NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && i < requests->n; i++) {
                const struct fc_request *q = &requests->v[i];

                target = q->target;
                r = fc_call(&api, q->method, target, q->body, FC_CALL_MS, true, NULL, &why);
        }
        if (r == 0) {
                target = "/actions (InstanceStart)";
                r = fc_instance_start(&api, &why);
        }
        if (r == 0)
                return 0;
        /* A connection goes a moment before its process. */
        if ((r == -CC_UNAVAILABLE || r == -CC_IO) && cc_pidfd_wait(pidfd, DEATH_MS) == 1) {
                doing = xasprintf("exited during PUT %s", target);
                return died(l, doing, err);
        }
        (void)cc_err_copy(err, &why);
        return r == -CC_CANCELED ? r : cc_wrap(err, "launch firecracker");
}

int fc_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
              struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        CC_CLOSE int master = -1;
        CC_CLOSE int slave = -1;
        struct cc_fd_map console;
        struct hv_launch l;
        int r = check_files(spec, err);

        if (r == 0)
                r = make_plan(env, spec, &p, err);
        if (r == 0)
                r = check_taps(spec, err);
        if (r < 0)
                return cc_wrap(err, "launch firecracker");
        if (!p.io_uring)
                cc_warn("fc.launch",
                        "vm %s: io_uring cannot be used here, disks are served by "
                        "blocking calls (slower)",
                        spec->id);
        r = rotate_log(spec, err);
        if (r == 0)
                r = make_console(&master, &slave, err);
        if (r < 0)
                return cc_wrap(err, "launch firecracker");
        console = (struct cc_fd_map){ .from = master, .to = FC_CONSOLE_FD };
        l = (struct hv_launch){
                .title = "firecracker",
                .run_dir = spec->run_dir,
                .log_dir = spec->log_dir,
                .log_name = FC_STDERR,
                .pid_name = FC_PID,
                .argv = (const char *const *)p.argv.v,
                .fds = &console,
                .n_fds = 1,
                .netns = spec->netns,
                .tty = &slave,
        };
        r = hv_launch(&l, &proc, err);
        if (r == 0) {
                close(TAKE_FD(slave));
                proc.console = TAKE_FD(master);
                r = wait_socket(env, &l, proc.pidfd, err);
        }
        if (r == 0)
                r = send_all(&l, &p.requests, proc.pidfd, err);
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, fc_runtime_files, NULL);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}
