/* Running a tool to completion with its output captured. See proc.h. */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/interrupt.h"
#include "base/timeutil.h"

void cc_run_result_free(struct cc_run_result *r)
{
        cc_buf_free(&r->out);
        cc_buf_free(&r->err);
}

struct run_io {
        struct pollfd fds[5]; /* stdin, stdout, stderr, interruption, the tool itself */
        const char *input;
        size_t left;
        size_t max;
        struct cc_buf *out[3];
};

/* All a stream holds now. Returns negative when the limit is exceeded. */
static int run_read(struct run_io *io, int i, const char *name, struct cc_err *err)
{
        char chunk[16384];

        while (io->fds[i].fd >= 0) {
                ssize_t n = read(io->fds[i].fd, chunk, sizeof(chunk));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n <= 0) {
                        close(io->fds[i].fd);
                        io->fds[i].fd = -1;
                        return 0;
                }
                if ((size_t)n > io->max - io->out[i]->len)
                        return cc_fail(err, CC_INVALID, "%s printed more than %zu bytes", name,
                                       io->max);
                cc_buf_add(io->out[i], chunk, (size_t)n);
        }
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

/*
 * Until the tool has ended, not until its pipes are closed: it may close them and work on, or leave
 * a child behind that holds them open.
 */
static int run_loop(struct run_io *io, const char *name, int timeout_ms, struct cc_err *err)
{
        int64_t deadline = timeout_ms > 0 ? cc_monotonic() + timeout_ms * CC_NSEC_PER_MSEC : 0;
        bool ended = false;

        while (!ended) {
                int wait = -1;
                int r;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "%s: interrupted", name);
                if (deadline) {
                        int64_t left = deadline - cc_monotonic();

                        if (left <= 0)
                                return cc_fail(err, CC_TIMEOUT, "%s did not finish within %d ms",
                                               name, timeout_ms);
                        left = left / CC_NSEC_PER_MSEC + 1;
                        wait = left > INT_MAX ? INT_MAX : (int)left;
                }
                io->fds[3].fd = cc_interrupt_wait_fd();
                if (poll(io->fds, CC_ARRAY_LEN(io->fds), wait) < 0) {
                        if (errno == EINTR)
                                continue;
                        return cc_fail_errno(err, errno, "poll");
                }
                ended = io->fds[4].revents != 0;
                if (io->fds[0].fd >= 0 && io->fds[0].revents)
                        run_write(io);
                for (int i = 1; i < 3; i++) {
                        if (!io->fds[i].revents && !ended)
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
        struct sigaction sa;

        if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
                (void)signal(SIGPIPE, SIG_IGN);
}

int cc_run_env(const char *const *argv, const char *const *env, const void *input, size_t n,
               size_t max, int timeout_ms, struct cc_run_result *ret, struct cc_err *err)
{
        int in[2] = { -1, -1 };
        int out[2] = { -1, -1 };
        int eout[2] = { -1, -1 };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        struct run_io io = { .input = input, .left = n, .max = max };
        struct cc_spawn spec = {
                .argv = argv, .env = env, .fd_in = -1, .fd_out = -1, .fd_err = -1
        };
        CC_CLOSE int pidfd = -1;
        pid_t pid = -1;
        pid_t got;
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
        io.fds[3] = (struct pollfd){ .fd = -1, .events = POLLIN };
        io.fds[4] = (struct pollfd){ .fd = pidfd, .events = POLLIN };
        io.out[1] = &result.out;
        io.out[2] = &result.err;
        if (r == 0) {
                for (int i = 0; i < 3; i++)
                        if (io.fds[i].fd >= 0)
                                (void)fcntl(io.fds[i].fd, F_SETFL, O_NONBLOCK);
                if (in[1] >= 0 && n == 0) {
                        close(in[1]);
                        io.fds[0].fd = -1;
                }
                r = run_loop(&io, argv[0], timeout_ms, err);
        }
        for (int i = 0; i < 3; i++)
                if (io.fds[i].fd >= 0)
                        close(io.fds[i].fd);
        if (pid < 0)
                return r;
        if (r < 0)
                (void)kill(-pid, SIGKILL);
        while ((got = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
                ;
        if (r < 0)
                return r;
        if (got != pid)
                return cc_fail(err, CC_INTERNAL, "%s: exit status lost", argv[0]);
        result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        *ret = result;
        result = (struct cc_run_result){ 0 };
        return 0;
}

int cc_run(const char *const *argv, const void *input, size_t n, size_t max, int timeout_ms,
           struct cc_run_result *ret, struct cc_err *err)
{
        return cc_run_env(argv, NULL, input, n, max, timeout_ms, ret, err);
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
