/* Starting, running and identifying processes. See proc.h. */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/timeutil.h"

extern char **environ;

/* Which step failed between fork and exec, sent through a close-on-exec pipe. */
enum stage { STAGE_FDS = 1, STAGE_CWD, STAGE_NETNS, STAGE_PIDFILE, STAGE_EXEC };

struct child_report {
        int stage;
        int sys;
};

static const char *const stage_text[] = {
        [STAGE_FDS] = "pass descriptors to",
        [STAGE_CWD] = "enter working directory of",
        [STAGE_NETNS] = "enter network namespace for",
        [STAGE_PIDFILE] = "write pid file of",
        [STAGE_EXEC] = "execute",
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

        for (int sig = 1; sig < 32; sig++)
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
        if (chdir(s->cwd ? s->cwd : "/") < 0)
                child_fail(p, STAGE_CWD);
        if (s->pid_file)
                child_pid_file(p);
        child_fds(p);
        /* dup2 cleared the flag on the descriptors to pass; everything else goes at exec. */
        if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
                child_fail(p, STAGE_FDS);
        for (size_t i = 0; i < s->n_fds; i++)
                if (fcntl(s->fds[i].to, F_SETFD, 0) < 0)
                        child_fail(p, STAGE_FDS);
        execve(p->file, p->argv, p->env);
        child_fail(p, STAGE_EXEC);
}

int cc_spawn(const struct cc_spawn *spec, pid_t *ret_pid, int *ret_pidfd, struct cc_err *err)
{
        CC_FREE char *file = cc_find_program(spec->argv[0]);
        CC_CLOSE int null_fd = -1;
        CC_CLOSE int netns_fd = -1;
        CC_CLOSE int report_out = -1;
        CC_CLOSE int report_in = -1;
        CC_CLOSE int pidfd = -1;
        struct child_report report;
        struct child_plan plan;
        int pipefd[2];
        ssize_t n;
        pid_t pid;

        if (!file)
                return cc_fail(err, CC_UNAVAILABLE, "%s: executable not found", spec->argv[0]);
        if (spec->n_fds > MAX_CHILD_FDS)
                return cc_fail(err, CC_INTERNAL, "too many descriptors for %s", spec->argv[0]);
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
        pid = fork();
        if (pid < 0)
                return cc_fail_errno(err, errno, "fork for %s", spec->argv[0]);
        if (pid == 0)
                child_main(&plan);

        close(TAKE_FD(report_in));
        do
                n = read(report_out, &report, sizeof(report));
        while (n < 0 && errno == EINTR);
        if (n != 0) {
                (void)waitpid(pid, NULL, 0);
                if (spec->pid_file)
                        (void)unlink(spec->pid_file);
                if (n != (ssize_t)sizeof(report) || report.stage < STAGE_FDS ||
                    report.stage > STAGE_EXEC)
                        return cc_fail(err, CC_IO, "%s: could not be started", spec->argv[0]);
                return cc_fail_errno(err, report.sys, "%s %s", stage_text[report.stage],
                                     spec->argv[0]);
        }
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
        if (pidfd < 0) {
                /* Unreaped child: the pid cannot have been recycled. */
                int e = errno;

                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
                if (spec->pid_file)
                        (void)unlink(spec->pid_file);
                return cc_fail_errno(err, e, "open pidfd of %s", spec->argv[0]);
        }
        *ret_pid = pid;
        if (ret_pidfd)
                *ret_pidfd = TAKE_FD(pidfd);
        return 0;
}

void cc_run_result_free(struct cc_run_result *r)
{
        cc_buf_free(&r->out);
        cc_buf_free(&r->err);
}

struct run_io {
        struct pollfd fds[4]; /* stdin, stdout, stderr, interruption */
        const char *input;
        size_t left;
        size_t max;
        struct cc_buf *out[3];
};

/* One readable stream. Returns negative when the limit is exceeded. */
static int run_read(struct run_io *io, int i, const char *name, struct cc_err *err)
{
        char chunk[16384];
        ssize_t n = read(io->fds[i].fd, chunk, sizeof(chunk));

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n <= 0) {
                close(io->fds[i].fd);
                io->fds[i].fd = -1;
                return 0;
        }
        if (io->out[i]->len + (size_t)n > io->max)
                return cc_fail(err, CC_INVALID, "%s printed more than %zu bytes", name, io->max);
        cc_buf_add(io->out[i], chunk, (size_t)n);
        return 0;
}

static void run_write(struct run_io *io)
{
        ssize_t n = write(io->fds[0].fd, io->input, io->left);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n > 0) {
                io->input += n;
                io->left -= (size_t)n;
        }
        if (n < 0 || io->left == 0) {
                close(io->fds[0].fd);
                io->fds[0].fd = -1;
        }
}

