/* The life of a session; session.h. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base64.h"
#include "log.h"
#include "options.h"
#include "reseed.h"
#include "session_io.h"
#include "sha256.h"
#include "version.h"

static struct session *sessions;
static unsigned n_sessions;

unsigned session_count(void)
{
        return n_sessions;
}

/* ---- Ends */

static void close_streams(struct session *s)
{
        loop_close(&s->child_in.source);
        loop_close(&s->child_out.source);
        loop_close(&s->child_err.source);
        loop_close(&s->report.source);
}

/* Ends the command, if there is one. It is reaped like any other child. */
static void end_child(struct session *s)
{
        if (s->alive)
                child_kill(&s->child);
        s->alive = false;
        close_streams(s);
        if (s->pending_len) {
                s->pending_len = 0;
                if (s->frame_len)
                        buf_consume(&s->in, s->frame_len);
        }
        s->frame_len = 0;
}

/* Fit for another session on the same connection. What the host has already sent stays. */
static void reset(struct session *s)
{
        end_child(s);
        loop_disarm(&s->deadline);
        buf_free(&s->out);
        s->raw = false;
        s->raw_left = 0;
        s->phase = PHASE_UNSYNCED;
}

static void destroy(struct session *s)
{
        void (*gone)(void *) = s->gone;
        void *arg = s->gone_arg;

        end_child(s);
        loop_disarm(&s->deadline);
        loop_disarm(&s->again);
        loop_disarm(&s->absent);
        loop_disarm(&s->look);
        loop_close(&s->conn.source);
        buf_free(&s->in);
        buf_free(&s->out);
        *s->link = s->next;
        if (s->next)
                s->next->link = s->link;
        n_sessions--;
        loop_free_later(s);
        if (gone)
                gone(arg);
}

void session_hangup(struct session *s)
{
        log_debug("session %p: hangup", (void *)s);
        destroy(s);
}

void session_end_all(void)
{
        while (sessions)
                destroy(sessions);
}

/* The last frame is queued. */
static void start_closing(struct session *s)
{
        end_child(s);
        s->phase = PHASE_CLOSING;
        loop_arm(&s->deadline, SESSION_CLOSING_MS);
}

static void end_with_error(struct session *s, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

static void end_with_error(struct session *s, const char *format, ...)
{
        struct frame_writer w;
        char text[1024];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        frame_start(&w, &s->out, s->raw && s->phase == PHASE_RUNNING, "error");
        frame_string(&w, "message", text, strlen(text));
        frame_end(&w);
        start_closing(s);
}

void session_protocol_error(struct session *s, const char *why)
{
        if (s->phase == PHASE_CLOSING)
                return;
        end_with_error(s, "%s: %s", s->phase == PHASE_FIRST ? "first frame" : "stdin", why);
}

void session_announce(struct session *s)
{
        struct frame_writer w;

        buf_puts(&s->out, "\n");
        frame_start(&w, &s->out, false, "error");
        frame_string(&w, "message", "the agent has just been started", 31);
        frame_end(&w);
        session_pump(s);
}

/* ---- The command's end */

static void emit_exit(struct session *s)
{
        struct frame_writer w;
        int code = WIFSIGNALED(s->status) ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status);
        const char *name = WIFSIGNALED(s->status) ? signal_name(WTERMSIG(s->status)) : NULL;

        if (s->child.copies && !s->digest[0]) {
                end_with_error(s, "%s", s->failure[0] ? s->failure : "the copying process died");
                return;
        }
        frame_start(&w, &s->out, s->raw, "exit");
        if (code)
                frame_int(&w, "exit_code", code);
        if (name)
                frame_string(&w, "signal", name, strlen(name));
        if (s->digest[0]) {
                frame_string(&w, "sha256", s->digest, strlen(s->digest));
                frame_int(&w, "size", s->copied);
        }
        frame_end(&w);
        start_closing(s);
}

static void emit_started(struct session *s, unsigned mode, int64_t size)
{
        struct frame_writer w;

        s->phase = PHASE_RUNNING;
        /* Who puts a file in lines does not expect one. */
        if (s->child.copies && s->child_out.source.fd < 0 && !s->raw)
                return;
        frame_start(&w, &s->out, false, "started");
        if (!s->child.copies)
                frame_int(&w, "pid", s->child.pid);
        else if (s->child_out.source.fd >= 0) {
                frame_int(&w, "mode", mode);
                frame_int(&w, "size", size);
        }
        frame_end(&w);
}

