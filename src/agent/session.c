/*
 * A session: one poll loop over the connection, our standard streams, signals and the terminal's
 * size (agent.md §3). Both directions at once, or a large transfer would stop itself; each side is
 * only read while what came before has somewhere to go.
 */
#include "agent/session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/terminal.h"
#include "base/timeutil.h"

/* What may wait for the agent before our input is left alone. */
#define OUT_MAX ((size_t)256 << 10)

/* A read of the connection; many frames of a fast guest. */
#define READ_SIZE ((size_t)256 << 10)

#define RAW_CHUNK ((size_t)64 << 10)

/* Exit code of a session whose reader is gone: 128 + SIGPIPE. */
#define EXIT_PIPE 141

void agent_session_init(struct agent_session *s, struct agent_conn *c)
{
        *s = (struct agent_session){ .conn = c, .fd_in = -1, .winch = -1 };
        agent_sink_open(&s->sinks[0], -1, NULL);
        agent_sink_open(&s->sinks[1], -1, NULL);
}

void agent_session_clear(struct agent_session *s)
{
        cc_buf_free(&s->out);
        free(s->chunk);
        agent_sink_close(&s->sinks[0]);
        agent_sink_close(&s->sinks[1]);
        if (s->winch >= 0)
                close(s->winch);
        cc_terminal_restore(&s->terminal);
}

static size_t out_pending(const struct agent_session *s)
{
        return s->out.len - s->out_at;
}

/* Bytes already with the agent leave the front of the queue. */
static void transmit(struct agent_session *s)
{
        while (out_pending(s) && !s->deaf) {
                ssize_t n = send(s->conn->fd, s->out.data + s->out_at, out_pending(s),
                                 MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n > 0)
                        s->out_at += (size_t)n;
                else if (errno == EAGAIN)
                        break;
                else if (errno != EINTR)
                        s->deaf = true; /* what it said before it closed still decides */
        }
        if (s->deaf || out_pending(s) == 0)
                s->out.len = s->out_at = 0;
}

/* ---- our input ---- */

static bool may_send(const struct agent_session *s)
{
        /* The form of frames is only settled by `started`. */
        return !s->deaf && (!s->want_raw || s->started);
}

static void end_input(struct agent_session *s)
{
        s->fd_in = -1;
        s->in_done = true;
        agent_frame_stdin_close(&s->out, s->conn->in.raw);
}

static int pump(struct agent_session *s, struct cc_err *err)
{
        size_t max = s->conn->in.raw ? RAW_CHUNK : AGENT_CHUNK;
        ssize_t n;

        n = read(s->fd_in, s->chunk, max);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        /* The other end of a terminal that is gone. */
        if (n < 0 && !(errno == EIO && isatty(s->fd_in)))
                return cc_fail_errno(err, errno, "read stdin");
        if (n <= 0) {
                end_input(s);
                return 0;
        }
        agent_frame_stdin(&s->out, s->conn->in.raw, s->chunk, (size_t)n);
        return 0;
}

/* ---- the terminal ---- */

static void tell_size(struct agent_session *s)
{
        struct winsize w;

        if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0 && may_send(s))
                agent_frame_resize(&s->out, s->conn->in.raw, w.ws_row, w.ws_col);
}

int agent_session_terminal(struct agent_session *s, struct cc_err *err)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGWINCH);
        (void)sigprocmask(SIG_BLOCK, &set, NULL);
        s->winch = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (s->winch < 0)
                return cc_fail_errno(err, errno, "signalfd");
        return cc_terminal_raw(&s->terminal, err);
}

static void resized(struct agent_session *s)
{
        struct signalfd_siginfo info;

        while (read(s->winch, &info, sizeof(info)) > 0)
                tell_size(s);
}

/* ---- what the agent says ---- */

static int take(struct agent_session *s, const struct agent_frame *f, struct cc_err *err)
{
        switch (f->type) {
        case AGENT_FRAME_STARTED:
                if (s->started)
                        break;
                s->started = true;
                s->conn->in.raw = s->want_raw;
                /* It may have changed while the command was on its way. */
                if (s->winch >= 0)
                        tell_size(s);
                break;
        case AGENT_FRAME_STDOUT:
        case AGENT_FRAME_STDERR:
                return agent_sink_write(&s->sinks[f->type == AGENT_FRAME_STDERR], f->data, f->n,
                                        err);
        case AGENT_FRAME_EXIT:
                s->ended = true;
                /* -1 is how the older protocol says "killed". */
                s->result.code = (int)(f->exit_code & 255);
                break;
        case AGENT_FRAME_ERROR:
                return cc_fail(err, CC_INVALID, "agent: %s",
                               cc_isempty(f->message) ? "error" : f->message);
        case AGENT_FRAME_HELLO:
        case AGENT_FRAME_OTHER:
                break;
        }
        return 0;
}

