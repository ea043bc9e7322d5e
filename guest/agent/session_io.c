/* A session's bytes: connection to frames, frames to the command, the command's output back. */
#include "session_io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE    ((size_t)64 << 10)
#define OUTPUT_SIZE  ((size_t)32 << 10) /* of a base64 frame: what older hosts expect */
#define KEEP_IN      ((size_t)128 << 10)
#define UNSYNCED_MAX ((size_t)4 << 10) /* no hello is longer */
#define BUDGET       64                /* steps of a session before the others have their turn */

/* ---- Towards the host */

static bool flush(struct session *s)
{
        bool moved = false;

        while (s->out.len && s->conn.writable) {
                ssize_t n = write(s->conn.source.fd, buf_head(&s->out), s->out.len);

                if (n > 0) {
                        buf_consume(&s->out, (size_t)n);
                        moved = true;
                } else if (n < 0 && errno == EINTR) {
                        continue;
                } else if (n < 0 && errno == EAGAIN) {
                        s->conn.writable = false;
                } else {
                        session_hangup(s);
                        return false;
                }
        }
        return moved;
}

/* One chunk of output into a frame. */
static bool take_output(struct session *s, struct stream *from, enum frame_raw_kind kind)
{
        static char chunk[OUTPUT_SIZE];
        ssize_t n;

        if (from->source.fd < 0 || !from->readable || s->phase != PHASE_RUNNING ||
            s->out.len >= SESSION_OUT_MAX)
                return false;
        if (s->raw) {
                char *room = buf_room(&s->out, FRAME_RAW_HEADER + READ_SIZE);

                n = read(from->source.fd, room + FRAME_RAW_HEADER, READ_SIZE);
                if (n > 0) {
                        frame_raw_header(room, kind, (size_t)n);
                        buf_commit(&s->out, FRAME_RAW_HEADER + (size_t)n);
                }
        } else {
                n = read(from->source.fd, chunk, sizeof(chunk));
                if (n > 0)
                        frame_put_data(&s->out, kind, chunk, (size_t)n);
        }
        if (n > 0)
                s->owed -= s->owed < (size_t)n ? s->owed : (size_t)n;
        else if (n < 0 && errno == EAGAIN)
                from->readable = false;
        else if (n == 0 || errno != EINTR)
                loop_close(&from->source); /* a terminal without users says EIO */
        return true;
}

/* ---- From the host */

