/*
 * The user's side of `vm console`: raw terminal <-> console.sock until the detach sequence, the end
 * of either side, or a signal. The terminal is restored on every way out, including the signals
 * that end a process by default. Output is the session itself, so this file writes to the terminal.
 */
#include "console/console.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/interrupt.h"
#include "base/terminal.h"
#include "console/escape.h"

/* Typed bytes that wait for a guest that does not read; more are dropped, so that the detach
 * sequence is always seen. */
#define PENDING_MAX 65536

struct session {
        int sock;
        struct console_escape escape;
        bool read_only;
        unsigned char pending[PENDING_MAX];
        size_t pending_len;
        struct cc_terminal terminal;
};

static int dial(const char *path, int *ret, struct cc_err *err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        CC_CLOSE int fd = -1;

        if (strlen(path) >= sizeof(addr.sun_path))
                return cc_fail(err, CC_INVALID, "socket path %s is too long", path);
        memcpy(addr.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                return cc_fail_errno(err, errno, "connect to console %s", path);
        *ret = TAKE_FD(fd);
        return 0;
}

/* Each step returns 1 when the session is over, 0 to go on, negative on failure. */

static int from_terminal(struct session *s, struct cc_err *err)
{
        unsigned char in[1024];
        unsigned char out[sizeof(in) + 1];
        size_t len;
        ssize_t n = read(STDIN_FILENO, in, sizeof(in));
        bool detach;

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n == 0 || (n < 0 && errno == EIO))
                return 1;
        if (n < 0)
                return cc_fail_errno(err, errno, "relay: read terminal");
        detach = console_escape_feed(&s->escape, in, (size_t)n, out, &len);
        if (!s->read_only && len <= PENDING_MAX - s->pending_len) {
                memcpy(s->pending + s->pending_len, out, len);
                s->pending_len += len;
        }
        return detach ? 1 : 0;
}

static int to_guest(struct session *s, struct cc_err *err)
{
        ssize_t n = send(s->sock, s->pending, s->pending_len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET || errno == EIO))
                return 1;
        if (n < 0)
                return cc_fail_errno(err, errno, "relay: write to console");
        s->pending_len -= (size_t)n;
        memmove(s->pending, s->pending + n, s->pending_len);
        return 0;
}

static int from_guest(const struct session *s, struct cc_err *err)
{
        char chunk[16384];
        ssize_t n = recv(s->sock, chunk, sizeof(chunk), MSG_DONTWAIT);
        struct cc_err write_err = CC_ERR_INIT;

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n == 0 || (n < 0 && (errno == EIO || errno == ECONNRESET)))
                return 1;
        if (n < 0)
                return cc_fail_errno(err, errno, "relay: read console");
        if (cc_write_all(STDOUT_FILENO, chunk, (size_t)n, &write_err) < 0) {
                if (write_err.sys == EIO || write_err.sys == EPIPE)
                        return 1;
                (void)cc_err_copy(err, &write_err);
                return cc_wrap(err, "relay");
        }
        return 0;
}

static int run(struct session *s, struct cc_err *err)
{
        for (;;) {
                struct pollfd fds[3] = {
                        { .fd = STDIN_FILENO, .events = POLLIN },
                        { .fd = s->sock,
                          .events = (short)(POLLIN | (s->pending_len ? POLLOUT : 0)) },
                        { .fd = cc_interrupt_fd(), .events = POLLIN },
                };
                int rc = 0;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "console: interrupted");
                if (poll(fds, CC_ARRAY_LEN(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return cc_fail_errno(err, errno, "relay: poll");
                }
                if (fds[1].revents & (POLLIN | POLLHUP | POLLERR))
                        rc = from_guest(s, err);
                if (rc == 0 && fds[0].revents)
                        rc = from_terminal(s, err);
                if (rc == 0 && s->pending_len)
                        rc = to_guest(s, err);
                if (rc != 0)
                        return rc < 0 ? rc : 0;
        }
}

static void say(const char *format, ...) CC_PRINTF(1, 2);
static void say(const char *format, ...)
{
        char line[512];
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        if (n >= (int)sizeof(line))
                n = (int)sizeof(line) - 1;
        (void)cc_write_all(STDERR_FILENO, line, (size_t)n, NULL);
}

int console_attach(const char *socket_path, unsigned char escape, bool read_only, const char *ref,
                   struct cc_err *err)
{
        static struct session s; /* 64 KiB: not on the stack */
        CC_CLOSE int sock = -1;
        char name[3];
        int rc;

        if (!isatty(STDIN_FILENO))
                return cc_fail(err, CC_STATE, "stdin is not a terminal");
        rc = dial(socket_path, &sock, err);
        if (rc < 0)
                return rc;
        /* The relay then never takes us for a writer. */
        if (read_only)
                (void)shutdown(sock, SHUT_WR);
        memset(&s, 0, sizeof(s));
        s.sock = sock;
        s.escape.byte = escape;
        s.read_only = read_only;
        rc = cc_terminal_raw(&s.terminal, err);
        if (rc == 0) {
                console_escape_name(escape, name);
                say("Connected to %.200s (escape sequence: %s.)\r\n", ref, name);
                rc = run(&s, err);
                say("\r\nDisconnected from %.200s.\r\n", ref);
        }
        cc_terminal_restore(&s.terminal);
        return rc;
}
