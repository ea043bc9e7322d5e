/*
 * The HTTP/1.1 client for control sockets. See http.h.
 *
 * Sending and receiving share one poll loop: a server that refuses a request early (too long, too
 * many connections) answers and closes while we still write, and its answer is what the user needs.
 */
#include "base/http.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/interrupt.h"
#include "base/timeutil.h"

/* How the end of the body is found. */
enum framing { BY_LENGTH, BY_CLOSE };

struct call {
        int fd;
        const char *method, *target;
        int timeout_ms;
        int64_t deadline;
        struct cc_buf out;
        size_t sent;
        struct cc_buf in;
        /* Known once the head is complete (body_at > 0). */
        size_t body_at;
        enum framing framing;
        size_t length;
        int status;
};

static void call_clear(struct call *c)
{
        if (c->fd >= 0)
                close(c->fd);
        cc_buf_free(&c->out);
        cc_buf_free(&c->in);
}

void cc_http_reply_free(struct cc_http_reply *r)
{
        cc_buf_free(&r->body);
        r->status = 0;
}

static int timed_out(const struct call *c, struct cc_err *err)
{
        return cc_fail(err, CC_TIMEOUT, "%s %s: no answer within %d ms", c->method, c->target,
                       c->timeout_ms);
}

static int garbage(const struct call *c, const char *what, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "%s %s: the answer is not HTTP: %s", c->method, c->target,
                       what);
}

/*
 * Only the kernel knows when a full backlog has room again, and it tells nobody but a blocking
 * connect(); the send timeout of the socket bounds that.
 */
