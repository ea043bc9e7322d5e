/* Starting and identifying processes. Running a tool to completion is in run.c. See proc.h. */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/timeutil.h"

extern char **environ;

const char *const cc_lasting_env[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL
};

/* Which step failed between fork and exec, sent through a close-on-exec pipe. */
enum stage { STAGE_FDS = 1, STAGE_CWD, STAGE_NETNS, STAGE_BINDS, STAGE_PIDFILE, STAGE_EXEC };

struct child_report {
        int stage;
        int sys;
};

static const char *const stage_text[] = {
        [STAGE_FDS] = "pass descriptors to",           [STAGE_CWD] = "enter working directory of",
        [STAGE_NETNS] = "enter network namespace for", [STAGE_BINDS] = "redirect files for",
        [STAGE_PIDFILE] = "write pid file of",         [STAGE_EXEC] = "execute",
};

#define MAX_CHILD_FDS 128

/* Everything the child needs, prepared before fork: between fork and exec only async-signal-safe
 * calls. */
struct child_plan {
        const char *file;
        char *const *argv;
        char *const *env;
        const struct cc_spawn *spec;
        int netns_fd;
        int null_fd;
        int report_fd;
};

static void child_fail(const struct child_plan *p, enum stage stage) __attribute__((noreturn));
static void child_fail(const struct child_plan *p, enum stage stage)
{
        struct child_report r = { .stage = stage, .sys = errno };
        ssize_t n = write(p->report_fd, &r, sizeof(r));

        (void)n;
        _exit(127);
}

/*
 * Move every descriptor out of the way first (above all targets), then down to its place: a target
 * may be another one's source. *report_fd moves too.
 */
static void child_fds(struct child_plan *p)
{
        const struct cc_spawn *s = p->spec;
        int from[MAX_CHILD_FDS + 3];
        int to[MAX_CHILD_FDS + 3];
        size_t n = 0;
        int top = 3;

        from[n] = s->fd_in >= 0 ? s->fd_in : p->null_fd;
        to[n++] = 0;
        from[n] = s->fd_out >= 0 ? s->fd_out : p->null_fd;
        to[n++] = 1;
        from[n] = s->fd_err >= 0 ? s->fd_err : p->null_fd;
        to[n++] = 2;
        for (size_t i = 0; i < s->n_fds; i++) {
                from[n] = s->fds[i].from;
                to[n++] = s->fds[i].to;
                if (s->fds[i].to >= top)
                        top = s->fds[i].to + 1;
        }
        p->report_fd = fcntl(p->report_fd, F_DUPFD_CLOEXEC, top);
        if (p->report_fd < 0)
                _exit(127);
        for (size_t i = 0; i < n; i++) {
                from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, top);
                if (from[i] < 0)
                        child_fail(p, STAGE_FDS);
        }
        for (size_t i = 0; i < n; i++)
                if (dup2(from[i], to[i]) < 0)
                        child_fail(p, STAGE_FDS);
}

/* Private first: what is mounted here must not show outside, and the other way round. */
static void child_binds(const struct child_plan *p)
{
        const struct cc_spawn *s = p->spec;

        if (s->n_binds == 0)
                return;
        if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                child_fail(p, STAGE_BINDS);
        for (size_t i = 0; i < s->n_binds; i++)
                if (mount(s->binds[i].from, s->binds[i].to, NULL, MS_BIND, NULL) < 0)
                        child_fail(p, STAGE_BINDS);
}

static void child_pid_file(const struct child_plan *p)
{
        char text[16];
        char *s = text + sizeof(text);
        pid_t pid = getpid();
        int fd = open(p->spec->pid_file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                      0600);

        if (fd < 0)
                child_fail(p, STAGE_PIDFILE);
        *--s = '\n';
        for (; pid > 0; pid /= 10)
                *--s = (char)('0' + pid % 10);
        if (write(fd, s, (size_t)(text + sizeof(text) - s)) < 0)
                child_fail(p, STAGE_PIDFILE);
        close(fd);
}

static void child_main(struct child_plan *p) __attribute__((noreturn));
static void child_main(struct child_plan *p)
{
        const struct cc_spawn *s = p->spec;
        struct sigaction sa = { .sa_handler = SIG_DFL };
        sigset_t none;

        for (int sig = 1; sig < NSIG; sig++)
                if (sig != SIGKILL && sig != SIGSTOP)
                        (void)sigaction(sig, &sa, NULL);
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (s->new_session)
                (void)setsid();
        else
                (void)setpgid(0, 0);
        if (p->netns_fd >= 0 && setns(p->netns_fd, CLONE_NEWNET) < 0)
                child_fail(p, STAGE_NETNS);
        child_binds(p);
        if (s->file_mask)
                (void)umask(s->file_mask);
        if (s->pid_file)
                child_pid_file(p); /* before chdir: the path may be relative */
        if (chdir(s->cwd ? s->cwd : "/") < 0)
                child_fail(p, STAGE_CWD);
        child_fds(p);
        /* dup2 cleared the flag on the descriptors to pass; everything else goes at exec. */
        if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
                child_fail(p, STAGE_FDS);
        for (size_t i = 0; i < s->n_fds; i++)
                if (fcntl(s->fds[i].to, F_SETFD, 0) < 0)
                        child_fail(p, STAGE_FDS);
        if (s->detach) {
                pid_t pid = _Fork();

                if (pid > 0)
                        _exit(0);
                if (pid < 0)
                        child_fail(p, STAGE_EXEC);
        }
        execve(p->file, p->argv, p->env);
        child_fail(p, STAGE_EXEC);
}

