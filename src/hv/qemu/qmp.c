/*
 * The QMP client as an explicit state machine. See qmp.h.
 *
 *      GREETING --{"QMP":…}--> IDLE --command--> WAITING --return|error--> IDLE
 *          \___ timeout, EOF, garbage, death of the peer, cancel ___/ --> CLOSED
 *
 * Bytes come in through pump() only; lines are cut there and judged in on_line() by the state. A
 * reply that did not come in time could be taken for the next command's, so CLOSED is final.
 */
#include "hv/qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"

/* The longest reply we ask for is a few KiB; more is not QMP. */
#define MAX_LINE (1 << 20)

/* More than this nobody waited for. */
#define MAX_EVENTS 256

enum qmp_state { QMP_GREETING, QMP_IDLE, QMP_WAITING, QMP_CLOSED };

struct qmp {
        int fd;
        int watch;
        enum qmp_state state;
        struct cc_buf in;
        json_t *reply;         /* set when WAITING ends: the whole object */
        struct cc_strv events; /* names, in order; at most MAX_EVENTS */
};

void qmp_close(struct qmp *q)
{
        if (!q)
                return;
        if (q->fd >= 0)
                close(q->fd);
        json_decref(q->reply);
        cc_buf_free(&q->in);
        cc_strv_free(&q->events);
        free(q);
}

void qmp_closep(struct qmp **q)
{
        qmp_close(*q);
}

static int on_line(struct qmp *q, const char *line, size_t n, struct cc_err *err)
{
        CC_JSON json_t *j = NULL;
        int r;

        while (n && (line[n - 1] == '\r' || line[n - 1] == ' '))
                n--;
        if (n == 0)
                return 0;
        r = cc_json_parse(line, n, "qemu: control message", &j, err);
        if (r < 0)
                return r;
        if (json_is_object(json_object_get(j, "QMP")) && q->state == QMP_GREETING) {
                q->state = QMP_IDLE;
                return 0;
        }
        if (q->state != QMP_GREETING && json_object_get(j, "event")) {
                const char *event = json_string_value(json_object_get(j, "event"));

                cc_debug("qmp", "event %s", event ? event : "(none)");
                if (event && q->events.len < MAX_EVENTS)
                        cc_strv_add(&q->events, event);
                return 0;
        }
        if (q->state == QMP_WAITING &&
            (json_object_get(j, "return") || json_object_get(j, "error"))) {
                q->reply = TAKE_PTR(j);
                q->state = QMP_IDLE;
                return 0;
        }
        return cc_fail(err, CC_INVALID, "qemu: unexpected control message: %.*s",
                       n > 200 ? 200 : (int)n, line);
}

/* Every complete line in the buffer. */
static int cut_lines(struct qmp *q, struct cc_err *err)
{
        size_t start = 0;
        int r = 0;

        for (;;) {
                const char *nl = memchr(q->in.data + start, '\n', q->in.len - start);
                size_t end;

                if (!nl)
                        break;
                end = (size_t)(nl - q->in.data);
                r = on_line(q, q->in.data + start, end - start, err);
                start = end + 1;
                if (r < 0)
                        break;
        }
        memmove(q->in.data, q->in.data + start, q->in.len - start);
        q->in.len -= start;
        q->in.data[q->in.len] = '\0';
        if (r == 0 && q->in.len > MAX_LINE)
                return cc_fail(err, CC_INVALID, "qemu: control message longer than %d bytes",
                               MAX_LINE);
        return r;
}

static int gone(struct cc_err *err)
{
        return cc_fail(err, CC_NETWORK, "qemu: the process closed its control socket");
}

static int receive(struct qmp *q, struct cc_err *err)
{
        char chunk[4096];
        ssize_t n = recv(q->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n < 0 && errno != ECONNRESET)
                return cc_fail_errno(err, errno, "qemu: read control socket");
        if (n <= 0)
                return gone(err);
        cc_buf_add(&q->in, chunk, (size_t)n);
        return cut_lines(q, err);
}

/* Forget events up to and with the first of that name; false if there is none. */
static bool take_event(struct qmp *q, const char *name)
{
        struct cc_strv *ev = &q->events;

        for (size_t i = 0; i < ev->len; i++) {
                if (!cc_streq(ev->v[i], name))
                        continue;
                for (size_t k = 0; k <= i; k++)
                        free(ev->v[k]);
                memmove(ev->v, ev->v + i + 1, (ev->len - i) * sizeof(*ev->v));
                ev->len -= i + 1;
                return true;
        }
        return false;
}

/* Run the machine until it is IDLE, or IDLE and `event` has come. A timeout has no text: the
 * callers say what was late. */
static int pump(struct qmp *q, const char *event, int timeout_ms, struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + timeout_ms * CC_NSEC_PER_MSEC;

        while (event ? !take_event(q, event) : q->state != QMP_IDLE) {
                /* Inside an uninterruptible section a pending signal must not make poll() spin. */
                bool stoppable = !(cc_interrupt_signal() && !cc_interrupted());
                struct pollfd fds[3] = {
                        { .fd = q->fd, .events = POLLIN },
                        { .fd = stoppable ? cc_interrupt_fd() : -1, .events = POLLIN },
                        { .fd = q->watch, .events = POLLIN },
                };
                int64_t left = deadline - cc_monotonic();
                int r;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (left <= 0)
                        return -CC_TIMEOUT;
                r = poll(fds, 3, (int)(left / CC_NSEC_PER_MSEC) + 1);
                if (r < 0 && errno != EINTR)
                        return cc_fail_errno(err, errno, "poll");
                if (r <= 0)
                        continue;
                if (fds[0].revents) {
                        r = receive(q, err);
                        if (r < 0)
                                return r;
                } else if (fds[2].revents) {
                        /* Only once the socket is drained: a reply may precede the death. */
                        return gone(err);
                }
        }
        return 0;
}