static int dial(struct call *c, const char *path, struct cc_err *err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };

        if (strlen(path) >= sizeof(addr.sun_path))
                return cc_fail(err, CC_INVALID, "socket path %s is %zu bytes long, at most %zu fit",
                               path, strlen(path), sizeof(addr.sun_path) - 1);
        memcpy(addr.sun_path, path, strlen(path) + 1);
        c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        for (;;) {
                int64_t left = (c->deadline - cc_monotonic()) / 1000;
                struct timeval tv = { .tv_sec = left / 1000000, .tv_usec = left % 1000000 };

                if (left <= 0)
                        return timed_out(c, err);
                if (setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
                        return cc_fail_errno(err, errno, "set socket timeout");
                if (connect(c->fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
                        return 0;
                if (errno == EINTR && cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (errno != EINTR && errno != EAGAIN) {
                        int e = errno;

                        (void)cc_fail(err, CC_UNAVAILABLE, "connect %s: %s", path, strerror(e));
                        if (err)
                                err->sys = e;
                        return -CC_UNAVAILABLE;
                }
        }
}

static bool target_ok(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s <= ' ' || *s == 0x7f)
                        return false;
        return true;
}

static void compose(struct call *c, const char *body)
{
        cc_buf_printf(&c->out, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n",
                      c->method, c->target);
        if (body)
                cc_buf_printf(&c->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                              strlen(body));
        cc_buf_str(&c->out, "\r\n");
        if (body)
                cc_buf_str(&c->out, body);
}

/* "HTTP/1.1 204 " or "HTTP/1.1 204 No Content" or "HTTP/1.1 204". */
static int parse_status(struct call *c, const char *line, size_t n, struct cc_err *err)
{
        static const char version[] = "HTTP/1.";
        const size_t v = sizeof(version) - 1;

        if (n < v + 5 || memcmp(line, version, v) != 0 || !isdigit((unsigned char)line[v]) ||
            line[v + 1] != ' ')
                return garbage(c, "no status line", err);
        c->status = 0;
        for (size_t i = v + 2; i < v + 5; i++) {
                if (!isdigit((unsigned char)line[i]))
                        return garbage(c, "no status", err);
                c->status = c->status * 10 + (line[i] - '0');
        }
        if ((n > v + 5 && line[v + 5] != ' ') || c->status < 100 || c->status > 599)
                return garbage(c, "no status", err);
        return 0;
}

static int parse_length(const struct call *c, const char *s, size_t n, size_t *ret,
                        struct cc_err *err)
{
        size_t v = 0;

        for (size_t i = 0; i < n; i++) {
                if (!isdigit((unsigned char)s[i]))
                        return garbage(c, "Content-Length is no number", err);
                v = v * 10 + (size_t)(s[i] - '0');
                if (v > CC_HTTP_BODY_MAX)
                        return cc_fail(err, CC_INVALID, "%s %s: the answer has more than %d bytes",
                                       c->method, c->target, CC_HTTP_BODY_MAX);
        }
        if (n == 0)
                return garbage(c, "Content-Length is no number", err);
        *ret = v;
        return 0;
}

/* What the header fields say about the body. */
struct fields {
        bool has_length, keep_alive;
        size_t length;
};

static int parse_field(const struct call *c, const char *line, size_t n, struct fields *f,
                       struct cc_err *err)
{
        static const char length[] = "Content-Length";
        static const char connection[] = "Connection";
        static const char encoding[] = "Transfer-Encoding";
        const char *colon = memchr(line, ':', n);
        const char *value;
        size_t name_len;
        size_t v = 0;
        int r = 0;

        if (!colon || colon == line)
                return garbage(c, "a header line has no name", err);
        name_len = (size_t)(colon - line);
        value = colon + 1;
        n -= name_len + 1;
        while (n && (*value == ' ' || *value == '\t'))
                value++, n--;
        while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
                n--;
        if (name_len == sizeof(length) - 1 && strncasecmp(line, length, name_len) == 0) {
                r = parse_length(c, value, n, &v, err);
                if (r == 0 && f->has_length && f->length != v)
                        return garbage(c, "two lengths", err);
                if (r == 0)
                        f->has_length = true, f->length = v;
        } else if (name_len == sizeof(connection) - 1 &&
                   strncasecmp(line, connection, name_len) == 0) {
                f->keep_alive = n == 10 && strncasecmp(value, "keep-alive", 10) == 0;
        } else if (name_len == sizeof(encoding) - 1 && strncasecmp(line, encoding, name_len) == 0) {
                return garbage(c, "a transfer encoding, which no control API uses", err);
        }
        return r;
}

/* The head is in[0..end), `end` behind the empty line. */
static int parse_head(struct call *c, size_t end, struct cc_err *err)
{
        struct fields f = { 0 };
        const char *p = c->in.data;
        const char *stop = p + end - 2; /* the empty line */
        bool first = true;

        while (p < stop) {
                const char *eol = memmem(p, (size_t)(stop - p), "\r\n", 2);
                int r;

                if (!eol || memchr(p, '\0', (size_t)(eol - p)))
                        return garbage(c, "a broken header line", err);
                r = first ? parse_status(c, p, (size_t)(eol - p), err)
                          : parse_field(c, p, (size_t)(eol - p), &f, err);
                if (r < 0)
                        return r;
                first = false;
                p = eol + 2;
        }
        if (first)
                return garbage(c, "no status line", err);
        c->body_at = end;
        c->framing = BY_LENGTH;
        c->length = c->status == 204 || c->status == 304 ? 0 : f.length;
        /* Without a length the end of the connection is the end of the body, unless the server
         * says that it will not end it: then there is none. */
        if (!f.has_length && c->status != 204 && c->status != 304 && !f.keep_alive)
                c->framing = BY_CLOSE;
        return 0;
}

/* Returns 1 when the reply is complete, 0 when more must come. */
static int digest(struct call *c, struct cc_err *err)
{
        while (c->body_at == 0) {
                const char *end = c->in.len ? memmem(c->in.data, c->in.len, "\r\n\r\n", 4) : NULL;
                size_t head = end ? (size_t)(end - c->in.data) + 4 : c->in.len;
                int r;

                if (head > CC_HTTP_HEAD_MAX)
                        return garbage(c, "the head does not end", err);
                /* Other protocols need not send an empty line ever. */
                if (c->in.len && memcmp(c->in.data, "HTTP/1.", c->in.len < 7 ? c->in.len : 7) != 0)
                        return garbage(c, "no status line", err);
                if (!end)
                        return 0;
                r = parse_head(c, head, err);
                if (r < 0)
                        return r;
                if (c->status >= 200)
                        break;
                /* An interim answer ("100 Continue"): the real one follows. */
                memmove(c->in.data, c->in.data + head, c->in.len - head);
                c->in.len -= head;
                c->in.data[c->in.len] = '\0';
                c->body_at = 0;
        }
        if (c->in.len - c->body_at > CC_HTTP_BODY_MAX)
                return cc_fail(err, CC_INVALID, "%s %s: the answer has more than %d bytes",
                               c->method, c->target, CC_HTTP_BODY_MAX);
        return c->framing == BY_LENGTH && c->in.len - c->body_at >= c->length;
}

static int broken(const struct call *c, const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_IO, "%s %s: the connection ended before the answer did: %s",
                       c->method, c->target, why);
}

/* Returns 1 when the reply is complete. */
static int receive(struct call *c, struct cc_err *err)
{
        char chunk[16384];
        ssize_t n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n < 0)
                return broken(c, strerror(errno), err);
        if (n == 0)
                return c->body_at && c->framing == BY_CLOSE ? 1 : broken(c, "end of file", err);
        cc_buf_add(&c->in, chunk, (size_t)n);
        return digest(c, err);
}

