/*
 * Reaching an agent (agent.md §1): the text handshake of hybrid vsock, the lock and the sync of a
 * virtio-serial port, and the greeting that tells what an agent can. A guest may be booting, so
 * what fails is tried again for as long as the caller allows.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 1000
#define QUEUE_MIN_MS 5
#define QUEUE_MAX_MS 50

/* An agent that has the port open answers within this; then the port is tried anew. */
#define SYNC_MS       5000
/* The first wait for an answer on a serial port. A guest that misses the moment between the last
 * host and this one, because a command that reads nothing held up its input, notices a second one.
 */
#define SYNC_FIRST_MS 1000

/* Longest "OK <port>\n". */
#define REPLY_MAX 32

/* Where one try has come to an end: everything waits until `deadline`. */
struct attempt {
        const struct agent_peer *peer;
        size_t i;
        int64_t deadline;
        struct agent_conn conn;
};

void agent_conn_close(struct agent_conn *c)
{
        agent_reader_clear(&c->in);
        if (c->fd >= 0)
                close(c->fd);
        if (c->lock >= 0)
                close(c->lock);
        *c = (struct agent_conn)AGENT_CONN_INIT;
}

static int starting(struct cc_err *err, const char *what)
{
        return cc_fail(err, CC_NETWORK, "%s (cocoon-agent may still be starting; retry shortly)",
                       what);
}

/* Until `events` of fd, the deadline (CC_TIMEOUT, no text) or an interruption. fd -1: only wait. */
static int await(int fd, short events, int64_t deadline, struct cc_err *err)
{
        for (;;) {
                struct pollfd fds[2] = {
                        { .fd = cc_interrupt_wait_fd(), .events = POLLIN },
                        { .fd = fd, .events = events },
                };
                int64_t left = deadline - cc_monotonic();
                int n;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (left <= 0)
                        return -CC_TIMEOUT;
                n = poll(fds, 2, (int)((left + CC_NSEC_PER_MSEC - 1) / CC_NSEC_PER_MSEC));
                if (n < 0 && errno != EINTR)
                        return cc_fail_errno(err, errno, "poll");
                if (n > 0 && fds[1].revents)
                        return 0;
        }
}

static int connect_unix(const char *path, int *ret, struct cc_err *err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        CC_CLOSE int fd = -1;

        if (strlen(path) >= sizeof(addr.sun_path))
                return cc_fail(err, CC_INVALID, "socket path %s is too long", path);
        memcpy(addr.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
                int e = errno;

                (void)cc_fail(err, CC_NETWORK, "connect %s: %s", path, strerror(e));
                if (err)
                        err->sys = e;
                return -CC_NETWORK;
        }
        *ret = TAKE_FD(fd);
        return 0;
}

static int send_all(struct attempt *a, const void *data, size_t n, struct cc_err *err)
{
        const char *p = data;

        while (n) {
                ssize_t k = send(a->conn.fd, p, n, MSG_NOSIGNAL);
                int e = 0;

                if (k >= 0)
                        p += k, n -= (size_t)k;
                else if (errno == EAGAIN)
                        e = await(a->conn.fd, POLLOUT, a->deadline, err);
                else if (errno != EINTR)
                        return starting(err, "connection reset");
                if (e == -CC_TIMEOUT)
                        return starting(err, "no answer");
                if (e < 0)
                        return e;
        }
        return 0;
}

/* ---- hybrid vsock ---- */

/* Bytewise: what follows the newline is the stream already. */
static int connect_reply(struct attempt *a, struct cc_err *err)
{
        char line[REPLY_MAX + 1];
        size_t n = 0;

        while (n < REPLY_MAX) {
                ssize_t k = recv(a->conn.fd, line + n, 1, 0);

                if (k == 1 && line[n] == '\n')
                        break;
                if (k == 1) {
                        n++;
                } else if (k < 0 && errno == EAGAIN) {
                        int e = await(a->conn.fd, POLLIN, a->deadline, err);

                        if (e == -CC_TIMEOUT)
                                return starting(err, "read CONNECT reply: no answer");
                        if (e < 0)
                                return e;
                } else if (k == 0 || errno != EINTR) {
                        return starting(err, "read CONNECT reply: EOF");
                }
        }
        line[n] = '\0';
        if (n == REPLY_MAX || !cc_startswith(line, "OK "))
                return cc_fail(err, CC_INVALID, "read CONNECT reply: not an answer of vsock");
        return 0;
}

