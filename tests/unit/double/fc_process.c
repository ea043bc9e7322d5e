#include "fc_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/timeutil.h"

enum { START_MS = 20000, ANSWER_MS = 60000 };

static void die(const char *what)
{
        perror(what);
        abort();
}

const char *fc_binary(void)
{
        static char *path;
        const char *name = getenv("COCOON_FC");

        if (path)
                return path;
        path = realpath(name && *name ? name : DOUBLE_FC, NULL);
        if (!path)
                die("COCOON_FC");
        return path;
}

bool fc_is_double(void)
{
        const char *name = getenv("COCOON_FC");

        return !name || !*name;
}

/* A raw terminal whose slave is nobody's controlling terminal. Returns the slave. */
static int open_terminal(int *ret_master)
{
        struct termios raw;
        char name[64];
        int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        int slave;

        if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
            ptsname_r(master, name, sizeof(name)) != 0)
                die("open a terminal");
        slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0 || tcgetattr(slave, &raw) < 0)
                die(name);
        cfmakeraw(&raw);
        if (tcsetattr(slave, TCSANOW, &raw) < 0)
                die("tcsetattr");
        *ret_master = master;
        return slave;
}

static int connect_to(const char *path)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof(addr.sun_path))
                die(path);
        memcpy(addr.sun_path, path, strlen(path) + 1);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
                return fd;
        if (fd >= 0)
                close(fd);
        return -1;
}

static void wait_socket(struct fc *fc)
{
        int64_t deadline = cc_monotonic() + START_MS * CC_NSEC_PER_MSEC;

        while (cc_monotonic() < deadline) {
                int fd = connect_to(fc->sock);

                if (fd >= 0) {
                        close(fd);
                        return;
                }
                if (fc_wait(fc, 1) >= 0)
                        return; /* the first request will say so */
        }
}