/* A peer that stopped reading may have answered: only the receiving side decides. */
static void transmit(struct call *c)
{
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
                c->sent += (size_t)n;
        else if (n < 0 && errno != EINTR && errno != EAGAIN)
                c->sent = c->out.len;
}

static int exchange(struct call *c, struct cc_err *err)
{
        transmit(c);
        for (;;) {
                struct pollfd fds[2] = {
                        { .fd = c->fd, .events = POLLIN },
                        { .fd = cc_interrupt_wait_fd(), .events = POLLIN },
                };
                int64_t left = c->deadline - cc_monotonic();
                int r;

                if (c->sent < c->out.len)
                        fds[0].events |= POLLOUT;
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (left <= 0)
                        return timed_out(c, err);
                r = poll(fds, 2, (int)(left / CC_NSEC_PER_MSEC) + 1);
                if (r < 0 && errno != EINTR)
                        return cc_fail_errno(err, errno, "poll");
                if (r <= 0)
                        continue;
                if (fds[0].revents & POLLOUT)
                        transmit(c);
                if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
                        r = receive(c, err);
                        if (r != 0)
                                return r < 0 ? r : 0;
                }
        }
}

static void give_reply(struct call *c, struct cc_http_reply *ret)
{
        *ret = (struct cc_http_reply){ .status = c->status };
        if (c->framing == BY_CLOSE)
                c->length = c->in.len - c->body_at;
        if (c->length)
                cc_buf_add(&ret->body, c->in.data + c->body_at, c->length);
}

int cc_http_parse(const char *data, size_t n, struct cc_http_reply *ret, struct cc_err *err)
{
        CC_CLEANUP(call_clear) struct call c = { .fd = -1, .method = "read", .target = "reply" };
        int r;

        cc_buf_add(&c.in, data, n);
        r = digest(&c, err);
        if (r == 0 && !(c.body_at && c.framing == BY_CLOSE))
                r = broken(&c, "end of file", err);
        if (r < 0)
                return r;
        give_reply(&c, ret);
        return 0;
}

int cc_http_unix(const char *socket_path, const char *method, const char *target, const char *body,
                 int timeout_ms, struct cc_http_reply *ret, struct cc_err *err)
{
        CC_CLEANUP(call_clear)
        struct call c = {
                .fd = -1,
                .method = method,
                .target = target,
                .timeout_ms = timeout_ms,
                .deadline = cc_monotonic() + timeout_ms * CC_NSEC_PER_MSEC,
        };
        int r;

        if (!target_ok(target) || !target_ok(method))
                return cc_fail(err, CC_INVALID, "\"%s %s\" is not a request", method, target);
        compose(&c, body);
        r = dial(&c, socket_path, err);
        if (r == 0)
                r = exchange(&c, err);
        if (r < 0)
                return r;
        give_reply(&c, ret);
        return 0;
}