static void report_line(struct session *s, char *line)
{
        char *text = line[0] && line[1] ? line + 2 : line + strlen(line);
        char *end;

        if (line[0] == 'E') {
                snprintf(s->failure, sizeof(s->failure), "%s", text);
        } else if (line[0] == 'S') {
                unsigned long mode = strtoul(text, &end, 10);

                emit_started(s, (unsigned)mode, strtoll(end, NULL, 10));
        } else if (line[0] == 'R' && strlen(text) > SHA256_HEX) {
                memcpy(s->digest, text, SHA256_HEX);
                s->copied = strtoll(text + SHA256_HEX, NULL, 10);
        }
}

/* Everything there is, for the report precedes what it reports on. */
static void read_report(struct session *s)
{
        while (s->report.source.fd >= 0 && s->report.readable) {
                char *newline;
                ssize_t n = read(s->report.source.fd, s->report_line + s->report_len,
                                 sizeof(s->report_line) - 1 - s->report_len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        s->report.readable = false;
                        return;
                }
                if (n <= 0) {
                        loop_close(&s->report.source);
                        if (s->report_len) {
                                s->report_line[s->report_len] = '\0';
                                report_line(s, s->report_line);
                        }
                        return;
                }
                s->report_len += (size_t)n;
                s->report_line[s->report_len] = '\0';
                while ((newline = strchr(s->report_line, '\n'))) {
                        *newline = '\0';
                        report_line(s, s->report_line);
                        s->report_len -= (size_t)(newline + 1 - s->report_line);
                        memmove(s->report_line, newline + 1, s->report_len + 1);
                }
                /* Longer than we care to know: the head of it will do. */
                if (s->report_len == sizeof(s->report_line) - 1) {
                        report_line(s, s->report_line);
                        s->report_len = 0;
                }
        }
}

bool session_finish(struct session *s)
{
        enum session_phase before = s->phase;

        if (s->phase == PHASE_STARTING || s->phase == PHASE_RUNNING) {
                bool reported;

                read_report(s);
                reported = s->report.source.fd < 0;
                if (s->failure[0] && (reported || s->child.copies))
                        end_with_error(s, "%s", s->failure);
                else if (s->phase == PHASE_STARTING && reported && s->child.copies)
                        end_with_error(s, "the copying process died");
                else if (s->phase == PHASE_STARTING && reported)
                        emit_started(s, 0, 0);
        }
        if (s->phase == PHASE_RUNNING && !s->alive && s->report.source.fd < 0 &&
            ((s->child_out.source.fd < 0 && s->child_err.source.fd < 0) ||
             (s->drained && !s->owed)))
                emit_exit(s);
        if (s->phase == PHASE_CLOSING && s->out.len == 0) {
                if (s->kind == SESSION_STREAM)
                        destroy(s);
                else
                        reset(s);
                return false;
        }
        return s->phase != before;
}

static size_t unread(const struct stream *from)
{
        int n = 0;

        return from->source.fd >= 0 && ioctl(from->source.fd, FIONREAD, &n) == 0 && n > 0
                       ? (size_t)n
                       : 0;
}

void session_reap(void)
{
        pid_t pid;
        int status;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                struct session *s = sessions;

                while (s && !(s->alive && s->child.pid == pid))
                        s = s->next;
                if (!s)
                        continue;
                s->alive = false;
                s->status = status;
                s->drained = false;
                s->owed = unread(&s->child_out) + unread(&s->child_err);
                loop_arm(&s->deadline, SESSION_DRAIN_MS);
                /* These events may have come before it. */
                s->child_out.readable = s->child_err.readable = s->report.readable = true;
                session_pump(s);
        }
}

/* ---- Frames */

/* Takes the descriptor, -1 included. */
static bool watch_stream(struct stream *stream, int fd)
{
        stream->source.fd = fd;
        /* Ready until it says otherwise. */
        stream->readable = stream->writable = true;
        if (fd < 0 || loop_watch(&stream->source) == 0)
                return true;
        close(fd);
        stream->source.fd = -1;
        return false;
}

static void start(struct session *s, struct frame *f)
{
        bool watched;
        int r;

        if (f->type == FRAME_EXEC && f->argv.count == 0) {
                end_with_error(s, "exec: argv is empty");
                return;
        }
        s->failure[0] = s->digest[0] = '\0';
        s->report_len = s->owed = 0;
        s->in_closed = s->drained = false;
        r = child_start(f, &s->child);
        if (r < 0) {
                end_with_error(s, "%s: start %s: %s", frame_type_name(f->type),
                               f->type == FRAME_EXEC ? f->argv.data
                               : f->path.data        ? f->path.data
                                                     : "",
                               strerror(-r));
                return;
        }
        s->alive = true;
        s->phase = PHASE_STARTING;
        /* A stream of bytes without a way to find its place again is nothing for a serial port. */
        s->raw = f->raw && s->kind == SESSION_STREAM;
        loop_disarm(&s->deadline);
        watched = watch_stream(&s->child_in, s->child.in);
        watched &= watch_stream(&s->child_out, s->child.out);
        watched &= watch_stream(&s->child_err, s->child.err);
        watched &= watch_stream(&s->report, s->child.report);
        if (!watched) {
                end_with_error(s, "%s: no memory for events", frame_type_name(f->type));
                return;
        }
        if (s->child.copies)
                loop_close(f->type == FRAME_PUT ? &s->child_out.source : &s->child_in.source);
}