/* The absolute path of the program: the child changes its directory before it executes it. */
static char *program_path(const char *name)
{
        CC_FREE char *file = cc_find_program(name);
        CC_FREE char *cwd = NULL;

        if (!file || file[0] == '/')
                return TAKE_PTR(file);
        cwd = getcwd(NULL, 0);
        return cwd ? cc_path_join(cwd, file) : NULL;
}

/* A parent that ignores SIGCHLD hands that down to us; every exit status would then be lost. */
static void keep_exit_statuses(void)
{
        struct sigaction sa;

        if (sigaction(SIGCHLD, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN)
                (void)signal(SIGCHLD, SIG_DFL);
}

static void reap_now(pid_t pid)
{
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
}

static void reap_failed(pid_t pid, const char *pid_file)
{
        reap_now(pid);
        if (pid_file)
                (void)unlink(pid_file);
}

int cc_spawn(const struct cc_spawn *spec, pid_t *ret_pid, int *ret_pidfd, struct cc_err *err)
{
        CC_FREE char *file = program_path(spec->argv[0]);
        CC_CLOSE int null_fd = -1;
        CC_CLOSE int netns_fd = -1;
        CC_CLOSE int report_out = -1;
        CC_CLOSE int report_in = -1;
        CC_CLOSE int pidfd = -1;
        struct child_report report;
        struct child_plan plan;
        int pipefd[2];
        sigset_t all;
        sigset_t old;
        int why;
        ssize_t n;
        pid_t pid;

        if (!file)
                return cc_fail(err, CC_UNAVAILABLE, "%s: executable not found", spec->argv[0]);
        if (spec->n_fds > MAX_CHILD_FDS)
                return cc_fail(err, CC_INTERNAL, "too many descriptors for %s", spec->argv[0]);
        for (size_t i = 0; i < spec->n_fds; i++)
                if (spec->fds[i].to < 3)
                        return cc_fail(err, CC_INTERNAL, "descriptor %d of %s is taken",
                                       spec->fds[i].to, spec->argv[0]);
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null_fd < 0)
                return cc_fail_errno(err, errno, "open /dev/null");
        if (!cc_isempty(spec->netns)) {
                netns_fd = open(spec->netns, O_RDONLY | O_CLOEXEC);
                if (netns_fd < 0)
                        return cc_fail_errno(err, errno, "open network namespace %s", spec->netns);
        }
        if (pipe2(pipefd, O_CLOEXEC) < 0)
                return cc_fail_errno(err, errno, "create pipe");
        report_out = pipefd[0];
        report_in = pipefd[1];
        plan = (struct child_plan){
                .file = file,
                .argv = (char *const *)spec->argv,
                .env = spec->env ? (char *const *)spec->env : environ,
                .spec = spec,
                .netns_fd = netns_fd,
                .null_fd = null_fd,
                .report_fd = report_in,
        };
        keep_exit_statuses();
        /* Blocked until the child has its default dispositions: our handlers must not run there. */
        sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        pid = fork();
        if (pid == 0)
                child_main(&plan);
        why = errno;
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (pid < 0)
                return cc_fail_errno(err, why, "fork for %s", spec->argv[0]);

        close(TAKE_FD(report_in));
        do
                n = read(report_out, &report, sizeof(report));
        while (n < 0 && errno == EINTR);
        if (n != 0) {
                reap_failed(pid, spec->pid_file);
                if (n != (ssize_t)sizeof(report) || report.stage < STAGE_FDS ||
                    report.stage > STAGE_EXEC)
                        return cc_fail(err, CC_IO, "%s: could not be started", spec->argv[0]);
                /* The file was there a moment ago: what is missing is its interpreter. */
                if (report.stage == STAGE_EXEC && report.sys == ENOENT)
                        return cc_fail(err, CC_UNAVAILABLE, "%s: its interpreter is missing",
                                       spec->argv[0]);
                return cc_fail_errno(err, report.sys, "%s %s", stage_text[report.stage],
                                     spec->argv[0]);
        }
        if (spec->detach) {
                reap_now(pid);
                return 0;
        }
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
        if (pidfd < 0) {
                /* Unreaped child: the pid cannot have been recycled. */
                int e = errno;

                (void)kill(pid, SIGKILL);
                reap_failed(pid, spec->pid_file);
                return cc_fail_errno(err, e, "open pidfd of %s", spec->argv[0]);
        }
        *ret_pid = pid;
        if (ret_pidfd)
                *ret_pidfd = TAKE_FD(pidfd);
        return 0;
}

