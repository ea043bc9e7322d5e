/* The control socket client against scripted peers: every way in which a VMM can misbehave. */
#include "base/http.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/timeutil.h"
#include "unit.h"

/* One connection: read the request up to and with its body, say the script, hold or close. */
struct peer {
        const char *reply; /* split into writes of `piece` bytes */
        size_t reply_len;  /* 0: strlen */
        size_t piece;      /* 0: in one */
        size_t flood;      /* then this many 'x' */
        bool deaf;         /* reply and close without reading */
        bool hold;         /* stay open until the client closes */
        char request[8192];
        size_t got;
        bool saw_eof; /* the client shut down before it was answered */
        int fd;
        pthread_t thread;
        char *path;
};

static bool request_complete(const struct peer *p)
{
        const char *end = memmem(p->request, p->got, "\r\n\r\n", 4);
        const char *length;

        if (!end)
                return false;
        length = memmem(p->request, p->got, "Content-Length: ", 16);
        return p->got >=
               (size_t)(end - p->request) + 4 + (length ? strtoul(length + 16, NULL, 10) : 0);
}

static void say(int fd, const char *data, size_t n, size_t piece)
{
        for (size_t at = 0; at < n;) {
                size_t len = piece && n - at > piece ? piece : n - at;
                ssize_t w = send(fd, data + at, len, MSG_NOSIGNAL);

                if (w < 0)
                        return;
                at += (size_t)w;
        }
}

static void *serve(void *arg)
{
        struct peer *p = arg;
        CC_CLOSE int c = accept(p->fd, NULL, NULL);
        char byte;

        while (!p->deaf && !request_complete(p)) {
                ssize_t n = read(c, p->request + p->got, sizeof(p->request) - 1 - p->got);

                if (n <= 0) {
                        p->saw_eof = true;
                        return NULL;
                }
                p->got += (size_t)n;
        }
        say(c, p->reply, p->reply_len ? p->reply_len : strlen(p->reply), p->piece);
        for (size_t i = 0; i < p->flood; i += 4096) {
                char block[4096];

                memset(block, 'x', sizeof(block));
                say(c, block, sizeof(block), 0);
        }
        if (p->hold)
                (void)!read(c, &byte, 1);
        return NULL;
}

static void listen_at(struct peer *p, const char *dir)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };

        p->path = cc_path_join(dir, "api.sock");
        (void)unlink(p->path);
        strncpy(addr.sun_path, p->path, sizeof(addr.sun_path) - 1);
        p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(p->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        assert_int_equal(listen(p->fd, 4), 0);
}

static void peer_start(struct peer *p, const char *dir)
{
        listen_at(p, dir);
        assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
}

static void peer_end(struct peer *p)
{
        pthread_join(p->thread, NULL);
        close(p->fd);
        free(p->path);
}

/* One PUT with a body against `p`. */
static int talk(struct peer *p, const char *dir, int timeout_ms, struct cc_http_reply *ret,
                struct cc_err *err)
{
        int r;

        peer_start(p, dir);
        r = cc_http_unix(p->path, "PUT", "/api/v1/vm.add-net", "{\"id\":1}", timeout_ms, ret, err);
        peer_end(p);
        return r;
}

static void test_reply_with_body(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer p = { .reply = "HTTP/1.1 200 \r\nServer: x\r\nConnection: keep-alive\r\n"
                                   "content-length:  5 \r\n\r\nhello",
                          .hold = true };

        assert_ok(talk(&p, *state, 5000, &reply, &err));
        assert_int_equal(reply.status, 200);
        assert_string_equal(reply.body.data, "hello");
        p.request[p.got] = '\0';
        assert_string_equal(p.request, "PUT /api/v1/vm.add-net HTTP/1.1\r\nHost: localhost\r\n"
                                       "Accept: application/json\r\n"
                                       "Content-Type: application/json\r\nContent-Length: 8\r\n\r\n"
                                       "{\"id\":1}");
        assert_int_equal(err.class, CC_OK);
}

