/* Sessions against a scripted agent of the older protocol: codes, streams, errors, early ends. */
#include <fcntl.h>
#include <signal.h>

#include "agent/agent.h"
#include "base/interrupt.h"
#include "peer.h"

#define EXEC_TRUE "{\"type\":\"exec\",\"argv\":[\"true\"]}\n"
#define CLOSE     "{\"type\":\"stdin_close\"}\n"

static const char *const true_argv[] = { "true", NULL };

static void connect_peer(struct agent_conn *c, struct peer *p, const struct peer_step *steps)
{
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        *c = (struct agent_conn)AGENT_CONN_INIT;
        c->fd = ends[0];
        peer_start(p, ends[1], steps);
}

/* Runs `true` against the script; returns the session's result. */
static int talk(const struct peer_step *steps, int *ret_code, struct cc_err *err)
{
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct agent_exec x = { .argv = true_argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        struct agent_result result = { .code = -99 };
        struct peer p;
        int r;

        connect_peer(&c, &p, steps);
        r = agent_exec(&c, &x, &result, err);
        *ret_code = result.code;
        agent_conn_close(&c);
        peer_end(&p);
        return r;
}

static void test_codes(void **state)
{
        static const struct {
                const char *last;
                int code;
        } rows[] = {
                { "{\"type\":\"started\",\"pid\":9}\n{\"type\":\"exit\"}\n", 0 },
                { "{\"type\":\"exit\",\"exit_code\":7}\n", 7 },
                { "{\"type\":\"exit\",\"exit_code\":-1}\n", 255 },
                { "{\"type\":\"exit\",\"exit_code\":137,\"signal\":\"KILL\"}\n", 137 },
                { "{\"type\":\"news\"}\n{\"type\":\"exit\",\"exit_code\":300}", 44 },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                const struct peer_step steps[] = { { EXEC_TRUE CLOSE, rows[i].last }, { 0 } };
                struct cc_err err = CC_ERR_INIT;
                int code;

                assert_ok(talk(steps, &code, &err));
                assert_int_equal(code, rows[i].code);
        }
}

static void test_failures(void **state)
{
        static const struct {
                const char *last;
                int class;
                const char *text;
        } rows[] = {
                { "{\"type\":\"error\",\"message\":\"exec: argv is empty\"}\n", CC_INVALID,
                  "agent: exec: argv is empty" },
                { "{\"type\":\"started\"}\n", CC_NETWORK,
                  "agent: connection closed before exit frame" },
                { NULL, CC_NETWORK, "agent: connection closed before exit frame" },
                { "garbage\n", CC_INVALID, "agent: malformed frame: not a JSON object" },
                { "{\"type\":\"stdout\",\"data\":\"?\"}\n", CC_INVALID,
                  "agent: malformed frame: data is not base64" },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                const struct peer_step steps[] = { { EXEC_TRUE CLOSE, rows[i].last }, { 0 } };
                struct cc_err err = CC_ERR_INIT;
                int code;

                assert_int_equal(talk(steps, &code, &err), -rows[i].class);
                assert_string_equal(err.msg, rows[i].text);
        }
}

/* What the older protocol cannot say must not be sent to such an agent. */
static void test_features(void **state)
{
        static const struct peer_step none[] = { { 0 } };
        struct agent_exec x = { .argv = true_argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        struct agent_result result;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        for (int i = 0; i < 3; i++) {
                AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
                struct peer p;

                x.tty = i == 0;
                x.user = i == 1 ? "root" : NULL;
                x.cwd = i == 2 ? "/" : NULL;
                connect_peer(&c, &p, none);
                assert_int_equal(agent_exec(&c, &x, &result, &err), -CC_UNSUPPORTED);
                assert_string_equal(err.msg, i == 0   ? "agent does not support tty"
                                             : i == 1 ? "agent does not support user"
                                                      : "agent does not support workdir");
                agent_conn_close(&c);
                peer_end(&p);
        }
}

static void test_request(void **state)
{
        static const char *const argv[] = { "sh", "-c", "echo \"$A\"", NULL };
        static const char *const env[] = { "A=b=c", "E=", NULL };
        static const char *const bad[] = { "=x", NULL };
        static const struct peer_step steps[] = {
                { "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"echo \\\"$A\\\"\"],"
                  "\"env\":{\"A\":\"b=c\",\"E\":\"\"}}\n" CLOSE,
                  "{\"type\":\"exit\"}\n" },
                { 0 }
        };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct agent_exec x = { .argv = argv, .env = env, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        struct agent_result result;
        struct cc_err err = CC_ERR_INIT;
        struct peer p;

        (void)state;
        connect_peer(&c, &p, steps);
        assert_ok(agent_exec(&c, &x, &result, &err));
        peer_end(&p);
        x.env = bad;
        assert_int_equal(agent_exec(&c, &x, &result, &err), -CC_USAGE);
}

/* All byte values in, all byte values out, both streams. */
static void test_streams(void **state)
{
        static const struct peer_step steps[] = {
                { "{\"type\":\"exec\",\"argv\":[\"true\"]}\n"
                  "{\"type\":\"stdin\",\"data\":\"aW4Kc2lkZQ==\"}\n" CLOSE,
                  "{\"type\":\"stdout\",\"data\":\"AAECA/8=\"}\n"
                  "{\"type\":\"stderr\",\"data\":\"b29wcw==\"}\n"
                  "{\"type\":\"stdout\",\"data\":\"\"}\n{\"type\":\"exit\",\"exit_code\":3}\n" },
                { 0 }
        };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        CC_BUF struct cc_buf said = { 0 };
        struct agent_exec x = { .argv = true_argv, .fd_err = -1, .err_text = &said };
        struct agent_result result = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct peer p;
        int in[2];
        int out[2];
        char got[16];

        (void)state;
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        assert_int_equal(write(in[1], "in\nside", 7), 7);
        close(in[1]);
        x.fd_in = in[0];
        x.fd_out = out[1];
        connect_peer(&c, &p, steps);
        assert_ok(agent_exec(&c, &x, &result, &err));
        peer_end(&p);
        close(in[0]);
        close(out[1]);
        assert_int_equal(result.code, 3);
        assert_int_equal(read(out[0], got, sizeof(got)), 5);
        assert_memory_equal(got, "\0\1\2\3\xff", 5);
        assert_string_equal(said.data, "oops");
        close(out[0]);
}

/* A reader of ours that is gone: the session ends as a pipeline's writer does. */
static void test_reader_gone(void **state)
{
        static const struct peer_step steps[] = {
                { EXEC_TRUE CLOSE, "{\"type\":\"stdout\",\"data\":\"AAECA/8=\"}\n" },
                { "never", NULL },
                { 0 }
        };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct agent_exec x = { .argv = true_argv, .fd_in = -1, .fd_err = -1 };
        struct agent_result result = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct peer p;
        int out[2];

        (void)state;
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        close(out[0]);
        x.fd_out = out[1];
        connect_peer(&c, &p, steps);
        assert_ok(agent_exec(&c, &x, &result, &err));
        assert_int_equal(result.code, 141);
        agent_conn_close(&c);
        assert_int_equal(pthread_join(p.thread, NULL), 0);
        close(out[1]);
}

static void test_timeout(void **state)
{
        static const struct peer_step steps[] = { { EXEC_TRUE CLOSE, NULL },
                                                  { "never", NULL },
                                                  { 0 } };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct agent_exec x = {
                .argv = true_argv, .fd_in = -1, .fd_out = -1, .fd_err = -1, .timeout_ms = 50
        };
        struct agent_result result;
        struct cc_err err = CC_ERR_INIT;
        struct peer p;

        (void)state;
        connect_peer(&c, &p, steps);
        assert_int_equal(agent_exec(&c, &x, &result, &err), -CC_TIMEOUT);
        agent_conn_close(&c);
        assert_int_equal(pthread_join(p.thread, NULL), 0);
}

/* An agent that greeted carries data in binary frames once the command has started. */
static void test_raw(void **state)
{
        static const struct peer_step steps[] = {
                { "{\"type\":\"exec\",\"argv\":[\"true\"],\"user\":\"u\",\"raw\":true}\n",
                  "{\"type\":\"started\",\"pid\":9}\n" },
                { NULL, "\1\1\1\1" },
                { 0 }
        };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct agent_exec x = {
                .argv = true_argv, .user = "u", .fd_in = -1, .fd_out = -1, .fd_err = -1
        };
        struct agent_result result;
        struct cc_err err = CC_ERR_INIT;
        struct peer p;

        (void)state;
        connect_peer(&c, &p, steps);
        c.greeted = true;
        c.features = AGENT_RAW | AGENT_USER;
        /* 65793 bytes are announced, none come. */
        assert_int_equal(agent_exec(&c, &x, &result, &err), -CC_INVALID);
        assert_string_equal(err.msg, "agent: the stream ends within a frame");
        peer_end(&p);
}

static void test_reseed(void **state)
{
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct cc_err err = CC_ERR_INIT;
        char line[1024];
        int ends[2];
        ssize_t n;

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        c.fd = ends[0];
        assert_int_equal(write(ends[1], "{\"type\":\"exit\"}\n", 16), 16);
        assert_ok(agent_reseed(&c, true, 5000, &err));
        n = read(ends[1], line, sizeof(line));
        assert_true(n > 0);
        line[n] = '\0';
        /* 256 bytes, no stdin_close. */
        assert_memory_equal(line, "{\"type\":\"reseed\",\"data\":\"", 25);
        assert_string_equal(line + 25 + 344, "\",\"regen_machine_id\":true}\n");
        assert_int_equal(
                write(ends[1], "{\"type\":\"error\",\"message\":\"reseed: not supported\"}\n", 52),
                52);
        c.in.eof = false;
        assert_int_equal(agent_reseed(&c, false, 5000, &err), -CC_INVALID);
        assert_string_equal(err.msg, "agent: reseed: not supported");
        close(ends[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_codes),    cmocka_unit_test(test_failures),
                cmocka_unit_test(test_features), cmocka_unit_test(test_request),
                cmocka_unit_test(test_streams),  cmocka_unit_test(test_reader_gone),
                cmocka_unit_test(test_timeout),  cmocka_unit_test(test_raw),
                cmocka_unit_test(test_reseed),
        };

        (void)signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