static int digest(struct agent_session *s, struct cc_err *err)
{
        while (!s->ended && agent_sink_pending(&s->sinks[0]) < AGENT_SINK_MAX &&
               agent_sink_pending(&s->sinks[1]) < AGENT_SINK_MAX && !s->sinks[0].gone &&
               !s->sinks[1].gone) {
                struct agent_frame f;
                int r = agent_reader_next(&s->conn->in, &f, err);

                if (r < 0)
                        return cc_wrap(err, "agent");
                if (r == 0 && s->conn->in.eof)
                        return cc_fail(err, CC_NETWORK,
                                       "agent: connection closed before exit frame");
                if (r == 0)
                        return 0;
                r = take(s, &f, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int receive(struct agent_session *s, struct cc_err *err)
{
        char *room = agent_reader_room(&s->conn->in, READ_SIZE);
        ssize_t n = recv(s->conn->fd, room, READ_SIZE, MSG_DONTWAIT);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n <= 0)
                s->conn->in.eof = true;
        else
                agent_reader_got(&s->conn->in, (size_t)n);
        return digest(s, err);
}

/* ---- the loop ---- */

enum { FD_CONN, FD_INTERRUPT, FD_IN, FD_OUT, FD_ERR, FD_WINCH, FD_COUNT };

static void arm(const struct agent_session *s, struct pollfd *fds)
{
        const struct agent_sink *out = &s->sinks[0];
        const struct agent_sink *err = &s->sinks[1];
        bool full = agent_sink_pending(out) >= AGENT_SINK_MAX ||
                    agent_sink_pending(err) >= AGENT_SINK_MAX;
        bool listen = !full && !s->ended && !s->conn->in.eof;
        bool in = s->fd_in >= 0 && may_send(s) && out_pending(s) < OUT_MAX && !s->ended;

        fds[FD_CONN] = (struct pollfd){ .fd = listen || out_pending(s) ? s->conn->fd : -1,
                                        .events = (short)((listen ? POLLIN : 0) |
                                                          (out_pending(s) ? POLLOUT : 0)) };
        fds[FD_INTERRUPT] = (struct pollfd){ .fd = cc_interrupt_wait_fd(), .events = POLLIN };
        fds[FD_IN] = (struct pollfd){ .fd = in ? s->fd_in : -1, .events = POLLIN };
        fds[FD_OUT] =
                (struct pollfd){ .fd = agent_sink_pending(out) ? out->fd : -1, .events = POLLOUT };
        fds[FD_ERR] =
                (struct pollfd){ .fd = agent_sink_pending(err) ? err->fd : -1, .events = POLLOUT };
        fds[FD_WINCH] = (struct pollfd){ .fd = s->winch, .events = POLLIN };
}

static int serve(struct agent_session *s, const struct pollfd *fds, struct cc_err *err)
{
        int r = 0;

        if (fds[FD_OUT].revents)
                r = agent_sink_flush(&s->sinks[0], err);
        if (r == 0 && fds[FD_ERR].revents)
                r = agent_sink_flush(&s->sinks[1], err);
        if (r == 0 && (fds[FD_OUT].revents | fds[FD_ERR].revents))
                r = digest(s, err); /* what a full sink held back */
        if (r == 0 && (fds[FD_CONN].events & POLLIN) && fds[FD_CONN].revents & ~POLLOUT)
                r = receive(s, err);
        if (r == 0 && fds[FD_WINCH].revents)
                resized(s);
        if (r == 0 && fds[FD_IN].revents && !s->ended)
                r = pump(s, err);
        /* Nothing to send is what -1 without in_done means. */
        if (r == 0 && s->fd_in < 0 && !s->in_done && may_send(s))
                end_input(s);
        if (r == 0)
                transmit(s);
        return r;
}

static bool over(struct agent_session *s)
{
        if (s->sinks[0].gone || s->sinks[1].gone) {
                s->result.code = EXIT_PIPE;
                return true;
        }
        return s->ended && agent_sink_pending(&s->sinks[0]) == 0 &&
               agent_sink_pending(&s->sinks[1]) == 0;
}

static int loop(struct agent_session *s, int64_t deadline, struct cc_err *err)
{
        if (!s->want_raw && s->fd_in < 0 && !s->in_done)
                end_input(s);
        transmit(s);
        while (!over(s)) {
                struct pollfd fds[FD_COUNT];
                int64_t left = deadline ? deadline - cc_monotonic() : 0;
                int n;
                int r;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (deadline && left <= 0)
                        return cc_fail(err, CC_TIMEOUT, "timed out");
                arm(s, fds);
                n = poll(fds, FD_COUNT, deadline ? (int)(left / CC_NSEC_PER_MSEC) + 1 : -1);
                if (n < 0 && errno != EINTR)
                        return cc_fail_errno(err, errno, "poll");
                r = n > 0 ? serve(s, fds, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int agent_session_run(struct agent_session *s, int64_t timeout_ms, struct agent_result *ret,
                      struct cc_err *err)
{
        int64_t deadline = timeout_ms > 0 ? cc_monotonic() + timeout_ms * CC_NSEC_PER_MSEC : 0;
        int r;

        s->chunk = xmalloc(RAW_CHUNK);
        /* A greeting may have brought more than itself. */
        r = digest(s, err);
        if (r == 0)
                r = loop(s, deadline, err);
        cc_terminal_restore(&s->terminal);
        if (r == 0)
                *ret = s->result;
        return r;
}