/* A call without body announces none, and the answer is read although nobody closes. */
static void test_no_content(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer p = { .reply = "HTTP/1.1 204 \r\nConnection: keep-alive\r\n\r\n",
                          .hold = true };

        peer_start(&p, *state);
        assert_ok(cc_http_unix(p.path, "PUT", "/vm.pause", NULL, 5000, &reply, &err));
        peer_end(&p);
        assert_int_equal(reply.status, 204);
        assert_null(reply.body.data);
        p.request[p.got] = '\0';
        assert_null(strstr(p.request, "Content-"));
        assert_false(p.saw_eof);
}

static void test_byte_by_byte(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer p = { .reply = "HTTP/1.1 100 Continue\r\n\r\n"
                                   "HTTP/1.1 500 Internal Server Error\r\n"
                                   "Content-Length: 2\r\n\r\n[]",
                          .piece = 1,
                          .hold = true };

        assert_ok(talk(&p, *state, 5000, &reply, &err));
        assert_int_equal(reply.status, 500);
        assert_string_equal(reply.body.data, "[]");
}

static void test_body_until_close(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer p = { .reply = "HTTP/1.0 404\r\n\r\n[\"Not Found\"]" };

        assert_ok(talk(&p, *state, 5000, &reply, &err));
        assert_int_equal(reply.status, 404);
        assert_string_equal(reply.body.data, "[\"Not Found\"]");
}

/* An empty 200 of a server that keeps the connection has no body, and is no hang. */
static void test_keep_alive_without_length(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer p = { .reply = "HTTP/1.1 200 \r\nConnection: keep-alive\r\n\r\n",
                          .hold = true };

        assert_ok(talk(&p, *state, 5000, &reply, &err));
        assert_int_equal(reply.status, 200);
        assert_int_equal(reply.body.len, 0);
}

static void test_early_refusal(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        CC_FREE char *big = xmalloc((1 << 20) + 1);
        struct peer p = { .reply = "HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n", .deaf = true };
        int r;

        memset(big, ' ', 1 << 20);
        big[1 << 20] = '\0';
        peer_start(&p, *state);
        r = cc_http_unix(p.path, "PUT", "/x", big, 5000, &reply, &err);
        peer_end(&p);
        /* Unread bytes at close may reset the connection before the answer is seen; then it is a
         * broken connection, never success or a hang. */
        if (r == 0)
                assert_int_equal(reply.status, 503);
        else
                assert_int_equal(r, -CC_IO);
}

static void test_garbage(void **state)
{
        static const char *const replies[] = {
                "SSH-2.0-OpenSSH_9.2\r\n",
                "HTTP/1.1 OK\r\n\r\n",
                "HTTP/1.1 20\r\n\r\n",
                "HTTP/1.1 2000 \r\n\r\n",
                "HTTP/1.1 099 \r\n\r\n",
                "HTTP/1.1 200 \r\nno colon\r\n\r\n",
                "HTTP/1.1 200 \r\n: empty\r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: x\r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: -1\r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: \r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "\r\n\r\n",
                "{}",
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(replies); i++) {
                struct cc_err err = CC_ERR_INIT;
                CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
                struct peer p = { .reply = replies[i], .hold = true };

                if (talk(&p, *state, 5000, &reply, &err) != -CC_INVALID)
                        fail_msg("\"%s\": %s", replies[i], err.msg);
                assert_int_equal(reply.status, 0);
        }
}

static void test_nul_in_head(void **state)
{
        static const char reply_text[] = "HTTP/1.1 200 \r\nA: \0b\r\n\r\n";
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer p = { .reply = reply_text, .reply_len = sizeof(reply_text) - 1, .hold = true };

        assert_int_equal(talk(&p, *state, 5000, &reply, &err), -CC_INVALID);
}