bool session_peer_gone(const struct session *s)
{
        return s->kind != SESSION_PORT &&
               send(s->conn.source.fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN;
}

static bool read_more(struct session *s)
{
        ssize_t n;

        if (!s->conn.readable)
                return false;
        n = read(s->conn.source.fd, buf_room(&s->in, READ_SIZE), READ_SIZE);
        if (n > 0) {
                buf_commit(&s->in, (size_t)n);
                return true;
        }
        if (n < 0 && errno == EINTR)
                return true;
        s->conn.readable = false;
        if (n < 0 && errno == EAGAIN)
                return false;
        /* A port reads as ended while no host has it open; its hangup is an event of its own. */
        if (n == 0 && s->kind == SESSION_PORT)
                return false;
        if (n < 0 || s->kind == SESSION_SERIAL || session_peer_gone(s)) {
                session_hangup(s);
                return false;
        }
        s->conn_eof = true;
        return true;
}

static bool write_pending(struct session *s)
{
        struct stream *to = &s->child_in;
        ssize_t n = (ssize_t)s->pending_len;

        if (to->source.fd >= 0) {
                if (!to->writable)
                        return false;
                n = write(to->source.fd, s->pending, s->pending_len);
                if (n < 0 && errno == EINTR)
                        return true;
                if (n < 0 && errno == EAGAIN) {
                        to->writable = false;
                        return false;
                }
                if (n < 0) {
                        /* The command reads no more; the rest is dropped, unnoticed. */
                        loop_close(&to->source);
                        n = (ssize_t)s->pending_len;
                }
        }
        s->pending += n;
        s->pending_len -= (size_t)n;
        if (s->pending_len == 0 && s->frame_len) {
                buf_consume(&s->in, s->frame_len);
                s->frame_len = 0;
        }
        return true;
}

void session_close_stdin(struct session *s)
{
        s->in_closed = true;
        if (s->child.tty && s->child_in.source.fd >= 0) {
                /* End-of-file as a user types it: the command may go on writing. */
                s->pending = "\x04";
                s->pending_len = 1;
                return;
        }
        loop_close(&s->child_in.source);
}

static void decode(struct session *s, char *text, size_t len)
{
        struct frame frame;
        const char *why = frame_decode(text, len, &frame);

        if (!why)
                session_frame(s, &frame);
        else if (s->phase != PHASE_UNSYNCED)
                session_protocol_error(s, why);
}

/* Behind decode: the frame's `len` bytes go at once, or when what they hold has been written. */
static void frame_taken(struct session *s, size_t len)
{
        if (s->pending_len)
                s->frame_len = len;
        else if (s->conn.source.fd >= 0)
                buf_consume(&s->in, len);
}

/* One line of `len` bytes without its newline, `total` with it. */
static void take_line(struct session *s, size_t len, size_t total)
{
        char *line = buf_head(&s->in);

        s->scanned = 0;
        if (len && line[len - 1] == '\r')
                len--;
        if (len || s->kind == SESSION_STREAM)
                decode(s, line, len);
        frame_taken(s, total);
}

static bool line_step(struct session *s)
{
        size_t limit = s->phase == PHASE_UNSYNCED ? UNSYNCED_MAX : FRAME_LINE_MAX;
        char *head = buf_head(&s->in);
        char *newline = s->in.len > s->scanned
                                ? memchr(head + s->scanned, '\n', s->in.len - s->scanned)
                                : NULL;
        size_t total = newline ? (size_t)(newline - head) + 1 : s->in.len;

        if (s->skip_line) {
                buf_consume(&s->in, total);
                s->skip_line = !newline;
                s->scanned = 0;
                return newline || read_more(s);
        }
        if (total > limit || (total == limit && !newline)) {
                if (s->kind == SESSION_STREAM)
                        buf_consume(&s->in, s->in.len);
                s->skip_line = true;
                s->scanned = 0;
                if (s->phase != PHASE_UNSYNCED)
                        session_protocol_error(s, "line too long");
                return true;
        }
        if (newline) {
                take_line(s, total - 1, total);
                return true;
        }
        s->scanned = s->in.len;
        if (!s->conn_eof)
                return read_more(s);
        if (s->in.len) {
                take_line(s, total, total);
                return true;
        }
        session_input_eof(s);
        return false;
}

static bool raw_step(struct session *s)
{
        const unsigned char *header = (const unsigned char *)buf_head(&s->in);
        size_t len;

        if (s->raw_left) {
                size_t n = s->in.len < s->raw_left ? s->in.len : s->raw_left;

                if (n == 0)
                        goto more;
                s->raw_left -= n;
                s->frame_len = n;
                s->pending = buf_head(&s->in);
                s->pending_len = n;
                return true;
        }
        if (s->in.len < FRAME_RAW_HEADER)
                goto more;
        len = (size_t)header[1] | (size_t)header[2] << 8 | (size_t)header[3] << 16;
        if (header[0] == RAW_STDIN) {
                buf_consume(&s->in, FRAME_RAW_HEADER);
                s->raw_left = len;
                return true;
        }
        if (header[0] != RAW_CONTROL || len > FRAME_CONTROL_MAX) {
                session_protocol_error(s, "bad binary frame");
                return true;
        }
        if (s->in.len < FRAME_RAW_HEADER + len)
                goto more;
        decode(s, buf_head(&s->in) + FRAME_RAW_HEADER, len);
        frame_taken(s, FRAME_RAW_HEADER + len);
        return true;
more:
        if (!s->conn_eof)
                return read_more(s);
        if (s->in.len || s->raw_left)
                session_protocol_error(s, "unfinished binary frame");
        else
                session_input_eof(s);
        return false;
}

static bool take_input(struct session *s)
{
        if (s->pending_len)
                return write_pending(s);
        /* Nothing that comes now matters, but for a hello on a serial port. */
        if (s->phase == PHASE_CLOSING && s->kind == SESSION_STREAM)
                return false;
        return s->raw ? raw_step(s) : line_step(s);
}

void session_pump(struct session *s)
{
        int budget = BUDGET;
        bool moved;

        do {
                moved = take_input(s);
                if (s->conn.source.fd >= 0) {
                        moved |= take_output(s, &s->child_out, RAW_STDOUT);
                        moved |= take_output(s, &s->child_err, RAW_STDERR);
                        moved |= session_finish(s);
                }
                if (s->conn.source.fd >= 0)
                        moved |= flush(s);
        } while (moved && s->conn.source.fd >= 0 && --budget);
        if (s->conn.source.fd < 0)
                return;
        if (moved)
                loop_arm(&s->again, 0);
        if (!s->pending_len)
                buf_trim(&s->in, KEEP_IN);
        buf_trim(&s->out, 2 * SESSION_OUT_MAX);
}