static int run_loop(struct run_io *io, const char *name, int timeout_ms, struct cc_err *err)
{
        int64_t deadline = timeout_ms > 0 ? cc_monotonic() + timeout_ms * CC_NSEC_PER_MSEC : 0;

        while (io->fds[1].fd >= 0 || io->fds[2].fd >= 0) {
                int wait = -1;
                int r;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "%s: interrupted", name);
                if (deadline) {
                        int64_t left = deadline - cc_monotonic();

                        if (left <= 0)
                                return cc_fail(err, CC_TIMEOUT, "%s did not finish within %d ms",
                                               name, timeout_ms);
                        wait = (int)(left / CC_NSEC_PER_MSEC) + 1;
                }
                if (poll(io->fds, CC_ARRAY_LEN(io->fds), wait) < 0 && errno != EINTR)
                        return cc_fail_errno(err, errno, "poll");
                if (io->fds[0].fd >= 0 && io->fds[0].revents)
                        run_write(io);
                for (int i = 1; i < 3; i++) {
                        if (io->fds[i].fd < 0 || !io->fds[i].revents)
                                continue;
                        r = run_read(io, i, name, err);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static void ignore_sigpipe(void)
{
        /* A tool that closes stdin early must not kill us; nothing of ours relies on SIGPIPE. */
        static bool done;

        if (!done)
                (void)signal(SIGPIPE, SIG_IGN);
        done = true;
}

int cc_run(const char *const *argv, const void *input, size_t n, size_t max, int timeout_ms,
           struct cc_run_result *ret, struct cc_err *err)
{
        int in[2] = { -1, -1 };
        int out[2] = { -1, -1 };
        int eout[2] = { -1, -1 };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        struct run_io io = { .input = input, .left = n, .max = max };
        struct cc_spawn spec = { .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        CC_CLOSE int pidfd = -1;
        pid_t pid = -1;
        int status = 0;
        int r = 0;

        ignore_sigpipe();
        if (pipe2(out, O_CLOEXEC) < 0 || pipe2(eout, O_CLOEXEC) < 0 ||
            (input && pipe2(in, O_CLOEXEC) < 0))
                r = cc_fail_errno(err, errno, "create pipe");
        if (r == 0) {
                spec.fd_in = in[0];
                spec.fd_out = out[1];
                spec.fd_err = eout[1];
                r = cc_spawn(&spec, &pid, &pidfd, err);
        }
        for (int i = 0; i < 3; i++) {
                int fd = i == 0 ? in[0] : i == 1 ? out[1] : eout[1];

                if (fd >= 0)
                        close(fd);
        }
        io.fds[0] = (struct pollfd){ .fd = in[1], .events = POLLOUT };
        io.fds[1] = (struct pollfd){ .fd = out[0], .events = POLLIN };
        io.fds[2] = (struct pollfd){ .fd = eout[0], .events = POLLIN };
        io.fds[3] = (struct pollfd){ .fd = cc_interrupt_fd(), .events = POLLIN };
        io.out[1] = &result.out;
        io.out[2] = &result.err;
        if (r == 0) {
                if (in[1] >= 0)
                        (void)fcntl(in[1], F_SETFL, O_NONBLOCK);
                if (in[1] >= 0 && n == 0) {
                        close(in[1]);
                        io.fds[0].fd = -1;
                }
                /* Inside an uninterruptible section a pending signal must not make poll() spin. */
                if (cc_interrupt_signal() && !cc_interrupted())
                        io.fds[3].fd = -1;
                r = run_loop(&io, argv[0], timeout_ms, err);
        }
        for (int i = 0; i < 3; i++)
                if (io.fds[i].fd >= 0)
                        close(io.fds[i].fd);
        if (pid < 0)
                return r;
        if (r < 0)
                (void)kill(-pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (r < 0)
                return r;
        result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        *ret = result;
        result = (struct cc_run_result){ 0 };
        return 0;
}

/* The last non-empty line of s, cut in place; "" if there is none. */
static char *last_line(char *s)
{
        char *line;
        size_t n = strlen(s);

        while (n && (s[n - 1] == '\n' || s[n - 1] == '\r' || s[n - 1] == ' '))
                s[--n] = '\0';
        line = strrchr(s, '\n');
        return line ? line + 1 : s;
}

int cc_run_ok(const char *const *argv, int timeout_ms, char **ret_out, struct cc_err *err)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        int r = cc_run(argv, NULL, 0, 1 << 20, timeout_ms, &result, err);
        const char *why = "";

        if (r < 0)
                return r;
        if (result.status != 0) {
                if (result.err.len)
                        why = last_line(result.err.data);
                if (!*why && result.out.len)
                        why = last_line(result.out.data);
                return cc_fail(err, CC_IO, "%s failed with status %d%s%s", cc_basename(argv[0]),
                               result.status, *why ? ": " : "", why);
        }
        if (ret_out)
                *ret_out = cc_buf_take(&result.out);
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
        if (cc_parse_i64(text, &v) < 0 || v <= 0 || v > INT32_MAX)
                return -CC_NOT_FOUND;
        *ret = (pid_t)v;
        return 0;
}

int cc_pidfd_wait(int pidfd, int timeout_ms)
{
        int64_t deadline = cc_monotonic() + (int64_t)timeout_ms * CC_NSEC_PER_MSEC;

        for (;;) {
                bool stoppable = !(cc_interrupt_signal() && !cc_interrupted());
                struct pollfd fds[2] = {
                        { .fd = pidfd, .events = POLLIN },
                        { .fd = stoppable ? cc_interrupt_fd() : -1, .events = POLLIN },
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