static void test_too_long(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer announced = { .reply = "HTTP/1.1 200 \r\nContent-Length: 999999999\r\n\r\n",
                                  .hold = true };
        struct peer overflow = {
                .reply = "HTTP/1.1 200 \r\nContent-Length: 99999999999999999999999\r\n\r\n",
                .hold = true
        };
        struct peer endless = { .reply = "HTTP/1.1 200 \r\n\r\n",
                                .flood = CC_HTTP_BODY_MAX + (1 << 20) };
        struct peer head = { .reply = "HTTP/1.1 200 \r\nA: ", .flood = CC_HTTP_HEAD_MAX * 2 };

        assert_int_equal(talk(&announced, *state, 5000, &reply, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "more than 4194304 bytes"));
        assert_int_equal(talk(&overflow, *state, 5000, &reply, &err), -CC_INVALID);
        assert_int_equal(talk(&endless, *state, 5000, &reply, &err), -CC_INVALID);
        assert_int_equal(talk(&head, *state, 5000, &reply, &err), -CC_INVALID);
}

/* The request went out and the connection broke: not to be repeated, so another class. */
static void test_closed(void **state)
{
        static const char *const replies[] = {
                "",
                "HTTP/1.1 20",
                "HTTP/1.1 200 \r\nContent-Length: 10\r\n\r\nshort",
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(replies); i++) {
                struct cc_err err = CC_ERR_INIT;
                CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
                struct peer p = { .reply = replies[i] };

                assert_int_equal(talk(&p, *state, 5000, &reply, &err), -CC_IO);
        }
}

static void test_hang(void **state)
{
        static const char *const replies[] = { "", "HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\nx" };

        for (size_t i = 0; i < CC_ARRAY_LEN(replies); i++) {
                struct cc_err err = CC_ERR_INIT;
                CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
                struct peer p = { .reply = replies[i], .hold = true };
                int64_t start = cc_monotonic();

                assert_int_equal(talk(&p, *state, 100, &reply, &err), -CC_TIMEOUT);
                assert_true(cc_monotonic() - start >= 100 * CC_NSEC_PER_MSEC);
                assert_string_equal(err.msg, "PUT /api/v1/vm.add-net: no answer within 100 ms");
        }
}

/* A full backlog is a busy server, not a missing one. */
static void test_full_backlog(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        struct peer p = { 0 };
        int waiting[2];

        listen_at(&p, *state);
        assert_int_equal(listen(p.fd, 0), 0);
        strncpy(addr.sun_path, p.path, sizeof(addr.sun_path) - 1);
        for (size_t i = 0; i < 2; i++) {
                waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                (void)connect(waiting[i], (struct sockaddr *)&addr, sizeof(addr));
        }
        assert_int_equal(cc_http_unix(p.path, "GET", "/x", NULL, 100, &reply, &err), -CC_TIMEOUT);
        close(waiting[0]);
        close(waiting[1]);
        close(p.fd);
        free(p.path);
}

static void test_nobody_there(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        struct peer p = { 0 };

        listen_at(&p, *state);
        close(p.fd); /* the file stays: a server that was killed */
        assert_int_equal(cc_http_unix(p.path, "GET", "/x", NULL, 1000, &reply, &err),
                         -CC_UNAVAILABLE);
        assert_int_equal(unlink(p.path), 0);
        assert_int_equal(cc_http_unix(p.path, "GET", "/x", NULL, 1000, &reply, &err),
                         -CC_UNAVAILABLE);
        assert_int_equal(err.sys, 2 /* ENOENT */);
        free(p.path);
}

static void test_unusable_request(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        char path[200];

        memset(path, 'a', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        assert_int_equal(cc_http_unix(path, "GET", "/x", NULL, 1000, &reply, &err), -CC_INVALID);
        assert_int_equal(cc_http_unix("/s", "GET", "/x y", NULL, 1000, &reply, &err), -CC_INVALID);
        assert_int_equal(cc_http_unix("/s", "GET", "/x\r\nA: b", NULL, 1000, &reply, &err),
                         -CC_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_reply_with_body),
                scratch_test(test_no_content),
                scratch_test(test_byte_by_byte),
                scratch_test(test_body_until_close),
                scratch_test(test_keep_alive_without_length),
                scratch_test(test_early_refusal),
                scratch_test(test_garbage),
                scratch_test(test_nul_in_head),
                scratch_test(test_too_long),
                scratch_test(test_closed),
                scratch_test(test_hang),
                scratch_test(test_full_backlog),
                scratch_test(test_nobody_there),
                cmocka_unit_test(test_unusable_request),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