static void say_hello(struct session *s, const struct frame *f)
{
        static const char agent[] = "cocoon-c/" AGENT_VERSION;
        static const char plain[] = "[\"tty\",\"signal\",\"cwd\",\"user\",\"ping\",\"cp\"]";
        static const char stream[] =
                "[\"tty\",\"signal\",\"cwd\",\"user\",\"ping\",\"cp\",\"raw\"]";
        struct frame_writer w;

        if (s->kind != SESSION_STREAM) {
                /* A line of the old session may have been cut off. */
                bool cut = s->phase != PHASE_UNSYNCED || s->out.len;

                reset(s);
                if (cut)
                        buf_puts(&s->out, "\n");
                s->phase = PHASE_FIRST;
                if (s->kind == SESSION_PORT)
                        loop_arm(&s->look, SESSION_LOOK_MS);
        }
        frame_start(&w, &s->out, false, "hello");
        frame_string(&w, "nonce", f->nonce.data ? f->nonce.data : "", f->nonce.len);
        frame_int(&w, "proto", 1);
        frame_string(&w, "agent", agent, sizeof(agent) - 1);
        frame_literal(&w, "features", s->kind == SESSION_STREAM ? stream : plain);
        frame_end(&w);
}

static void pong(struct session *s)
{
        struct frame_writer w;
        char boot_id[64] = "";
        int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, boot_id, sizeof(boot_id) - 1) : 0;

        if (fd >= 0)
                close(fd);
        boot_id[n > 0 ? (size_t)n : 0] = '\0';
        boot_id[strcspn(boot_id, "\n")] = '\0';
        frame_start(&w, &s->out, false, "pong");
        frame_int(&w, "uptime_ms", loop_now());
        frame_string(&w, "boot_id", boot_id, strlen(boot_id));
        frame_int(&w, "sessions", n_sessions);
        frame_end(&w);
        start_closing(s);
}

static void do_reseed(struct session *s, struct frame *f)
{
        char why[512];
        struct frame_writer w;
        long n = 0;

        if (f->data.data)
                n = base64_decode(f->data.data, f->data.data, f->data.len);
        if (n < 0) {
                session_protocol_error(s, "bad base64");
                return;
        }
        if (reseed(options.root, f->data.data, (size_t)n, f->regen_machine_id, why, sizeof(why)) <
            0) {
                end_with_error(s, "reseed: %s", why);
                return;
        }
        frame_start(&w, &s->out, false, "exit");
        frame_end(&w);
        start_closing(s);
}

static void first_frame(struct session *s, struct frame *f)
{
        switch (f->type) {
        case FRAME_EXEC:
        case FRAME_PUT:
        case FRAME_GET:
                start(s, f);
                return;
        case FRAME_RESEED:
                do_reseed(s, f);
                return;
        case FRAME_PING:
                pong(s);
                return;
        case FRAME_HELLO:
                say_hello(s, f);
                return;
        default:
                end_with_error(s, "expected first frame type \"exec\" or \"reseed\", got \"%.64s\"",
                               f->type_name.data ? f->type_name.data : "");
        }
}

static void take_stdin(struct session *s, const struct frame *f)
{
        long n = base64_decode(f->data.data, f->data.data, f->data.len);

        if (n < 0) {
                session_protocol_error(s, "bad base64");
        } else if (!s->in_closed && n > 0) {
                s->pending = f->data.data;
                s->pending_len = (size_t)n;
        }
}

static void resize(struct session *s, const struct frame *f)
{
        struct winsize size = { .ws_row = (unsigned short)f->rows,
                                .ws_col = (unsigned short)f->cols };

        if (s->child.tty && s->child_out.source.fd >= 0 && f->rows > 0 && f->cols > 0)
                ioctl(s->child_out.source.fd, TIOCSWINSZ, &size);
}