static int vsock_handshake(struct attempt *a, struct cc_err *err)
{
        static const char request[] = "CONNECT 1024\n";
        int r = send_all(a, request, sizeof(request) - 1, err);

        _Static_assert(AGENT_PORT == 1024, "the request names the port");
        return r < 0 ? r : connect_reply(a, err);
}

/* ---- the greeting ---- */

static unsigned features_of(const json_t *list)
{
        static const struct {
                const char *name;
                unsigned bit;
        } rows[] = {
                { "tty", AGENT_TTY },   { "signal", AGENT_SIGNAL }, { "cwd", AGENT_CWD },
                { "user", AGENT_USER }, { "raw", AGENT_RAW },
        };
        unsigned bits = 0;

        for (size_t i = 0; i < json_array_size(list); i++)
                for (size_t k = 0; k < CC_ARRAY_LEN(rows); k++)
                        if (cc_streq(json_string_value(json_array_get(list, i)), rows[k].name))
                                bits |= rows[k].bit;
        return bits;
}

static int receive(struct attempt *a, struct cc_err *err)
{
        for (;;) {
                char *room = agent_reader_room(&a->conn.in, 4096);
                ssize_t n = recv(a->conn.fd, room, 4096, 0);
                int e;

                if (n > 0) {
                        agent_reader_got(&a->conn.in, (size_t)n);
                        return 0;
                }
                if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
                        a->conn.in.eof = true;
                        return 0;
                }
                e = await(a->conn.fd, POLLIN, a->deadline, err);
                if (e == -CC_TIMEOUT)
                        return starting(err, "no answer");
                if (e < 0)
                        return e;
        }
}

/* UNSUPPORTED from an agent that does not know the word: the connection is spent then. */
static int greet(struct attempt *a, struct cc_err *err)
{
        CC_BUF struct cc_buf out = { 0 };
        bool serial = a->peer->carrier == AGENT_SERIAL;
        unsigned char random[16];
        char nonce[sizeof(random) * 2 + 1];
        int r;

        cc_random(random, sizeof(random));
        cc_hex(random, sizeof(random), nonce);
        agent_frame_hello(&out, nonce, serial);
        r = send_all(a, out.data, out.len, err);
        /* On a port the rest of another session may come first. */
        a->conn.in.skip = a->conn.in.blank = serial;
        while (r == 0) {
                struct agent_frame f;

                r = agent_reader_next(&a->conn.in, &f, err);
                if (r == 1 && f.type == AGENT_FRAME_HELLO && cc_streq(f.nonce, nonce)) {
                        a->conn.features = features_of(f.features);
                        a->conn.greeted = true;
                        a->conn.in.skip = false;
                        return 0;
                }
                if (r == 1 && !serial && f.type == AGENT_FRAME_ERROR)
                        return cc_fail(err, CC_UNSUPPORTED, "agent: %s",
                                       f.message ? f.message : "error");
                if (r == 1)
                        r = 0;
                else if (r == 0 && a->conn.in.eof)
                        return starting(err, "EOF before the agent's hello");
                else if (r == 0)
                        r = receive(a, err);
        }
        return r;
}

/* ---- serial ports ---- */

/* The first port that nobody uses; CC_BUSY when there is none. */
static int lock_port(struct attempt *a, struct cc_err *err)
{
        const struct agent_peer *p = a->peer;

        for (size_t i = 0; i < p->n; i++) {
                int r = cc_lock_try(p->locks[i], CC_LOCK_EXCLUSIVE, "vm.exec", &a->conn.lock, err);

                if (r == 0)
                        a->i = i;
                if (r != -CC_BUSY)
                        return r;
        }
        return -CC_BUSY;
}

/* Nothing but another try tells when a lock is free. */
static int queue_for_port(struct attempt *a, int64_t queue_ms, struct cc_err *err)
{
        int64_t start = cc_monotonic();
        int64_t end = queue_ms > 0 ? start + queue_ms * CC_NSEC_PER_MSEC : INT64_MAX;
        int64_t pause = QUEUE_MIN_MS;
        bool told = false;

        for (;;) {
                int r = lock_port(a, NULL);
                int64_t now = cc_monotonic();
                int64_t until = now + pause * CC_NSEC_PER_MSEC;

                if (r != -CC_BUSY)
                        return r < 0 ? lock_port(a, err) : 0;
                if (now >= end)
                        return cc_fail(err, CC_BUSY, "all %zu agent ports are in use", a->peer->n);
                if (!told && now - start > CC_NSEC_PER_SEC) {
                        cc_info("vm.exec", "all %zu agent ports are in use, waiting", a->peer->n);
                        told = true;
                }
                r = await(-1, 0, until < end ? until : end, err);
                if (r < 0 && r != -CC_TIMEOUT)
                        return r;
                if (a->peer->alive && !a->peer->alive(a->peer->ctx))
                        return cc_fail(err, CC_STATE, "vm not running");
                pause = pause * 2 < QUEUE_MAX_MS ? pause * 2 : QUEUE_MAX_MS;
        }
}