static _Noreturn void child(const struct fc *fc, int slave, char **argv)
{
        int err = open(fc->err, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        /* A test that is killed takes it along. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || setsid() < 0 || err < 0 || dup2(slave, 0) < 0 ||
            dup2(slave, 1) < 0 || dup2(err, 2) < 0)
                _exit(126);
        (void)close_range(3, ~0U, 0);
        execv(fc_binary(), argv);
        _exit(127);
}

void fc_start(struct fc *fc, const char *id, const char *const *extra)
{
        CC_STRV struct cc_strv argv = { 0 };
        int slave, log;

        *fc = (struct fc){ .id = xstrdup(id), .terminal = -1 };
        fc->sock = xasprintf("%s/api.sock", id);
        fc->log = xasprintf("%s/firecracker.log", id);
        fc->err = xasprintf("%s/stderr", id);
        if (mkdir(id, 0700) < 0)
                die(id);
        log = open(fc->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (log < 0)
                die(fc->log);
        close(log);
        cc_strv_add(&argv, fc_binary());
        cc_strv_add(&argv, "--api-sock");
        cc_strv_add(&argv, fc->sock);
        cc_strv_add(&argv, "--log-path");
        cc_strv_add(&argv, fc->log);
        cc_strv_add(&argv, "--level");
        cc_strv_add(&argv, "Warning");
        cc_strv_add(&argv, "--id");
        cc_strv_add(&argv, id);
        for (; extra && *extra; extra++)
                cc_strv_add(&argv, *extra);
        slave = open_terminal(&fc->terminal);
        fc->pid = fork();
        if (fc->pid < 0)
                die("fork");
        if (fc->pid == 0)
                child(fc, slave, argv.v);
        close(slave);
        wait_socket(fc);
}

void fc_end(struct fc *fc)
{
        if (fc->pid > 0) {
                (void)kill(fc->pid, SIGKILL);
                (void)waitpid(fc->pid, NULL, 0);
        }
        if (fc->terminal >= 0)
                close(fc->terminal);
        free(fc->id);
        free(fc->sock);
        free(fc->log);
        free(fc->err);
        cc_buf_free(&fc->console);
        *fc = (struct fc){ .terminal = -1 };
}

/* The body of the first answer in `b`; false while it is not all there. */
static bool whole_answer(const struct cc_buf *b, const char **ret_body, size_t *ret_len)
{
        const char *end = b->data ? strstr(b->data, "\r\n\r\n") : NULL;
        const char *length = end ? strstr(b->data, "Content-Length: ") : NULL;

        if (!end)
                return false;
        *ret_body = end + 4;
        *ret_len =
                length && length < end ? strtoul(length + strlen("Content-Length: "), NULL, 10) : 0;
        return b->len - (size_t)(*ret_body - b->data) >= *ret_len;
}

int fc_exchange(const struct fc *fc, const char *data, size_t n, struct cc_buf *ret_body)
{
        CC_CLOSE int fd = connect_to(fc->sock);
        CC_BUF struct cc_buf in = { 0 };
        const char *body;
        size_t len;

        ret_body->len = 0;
        cc_buf_str(ret_body, "");
        if (fd < 0 || send(fd, data, n, MSG_NOSIGNAL) != (ssize_t)n)
                return 0;
        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                char chunk[4096];
                ssize_t got;

                if (poll(&p, 1, ANSWER_MS) <= 0)
                        return 0;
                got = recv(fd, chunk, sizeof(chunk), 0);
                if (got <= 0)
                        return 0;
                cc_buf_add(&in, chunk, (size_t)got);
                if (!whole_answer(&in, &body, &len))
                        continue;
                cc_buf_add(ret_body, body, len);
                return in.len > 12 ? (int)strtol(in.data + strlen("HTTP/1.1 "), NULL, 10) : 0;
        }
}

int fc_request(const struct fc *fc, const char *method, const char *path, const char *body,
               struct cc_buf *ret_body)
{
        CC_BUF struct cc_buf out = { 0 };

        cc_buf_printf(&out, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path);
        if (body)
                cc_buf_printf(&out, "Content-Length: %zu\r\n", strlen(body));
        cc_buf_printf(&out, "\r\n%s", body ? body : "");
        return fc_exchange(fc, out.data, out.len, ret_body);
}

bool fc_console_wait(struct fc *fc, const char *text, int ms)
{
        int64_t deadline = cc_monotonic() + ms * CC_NSEC_PER_MSEC;

        for (;;) {
                struct pollfd p = { .fd = fc->terminal, .events = POLLIN };
                int64_t left = deadline - cc_monotonic();
                char chunk[4096];
                ssize_t got;

                if (fc->console.data && strstr(fc->console.data, text))
                        return true;
                if (left <= 0 || poll(&p, 1, (int)(left / CC_NSEC_PER_MSEC) + 1) <= 0)
                        return false;
                got = read(fc->terminal, chunk, sizeof(chunk));
                if (got <= 0)
                        return false;
                cc_buf_add(&fc->console, chunk, (size_t)got);
        }
}

void fc_console_forget(struct fc *fc)
{
        fc->console.len = 0;
        cc_buf_str(&fc->console, "");
}

void fc_type(const struct fc *fc, const char *text)
{
        if (write(fc->terminal, text, strlen(text)) != (ssize_t)strlen(text))
                die("type");
}

int fc_wait(struct fc *fc, int ms)
{
        int64_t deadline = cc_monotonic() + ms * CC_NSEC_PER_MSEC;
        struct timespec tick = { .tv_nsec = CC_NSEC_PER_MSEC };
        int status;

        while (fc->pid > 0) {
                if (waitpid(fc->pid, &status, WNOHANG) == fc->pid) {
                        fc->pid = 0;
                        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                }
                if (cc_monotonic() >= deadline)
                        break;
                (void)nanosleep(&tick, NULL);
        }
        return -1;
}

int fc_run(const char *const *args, struct cc_buf *ret_out)
{
        CC_STRV struct cc_strv argv = { 0 };
        int pipefd[2];
        char chunk[1024];
        int status = 0;
        ssize_t got;
        pid_t pid;

        cc_strv_add(&argv, fc_binary());
        for (; *args; args++)
                cc_strv_add(&argv, *args);
        if (pipe2(pipefd, O_CLOEXEC) < 0)
                die("pipe");
        pid = fork();
        if (pid == 0) {
                int null = open("/dev/null", O_RDWR);

                if (null < 0 || dup2(null, 0) < 0 || dup2(pipefd[1], 1) < 0 || dup2(null, 2) < 0)
                        _exit(126);
                execv(fc_binary(), argv.v);
                _exit(127);
        }
        close(pipefd[1]);
        while ((got = read(pipefd[0], chunk, sizeof(chunk))) > 0)
                cc_buf_add(ret_out, chunk, (size_t)got);
        close(pipefd[0]);
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
                die("run");
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