static int fail(struct qmp *q, int r)
{
        q->state = QMP_CLOSED;
        return r;
}

/* `fd` -1, or a descriptor that travels with the first byte. */
static int send_all(struct qmp *q, const char *data, size_t n, int fd, struct cc_err *err)
{
        while (n) {
                union {
                        struct cmsghdr header;
                        char space[CMSG_SPACE(sizeof(int))];
                } control = { 0 };
                struct iovec part = { .iov_base = (char *)data, .iov_len = n };
                struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };
                ssize_t w;

                if (fd >= 0) {
                        control.header.cmsg_level = SOL_SOCKET;
                        control.header.cmsg_type = SCM_RIGHTS;
                        control.header.cmsg_len = CMSG_LEN(sizeof(int));
                        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
                        msg.msg_control = control.space;
                        msg.msg_controllen = sizeof(control.space);
                }
                w = sendmsg(q->fd, &msg, MSG_NOSIGNAL);
                if (w < 0 && errno == EINTR)
                        continue;
                if (w < 0 && (errno == EPIPE || errno == ECONNRESET))
                        return gone(err);
                if (w < 0)
                        return cc_fail_errno(err, errno, "qemu: write control socket");
                data += w;
                n -= (size_t)w;
                fd = -1;
        }
        return 0;
}

static int refusal(const char *name, const json_t *error, struct cc_err *err)
{
        const char *class = json_string_value(json_object_get(error, "class"));
        const char *desc = json_string_value(json_object_get(error, "desc"));

        return cc_fail(err, cc_streq(class, "DeviceNotFound") ? CC_NOT_FOUND : CC_STATE,
                       "qemu: %s: %s", name, desc ? desc : "refused without a reason");
}

static int run_command(struct qmp *q, const char *name, json_t *args, int fd, int timeout_ms,
                       json_t **ret, struct cc_err *err)
{
        CC_JSON json_t *msg = json_pack("{s:s}", "execute", name);
        CC_JSON json_t *reply = NULL;
        CC_FREE char *text = NULL;
        int r;

        if (args)
                json_object_set_new(msg, "arguments", args);
        if (q->state != QMP_IDLE)
                return gone(err);
        text = cc_json_compact(msg);
        q->state = QMP_WAITING;
        r = send_all(q, text, strlen(text), fd, err);
        if (r == 0)
                r = send_all(q, "\n", 1, -1, err);
        if (r == 0)
                r = pump(q, NULL, timeout_ms, err);
        if (r == -CC_TIMEOUT)
                r = cc_fail(err, CC_TIMEOUT, "qemu: %s: no answer within %d ms", name, timeout_ms);
        if (r < 0)
                return fail(q, r);
        reply = TAKE_PTR(q->reply);
        if (json_object_get(reply, "error"))
                return refusal(name, json_object_get(reply, "error"), err);
        if (ret)
                *ret = json_incref(json_object_get(reply, "return"));
        return 0;
}

int qmp_command(struct qmp *q, const char *name, json_t *args, int timeout_ms, json_t **ret,
                struct cc_err *err)
{
        return run_command(q, name, args, -1, timeout_ms, ret, err);
}

int qmp_getfd(struct qmp *q, int fd, const char *name, struct cc_err *err)
{
        return run_command(q, "getfd", json_pack("{s:s}", "fdname", name), fd, QMP_COMMAND_MS, NULL,
                           err);
}

int qmp_wait_event(struct qmp *q, const char *name, int timeout_ms, struct cc_err *err)
{
        int r;

        if (q->state != QMP_IDLE)
                return gone(err);
        r = pump(q, name, timeout_ms, err);
        return r < 0 && r != -CC_TIMEOUT ? fail(q, r) : r;
}

int qmp_open(int fd, int watch, int greeting_ms, struct qmp **ret, struct cc_err *err)
{
        QMP struct qmp *q = xcalloc(1, sizeof(*q));
        int r;

        *q = (struct qmp){ .fd = fd, .watch = watch, .state = QMP_GREETING };
        r = pump(q, NULL, greeting_ms, err);
        if (r == -CC_TIMEOUT)
                return cc_fail(err, CC_TIMEOUT, "qemu: control socket busy");
        if (r == 0)
                r = qmp_command(q, "qmp_capabilities", NULL, QMP_COMMAND_MS, NULL, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(q);
        return 0;
}

int qmp_connect(const char *path, int watch, int greeting_ms, struct qmp **ret, struct cc_err *err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        CC_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        if (strlen(path) >= sizeof(addr.sun_path))
                return cc_fail(err, CC_INVALID, "socket path %s is too long", path);
        memcpy(addr.sun_path, path, strlen(path) + 1);
        /* Non-blocking, because a blocking connect to a full backlog waits for ever. */
        if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
                if (errno == EAGAIN)
                        return cc_fail(err, CC_TIMEOUT, "qemu: control socket busy");
                return cc_fail(err, CC_NETWORK, "qemu: connect %s: %s", path, strerror(errno));
        }
        if (fcntl(fd, F_SETFL, 0) < 0)
                return cc_fail_errno(err, errno, "fcntl");
        return qmp_open(TAKE_FD(fd), watch, greeting_ms, ret, err);
}