/* ---- dialing ---- */

static int attempt_once(struct attempt *a, bool want_greeting, struct cc_err *err)
{
        int r = connect_unix(a->peer->sockets[a->i], &a->conn.fd, err);

        if (r == 0 && a->peer->carrier == AGENT_VSOCK)
                r = vsock_handshake(a, err);
        if (r == 0 && (want_greeting || a->peer->carrier == AGENT_SERIAL))
                r = greet(a, err);
        return r;
}

/* Back to where the next try starts; a port stays ours. */
static void drop(struct attempt *a)
{
        int lock = TAKE_FD(a->conn.lock);

        agent_conn_close(&a->conn);
        a->conn.lock = lock;
}

static int try_until(struct attempt *a, bool want_greeting, int64_t end, struct cc_err *err)
{
        int64_t pause = RETRY_MIN_MS;
        int64_t patience = a->peer->carrier == AGENT_SERIAL ? SYNC_FIRST_MS : SYNC_MS;

        for (;;) {
                struct cc_err why = CC_ERR_INIT;
                int64_t sync = cc_monotonic() + patience * CC_NSEC_PER_MSEC;
                int64_t until;
                int r;

                a->deadline = sync < end ? sync : end;
                r = attempt_once(a, want_greeting, &why);
                if (r == 0)
                        return 0;
                drop(a);
                if (r == -CC_UNSUPPORTED && want_greeting) {
                        want_greeting = false;
                        continue;
                }
                until = cc_monotonic() + pause * CC_NSEC_PER_MSEC;
                if (r != -CC_NETWORK || until >= end)
                        return cc_err_copy(err, &why);
                if (a->peer->alive && !a->peer->alive(a->peer->ctx))
                        return cc_fail(err, CC_STATE, "vm not running");
                r = await(-1, 0, until, err);
                if (r < 0 && r != -CC_TIMEOUT)
                        return r;
                pause = pause * 2 < RETRY_MAX_MS ? pause * 2 : RETRY_MAX_MS;
                patience = patience * 2 < SYNC_MS ? patience * 2 : SYNC_MS;
        }
}

int agent_dial(const struct agent_peer *peer, const struct agent_dial *how, struct agent_conn *ret,
               struct cc_err *err)
{
        struct attempt a = { .peer = peer, .conn = AGENT_CONN_INIT };
        int r = 0;

        if (peer->carrier == AGENT_NONE || peer->n == 0)
                return cc_fail(err, CC_UNAVAILABLE,
                               "vsock not configured for this VM (recreate the VM to enable agent "
                               "exec)");
        if (peer->carrier == AGENT_SERIAL)
                r = queue_for_port(&a, how->queue_ms, err);
        if (r == 0)
                r = try_until(&a, how->greet, cc_monotonic() + how->connect_ms * CC_NSEC_PER_MSEC,
                              err);
        if (r < 0) {
                agent_conn_close(&a.conn);
                return r == -CC_CANCELED ? r : cc_wrap(err, "dial agent");
        }
        *ret = a.conn;
        return 0;
}

bool agent_answers(const struct agent_peer *peer, int64_t wait_ms)
{
        struct attempt a = { .peer = peer, .conn = AGENT_CONN_INIT };
        bool answers;
        int r = 0;

        if (peer->carrier == AGENT_NONE || peer->n == 0)
                return false;
        a.deadline = cc_monotonic() + wait_ms * CC_NSEC_PER_MSEC;
        if (peer->carrier == AGENT_SERIAL)
                r = lock_port(&a, NULL);
        /* Sessions on every port are an answer too. */
        answers = r == -CC_BUSY || (r == 0 && attempt_once(&a, false, NULL) == 0);
        agent_conn_close(&a.conn);
        return answers;
}