void session_frame(struct session *s, struct frame *f)
{
        int signo;

        if (f->type == FRAME_HELLO && s->kind != SESSION_STREAM) {
                say_hello(s, f);
                return;
        }
        if (s->phase == PHASE_FIRST) {
                first_frame(s, f);
                return;
        }
        if (s->phase != PHASE_STARTING && s->phase != PHASE_RUNNING)
                return;
        switch (f->type) {
        case FRAME_STDIN:
                if (f->data.len)
                        take_stdin(s, f);
                break;
        case FRAME_STDIN_CLOSE:
                if (!s->in_closed)
                        session_close_stdin(s);
                break;
        case FRAME_SIGNAL:
                signo = f->signal.data ? signal_by_name(f->signal.data) : 0;
                if (signo && s->alive && !s->child.copies)
                        child_signal(&s->child, signo);
                break;
        case FRAME_RESIZE:
                resize(s, f);
                break;
        default:
                break;
        }
}

/* The host will send no more. */
void session_input_eof(struct session *s)
{
        if (s->phase == PHASE_FIRST)
                destroy(s);
        else if (s->phase == PHASE_CLOSING || s->in_closed)
                return;
        else if (s->child.copies && s->child_in.source.fd >= 0)
                end_with_error(s, "put: the connection ended before the file did");
        else
                session_close_stdin(s);
}

/* ---- Events */

static void conn_ready(struct source *source, uint32_t events)
{
        struct stream *stream = (struct stream *)source;
        struct session *s = stream->session;

        stream->readable |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        stream->writable |= (events & EPOLLOUT) != 0;
        if (events & (EPOLLHUP | EPOLLERR)) {
                if (s->kind != SESSION_PORT) {
                        session_hangup(s);
                        return;
                }
                /* The kernel tells of a host's leaving and of the next one's coming behind their
                 * data, one after the other: the next one's session may have begun by now. */
                loop_arm(&s->absent, SESSION_ABSENT_MS);
        }
        if ((events & EPOLLRDHUP) && session_peer_gone(s))
                session_hangup(s);
        else
                session_pump(s);
}

static void child_ready(struct source *source, uint32_t events)
{
        struct stream *stream = (struct stream *)source;

        stream->readable |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        stream->writable |= (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0;
        session_pump(stream->session);
}

static struct session *of_deadline(struct timer *timer)
{
        return (struct session *)((char *)timer - offsetof(struct session, deadline));
}

static void deadline(struct timer *timer)
{
        struct session *s = of_deadline(timer);

        if (s->phase == PHASE_RUNNING || s->phase == PHASE_STARTING) {
                s->drained = true;
                session_pump(s);
        } else if (s->kind == SESSION_STREAM || s->phase != PHASE_CLOSING) {
                destroy(s);
        } else {
                reset(s);
        }
}

static void absent(struct timer *timer)
{
        struct session *s = (struct session *)((char *)timer - offsetof(struct session, absent));
        struct pollfd port = { .fd = s->conn.source.fd, .events = POLLIN };

        /* Whoever came in the meantime says hello, which ends what was before. */
        if (poll(&port, 1, 0) != 1 || !(port.revents & (POLLHUP | POLLERR)))
                return;
        reset(s);
        session_pump(s);
}

/* About one session in a thousand that follow each other at once has its data in the guest (the
 * port counts it) and no event for it, on Linux 6.1; the next byte would bring both. */
static void look(struct timer *timer)
{
        struct session *s = (struct session *)((char *)timer - offsetof(struct session, look));

        if (s->phase == PHASE_UNSYNCED)
                return;
        loop_arm(&s->look, SESSION_LOOK_MS);
        s->conn.readable = s->conn.writable = true;
        session_pump(s);
}

static void again(struct timer *timer)
{
        session_pump((struct session *)((char *)timer - offsetof(struct session, again)));
}

struct session *session_new(int fd, enum session_kind kind, void (*gone)(void *), void *arg)
{
        struct session *s = calloc(1, sizeof(*s));
        struct stream *streams[] = { &s->conn, &s->child_in, &s->child_out, &s->child_err,
                                     &s->report };

        if (!s)
                abort();
        s->kind = kind;
        s->phase = kind == SESSION_STREAM ? PHASE_FIRST : PHASE_UNSYNCED;
        s->gone = gone;
        s->gone_arg = arg;
        s->deadline.fire = deadline;
        s->again.fire = again;
        s->absent.fire = absent;
        s->look.fire = look;
        for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++)
                *streams[i] = (struct stream){ .source = { -1, child_ready }, .session = s };
        s->conn = (struct stream){ .source = { fd, conn_ready }, .session = s, .writable = true };
        if (loop_watch(&s->conn.source) < 0) {
                close(fd);
                free(s);
                return NULL;
        }
        s->next = sessions;
        s->link = &sessions;
        if (sessions)
                sessions->link = &s->next;
        sessions = s;
        n_sessions++;
        if (kind == SESSION_STREAM)
                loop_arm(&s->deadline, SESSION_FIRST_MS);
        return s;
}
