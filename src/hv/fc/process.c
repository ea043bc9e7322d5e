/*
 * The Firecracker process (firecracker.md §1): its command line, log and console, and the wait
 * until it listens or never will. What it is told then is start.c's and load.c's.
 *
 * The console. The guest's serial line is Firecracker's stdin and stdout, the slave of a PTY that
 * we make, raw from the start. When the last descriptor of its master closes, the line is dead for
 * good. So Firecracker itself keeps one more, which it does not know: a launch that is killed, a
 * relay that cannot start or is killed cost nothing but the output of that time, because the next
 * relay takes the descriptor from the running process (fc_console_open). Nobody else reads it:
 * output that finds the PTY full is dropped by Firecracker, whose guest never waits. The PTY is
 * never a controlling terminal: SIGHUP would end Firecracker.
 */
#include "hv/fc/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/timeutil.h"
#include "hv/fc/api.h"
#include "hv/fc/fc.h"
#include "hv/launch.h"

#define SOCKET_WAIT_MS 5000
#define DEATH_MS       2000

const char *const fc_runtime_files[] = {
        FC_API_SOCK, FC_VSOCK_SOCK, "console.sock", FC_PID, "cmdline", NULL,
};

void fc_process_argv(const struct vm_spec *spec, const char *binary, struct cc_strv *argv)
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
        if (spec->pci)
                cc_strv_add(argv, "--enable-pci");
}

int fc_check_taps(const struct vm_spec *spec, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };

        for (size_t i = 0; i < spec->n_nics; i++)
                cc_strv_add(&names, spec->nics[i].tap);
        return names.len ? hv_taps_check(spec->netns, (const char *const *)names.v, names.len, err)
                         : 0;
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

/* The error of a Firecracker that ended at `when`. */
static int died(const struct fc_process *p, const char *when, struct cc_err *err)
{
        CC_FREE char *line = hv_last_words(p->spec->log_dir, FC_STDERR);

        if (!*line) {
                free(line);
                line = hv_last_words(p->spec->log_dir, FC_LOG);
        }
        return cc_fail(err, CC_UNAVAILABLE, "%s firecracker: exited %s: %s", p->doing, when,
                       *line ? line : "the process ended without a message");
}

int fc_process_failed(const struct fc_process *p, int pidfd, const char *target,
                      const struct cc_err *why, struct cc_err *err)
{
        /* A connection goes a moment before its process. */
        if ((why->class == CC_UNAVAILABLE || why->class == CC_IO) &&
            cc_pidfd_wait(pidfd, DEATH_MS) == 1) {
                CC_FREE char *when = xasprintf("during PUT %s", target);

                return died(p, when, err);
        }
        (void)cc_err_copy(err, why);
        return why->class == CC_CANCELED ? -CC_CANCELED : cc_wrap(err, "%s firecracker", p->doing);
}

/*
 * Firecracker takes a millisecond or two until it listens. An inotify watch would tell, but closing
 * one waits for a grace period of the kernel's, 10 ms and more; so the socket is tried every
 * millisecond, and only the death of the process is waited for.
 */
static int wait_socket(const struct fc_process *p, int pidfd, struct cc_err *err)
{
        int wait_ms = p->env->socket_wait_ms > 0 ? p->env->socket_wait_ms : SOCKET_WAIT_MS;
        int64_t deadline = cc_monotonic() + wait_ms * CC_NSEC_PER_MSEC;

        for (;;) {
                CC_CLOSE int fd = -1;
                int r;

                if (hv_connect_unix(p->spec->run_dir, FC_API_SOCK, &fd, NULL) == 0)
                        return 0;
                if (cc_monotonic() >= deadline)
                        return cc_fail(err, CC_TIMEOUT,
                                       "%s firecracker: its socket was not ready within %d ms",
                                       p->doing, wait_ms);
                r = cc_pidfd_wait(pidfd, 1);
                if (r == 1)
                        return died(p, "before its socket was ready", err);
                if (r < 0)
                        return cc_fail(err, CC_CANCELED, "interrupted");
        }
}

int fc_process_start(const struct fc_process *p, struct vm_proc *ret, struct cc_err *err)
{
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        const struct vm_spec *spec = p->spec;
        CC_CLOSE int master = -1;
        CC_CLOSE int slave = -1;
        struct cc_fd_map console;
        struct hv_launch l;
        int r = rotate_log(spec, err);

        if (r == 0)
                r = make_console(&master, &slave, err);
        if (r < 0)
                return cc_wrap(err, "%s firecracker", p->doing);
        console = (struct cc_fd_map){ .from = master, .to = FC_CONSOLE_FD };
        l = (struct hv_launch){
                .title = "firecracker",
                .run_dir = spec->run_dir,
                .log_dir = spec->log_dir,
                .log_name = FC_STDERR,
                .pid_name = FC_PID,
                .argv = p->argv,
                .fds = &console,
                .n_fds = 1,
                .netns = spec->netns,
                .binds = p->binds,
                .n_binds = p->n_binds,
                .tty = &slave,
                .failpoint = p->failpoint,
        };
        r = hv_launch(&l, &proc, err);
        if (r == 0) {
                close(TAKE_FD(slave));
                proc.console = TAKE_FD(master);
                r = wait_socket(p, proc.pidfd, err);
        }
        if (r < 0)
                return r;
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}