int cc_proc_starttime(pid_t pid, uint64_t *ret)
{
        char path[32];
        char buf[1024];
        CC_CLOSE int fd = -1;
        ssize_t n;
        char *p;
        char state = 0;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -CC_NOT_FOUND;
        n = read(fd, buf, sizeof(buf) - 1);
        if (n <= 0)
                return -CC_NOT_FOUND;
        buf[n] = '\0';
        /* comm may hold anything, even ") R 1": only the last ')' ends it. */
        p = strrchr(buf, ')');
        if (!p || p[1] != ' ')
                return -CC_NOT_FOUND;
        p += 2;
        state = *p;
        if (state == 'Z' || state == 'X')
                return -CC_NOT_FOUND;
        for (int field = 3; field < 22 && p; field++) {
                p = strchr(p, ' ');
                if (p)
                        p++;
        }
        if (!p)
                return -CC_NOT_FOUND;
        *ret = strtoull(p, NULL, 10);
        return 0;
}

void cc_boot_id(char out[37])
{
        CC_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, out, 36);

        out[n == 36 ? 36 : 0] = '\0';
}

static bool cmdline_has(pid_t pid, const char *const *needles)
{
        char path[40];
        CC_FREE char *text = NULL;
        size_t len = 0;

        if (!needles || !needles[0])
                return true;
        (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
        if (cc_read_file(path, 1 << 20, &text, &len, NULL) < 0 || len == 0)
                return false;
        for (; *needles; needles++)
                if (!memmem(text, len, *needles, strlen(*needles)))
                        return false;
        return true;
}

int cc_proc_open(pid_t pid, uint64_t starttime, const char *const *needles, int *ret_pidfd)
{
        CC_CLOSE int pidfd = -1;
        uint64_t started;

        if (pid <= 0)
                return -CC_NOT_FOUND;
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
        if (pidfd < 0)
                return -CC_NOT_FOUND;
        /* Checked after the pidfd exists: what we look at now is what the pidfd refers to, or it
         * died. */
        if (cc_proc_starttime(pid, &started) < 0 || (starttime && started != starttime) ||
            !cmdline_has(pid, needles))
                return -CC_NOT_FOUND;
        *ret_pidfd = TAKE_FD(pidfd);
        return 0;
}

int cc_pid_file_read(const char *path, pid_t *ret)
{
        CC_FREE char *text = NULL;
        long long v;

        if (cc_read_file(path, 32, &text, NULL, NULL) < 0)
                return -CC_NOT_FOUND;
        text[strcspn(text, "\n")] = '\0';
        if (strspn(text, "0123456789") != strlen(text) || cc_parse_i64(text, &v) < 0 || v <= 0 ||
            v > INT32_MAX)
                return -CC_NOT_FOUND;
        *ret = (pid_t)v;
        return 0;
}

int cc_pidfd_wait(int pidfd, int timeout_ms)
{
        int64_t deadline = cc_monotonic() + (int64_t)timeout_ms * CC_NSEC_PER_MSEC;

        for (;;) {
                struct pollfd fds[2] = {
                        { .fd = pidfd, .events = POLLIN },
                        { .fd = cc_interrupt_wait_fd(), .events = POLLIN },
                };
                int64_t left = timeout_ms < 0 ? 0 : deadline - cc_monotonic();
                int r;

                if (left < 0)
                        left = 0;
                r = poll(fds, 2, timeout_ms < 0 ? -1 : (int)((left + 999999) / CC_NSEC_PER_MSEC));
                if (fds[0].revents && r > 0)
                        return 1;
                if (cc_interrupted())
                        return -CC_CANCELED;
                if (r == 0)
                        return 0;
        }
}

int cc_pidfd_signal(int pidfd, int sig, struct cc_err *err)
{
        if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0u) < 0 && errno != ESRCH)
                return cc_fail_errno(err, errno, "send signal %d", sig);
        return 0;
}

int cc_terminate(int pidfd, int grace_ms, struct cc_err *err)
{
        int r = cc_pidfd_signal(pidfd, SIGTERM, err);

        if (r < 0)
                return r;
        if (cc_pidfd_wait(pidfd, grace_ms) == 1)
                return 0;
        r = cc_pidfd_signal(pidfd, SIGKILL, err);
        if (r < 0)
                return r;
        cc_uninterruptible_begin();
        r = cc_pidfd_wait(pidfd, 5000);
        cc_uninterruptible_end();
        if (r != 1)
                return cc_fail(err, CC_TIMEOUT, "process did not end within 5 s of SIGKILL");
        return 0;
}

void cc_reap(pid_t pid)
{
        (void)waitpid(pid, NULL, WNOHANG);
}
