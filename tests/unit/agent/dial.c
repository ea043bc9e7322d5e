/* Reaching an agent: the handshake of hybrid vsock, the sync of a serial port, retries, limits. */
#include <signal.h>
#include <sys/un.h>

#include "agent/agent.h"
#include "base/timeutil.h"
#include "peer.h"

/* A listener that plays one script a connection, the last one again and again never. */
struct server {
        int fd;
        char *path;
        const struct peer_step *const *scripts; /* NULL-terminated */
        pthread_t thread;
        int served;
};

static void *server_run(void *arg)
{
        struct server *s = arg;

        for (; s->scripts[s->served]; s->served++) {
                struct peer p = { .fd = accept(s->fd, NULL, NULL), .steps = s->scripts[s->served] };

                if (p.fd < 0)
                        break;
                (void)peer_run(&p);
        }
        return NULL;
}

static void server_start(struct server *s, const char *dir, const struct peer_step *const *scripts)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };

        *s = (struct server){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                              .path = cc_path_join(dir, "s"),
                              .scripts = scripts };
        memcpy(addr.sun_path, s->path, strlen(s->path) + 1);
        assert_int_equal(bind(s->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        assert_int_equal(listen(s->fd, 8), 0);
        assert_int_equal(pthread_create(&s->thread, NULL, server_run, s), 0);
}

static void server_end(struct server *s)
{
        assert_int_equal(pthread_join(s->thread, NULL), 0);
        close(s->fd);
        free(s->path);
}

static int dial(const struct server *s, enum agent_carrier carrier, int64_t ms, bool greet,
                struct agent_conn *c, struct cc_err *err)
{
        struct agent_peer peer = { .carrier = carrier, .sockets = { s->path }, .n = 1 };
        struct agent_dial how = { .connect_ms = ms, .greet = greet };
        CC_FREE char *lock = xasprintf("%s.lock", s->path);

        peer.locks[0] = lock;
        return agent_dial(&peer, &how, c, err);
}

static void test_vsock(void **state)
{
        static const struct peer_step script[] = { { "CONNECT 1024\n", "OK 1073741824\nmore" },
                                                   { 0 } };
        static const struct peer_step *const scripts[] = { script, NULL };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct server s;
        char more[8] = "";

        server_start(&s, *state, scripts);
        assert_ok(dial(&s, AGENT_VSOCK, 5000, false, &c, &err));
        server_end(&s);
        /* What follows the newline is the stream. */
        assert_int_equal(recv(c.fd, more, sizeof(more), 0), 4);
        assert_string_equal(more, "more");
        assert_false(c.greeted);
}

/* Nobody listens in the guest yet: tried again. */
static void test_retry(void **state)
{
        static const struct peer_step nobody[] = { { "CONNECT 1024\n", NULL }, { 0 } };
        static const struct peer_step script[] = { { "CONNECT 1024\n", "OK 1\n" }, { 0 } };
        static const struct peer_step *const scripts[] = { nobody, nobody, script, NULL };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct server s;

        server_start(&s, *state, scripts);
        assert_ok(dial(&s, AGENT_VSOCK, 60000, false, &c, &err));
        server_end(&s);
        assert_int_equal(s.served, 3);
}

static void test_no_answer(void **state)
{
        static const struct peer_step nobody[] = { { "CONNECT 1024\n", NULL }, { 0 } };
        static const struct peer_step *const scripts[] = { nobody, NULL };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct agent_peer none = { .carrier = AGENT_NONE };
        struct agent_dial how = { .connect_ms = 1 };
        struct cc_err err = CC_ERR_INIT;
        struct server s;

        server_start(&s, *state, scripts);
        assert_int_equal(dial(&s, AGENT_VSOCK, 50, false, &c, &err), -CC_NETWORK);
        assert_string_equal(err.msg, "dial agent: read CONNECT reply: EOF (cocoon-agent may still "
                                     "be starting; retry shortly)");
        server_end(&s);
        assert_int_equal(agent_dial(&none, &how, &c, &err), -CC_UNAVAILABLE);
        assert_string_equal(err.msg, "vsock not configured for this VM (recreate the VM to enable "
                                     "agent exec)");
}

static void test_bad_reply(void **state)
{
        static const struct peer_step script[] = { { "CONNECT 1024\n", "HTTP/1.1 400\n" }, { 0 } };
        static const struct peer_step *const scripts[] = { script, NULL };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct server s;

        server_start(&s, *state, scripts);
        assert_int_equal(dial(&s, AGENT_VSOCK, 5000, false, &c, &err), -CC_INVALID);
        server_end(&s);
}

/* An agent of the older protocol refuses the hello: it is connected to without. */
static void test_legacy_greeting(void **state)
{
        static const struct peer_step first[] = {
                { "{\"type\":\"hello\",\"nonce\":\"",
                  "{\"type\":\"error\",\"message\":\"expected first frame type \\\"exec\\\" or "
                  "\\\"reseed\\\", got \\\"hello\\\"\"}\n" },
                { 0 }
        };
        static const struct peer_step second[] = { { 0 } };
        static const struct peer_step *const scripts[] = { first, second, NULL };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct server s;

        server_start(&s, *state, scripts);
        assert_ok(dial(&s, AGENT_UNIX, 5000, true, &c, &err));
        server_end(&s);
        assert_false(c.greeted);
        assert_int_equal(c.features, 0);
}

/* Plays our agent on a port: the rest of a session that was cut off, then the hello's answer. */
static void *serial_run(void *arg)
{
        struct server *s = arg;
        int fd = accept(s->fd, NULL, NULL);
        char line[128] = "";
        char answer[256];
        ssize_t n = read(fd, line, sizeof(line) - 1);
        const char *nonce = n > 0 ? strstr(line, "\"nonce\":\"") : NULL;
        int len = snprintf(answer, sizeof(answer),
                           "bbb\"}\n\n{\"type\":\"hello\",\"nonce\":\"00\"}\n{\"type\":\"hello\","
                           "\"nonce\":\"%.32s\",\"proto\":1,\"features\":[\"tty\",\"raw\",7,\"x\"]}"
                           "\n",
                           nonce ? nonce + 9 : "");

        s->served = line[0] == '\n' && write(fd, answer, (size_t)len) == len;
        close(fd);
        return NULL;
}

static void test_serial(void **state)
{
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        AGENT_CONN struct agent_conn other = AGENT_CONN_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct agent_dial how = { .connect_ms = 5000, .queue_ms = 30 };
        struct agent_peer peer = { .carrier = AGENT_SERIAL, .n = 1 };
        CC_FREE char *lock = cc_path_join(*state, "s.lock");
        static const struct peer_step *const none[] = { NULL };
        struct server s;

        server_start(&s, *state, none);
        assert_int_equal(pthread_join(s.thread, NULL), 0);
        assert_int_equal(pthread_create(&s.thread, NULL, serial_run, &s), 0);
        assert_ok(dial(&s, AGENT_SERIAL, 60000, false, &c, &err));
        assert_true(c.greeted);
        assert_int_equal(c.features, AGENT_TTY | AGENT_RAW);
        /* The only port is taken for as long as the session lives. */
        peer.sockets[0] = s.path;
        peer.locks[0] = lock;
        assert_int_equal(agent_dial(&peer, &how, &other, &err), -CC_BUSY);
        assert_true(agent_answers(&peer, 10));
        server_end(&s);
        assert_int_equal(s.served, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_vsock),     scratch_test(test_retry),
                scratch_test(test_no_answer), scratch_test(test_bad_reply),
                scratch_test(test_serial),    scratch_test(test_legacy_greeting),
        };

        (void)signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
