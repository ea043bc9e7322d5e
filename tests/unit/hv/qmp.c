/* The QMP client against a scripted peer on the other end of a socket pair. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/timeutil.h"
#include "hv/qemu/qmp.h"

#define GREETING                                                                                   \
        "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":22,\"minor\":2,\"major\":7}},"                 \
        "\"capabilities\":[\"oob\"]}}\r\n"
#define OK    "{\"return\":{}}\r\n"
#define EVENT "{\"event\":\"RESET\",\"timestamp\":{\"seconds\":1},\"data\":{\"guest\":true}}\r\n"

/* One step of the peer: wait for a command that holds `expect` (NULL: do not wait), then say
 * `say`; with `split`, byte by byte. An entry with neither ends the script: the peer closes, or
 * with `hold` keeps the connection open and mute until the client closes. */
struct step {
        const char *expect;
        const char *say;
        bool split;
        bool hold;
};

struct peer {
        int fd;
        const struct step *script;
        bool wrong; /* a command was not the expected one */
        pthread_t thread;
};

static bool read_line(int fd, char *buf, size_t max)
{
        size_t n = 0;

        while (n + 1 < max && recv(fd, buf + n, 1, 0) == 1)
                if (buf[n++] == '\n') {
                        buf[n] = '\0';
                        return true;
                }
        return false;
}

static void *peer_main(void *arg)
{
        struct peer *p = arg;
        char line[4096];

        for (const struct step *s = p->script; s->expect || s->say || s->hold; s++) {
                if (s->expect &&
                    (!read_line(p->fd, line, sizeof(line)) || !strstr(line, s->expect)))
                        p->wrong = true;
                if (s->hold)
                        while (recv(p->fd, line, sizeof(line), 0) > 0)
                                ;
                if (!s->say)
                        continue;
                if (!s->split) {
                        (void)cc_write_all(p->fd, s->say, strlen(s->say), NULL);
                        continue;
                }
                for (const char *c = s->say; *c; c++) {
                        (void)cc_write_all(p->fd, c, 1, NULL);
                        sched_yield();
                }
        }
        close(p->fd);
        return NULL;
}

/* Starts the peer; returns the client's end. */
static int start(struct peer *p, const struct step *script)
{
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        *p = (struct peer){ .fd = fds[1], .script = script };
        assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
        return fds[0];
}

static void finish(struct peer *p)
{
        assert_int_equal(pthread_join(p->thread, NULL), 0);
        assert_false(p->wrong);
}

static void test_events_and_splits(void **state)
{
        static const struct step script[] = {
                { .say = GREETING, .split = true },
                { .expect = "qmp_capabilities", .say = EVENT OK },
                { .expect = "\"execute\":\"query-status\"",
                  .say = EVENT EVENT "{\"return\":{\"status\":\"running\"}}\r\n" EVENT,
                  .split = true },
                { .expect = "{\"execute\":\"set_link\",\"arguments\":{\"name\":\"nic0\"}}",
                  .say = EVENT "\r\n" OK },
                { 0 },
        };
        struct cc_err err = CC_ERR_INIT;
        QMP struct qmp *q = NULL;
        CC_JSON json_t *ret = NULL;
        struct peer p;
        int fd = start(&p, script);

        (void)state;
        assert_int_equal(qmp_open(fd, -1, 5000, &q, &err), 0);
        assert_int_equal(qmp_command(q, "query-status", NULL, 5000, &ret, &err), 0);
        assert_string_equal(json_string_value(json_object_get(ret, "status")), "running");
        assert_int_equal(
                qmp_command(q, "set_link", json_pack("{s:s}", "name", "nic0"), 5000, NULL, &err),
                0);
        finish(&p);
        /* The peer closed: the next command fails at once, and so do all after it. */
        assert_int_equal(qmp_command(q, "stop", NULL, 5000, NULL, &err), -CC_NETWORK);
        assert_int_equal(qmp_command(q, "stop", NULL, 5000, NULL, &err), -CC_NETWORK);
}

static void test_refusals(void **state)
{
        static const struct step script[] = {
                { .say = GREETING },
                { .expect = "qmp_capabilities", .say = OK },
                { .expect = "device_del",
                  .say = "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"Device 'nic1' not "
                         "found\"}}\r\n" },
                { .expect = "cont", .say = "{\"error\":{\"class\":\"GenericError\"}}\r\n" },
                { .expect = "stop", .say = OK },
                { 0 },
        };
        struct cc_err err = CC_ERR_INIT;
        QMP struct qmp *q = NULL;
        struct peer p;
        int fd = start(&p, script);

        (void)state;
        assert_int_equal(qmp_open(fd, -1, 5000, &q, &err), 0);
        assert_int_equal(qmp_command(q, "device_del", NULL, 5000, NULL, &err), -CC_NOT_FOUND);
        assert_string_equal(err.msg, "qemu: device_del: Device 'nic1' not found");
        assert_int_equal(qmp_command(q, "cont", NULL, 5000, NULL, &err), -CC_STATE);
        /* A refusal leaves the connection usable. */
        assert_int_equal(qmp_command(q, "stop", NULL, 5000, NULL, &err), 0);
        finish(&p);
}

static void test_eof_in_reply(void **state)
{
        static const struct step script[] = {
                { .say = GREETING },
                { .expect = "qmp_capabilities", .say = OK },
                { .expect = "query-status", .say = "{\"return\":{\"sta" },
                { 0 },
        };
        struct cc_err err = CC_ERR_INIT;
        CC_JSON json_t *ret = NULL;
        QMP struct qmp *q = NULL;
        struct peer p;
        int fd = start(&p, script);

        (void)state;
        assert_int_equal(qmp_open(fd, -1, 5000, &q, &err), 0);
        assert_int_equal(qmp_command(q, "query-status", NULL, 5000, &ret, &err), -CC_NETWORK);
        assert_null(ret);
        finish(&p);
}

static int open_fails(const struct step *script, int watch, int ms, struct cc_err *err)
{
        struct qmp *q = NULL;
        struct peer p;
        int fd = start(&p, script);
        int r = qmp_open(fd, watch, ms, &q, err);

        assert_null(q);
        assert_int_equal(pthread_join(p.thread, NULL), 0);
        return r;
}

static void test_greeting_timeout(void **state)
{
        static const struct step mute[] = { { .hold = true }, { 0 } };
        static const struct step half[] = { { .say = "{\"QMP\":" }, { .hold = true }, { 0 } };
        struct cc_err err = CC_ERR_INIT;
        int64_t begin = cc_monotonic();

        (void)state;
        assert_int_equal(open_fails(mute, -1, 100, &err), -CC_TIMEOUT);
        assert_string_equal(err.msg, "qemu: control socket busy");
        assert_int_equal(open_fails(half, -1, 100, &err), -CC_TIMEOUT);
        assert_true(cc_monotonic() - begin >= 200 * CC_NSEC_PER_MSEC);
}

static void test_garbage(void **state)
{
        static const char *const lines[] = {
                "SSH-2.0-OpenSSH_9.2\r\n", "{\"QMP\":\"yes\"}\r\n",     "[1,2,3]\r\n", "null\r\n",
                "{\"return\":{}}\r\n",     "{\"event\":\"RESET\"}\r\n", "\xff\xfe\n",
        };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(lines); i++) {
                const struct step script[] = { { .say = lines[i] }, { .hold = true }, { 0 } };

                assert_int_equal(open_fails(script, -1, 5000, &err), -CC_INVALID);
        }
}

static void test_endless_line(void **state)
{
        CC_FREE char *noise = xmalloc(3 << 20);
        const struct step script[] = { { .say = noise }, { 0 } };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        memset(noise, ' ', (3 << 20) - 1);
        noise[(3 << 20) - 1] = '\0';
        assert_int_equal(open_fails(script, -1, 5000, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "longer than"));
}

/* A reply nobody waits for means that the two sides are out of step. */
static void test_late_reply(void **state)
{
        static const struct step script[] = {
                { .say = GREETING },
                { .expect = "qmp_capabilities", .say = OK },
                { .expect = "query-status" },
                { .hold = true },
                { 0 },
        };
        struct cc_err err = CC_ERR_INIT;
        struct qmp *q = NULL;
        struct peer p;
        int fd = start(&p, script);

        (void)state;
        assert_int_equal(qmp_open(fd, -1, 5000, &q, &err), 0);
        assert_int_equal(qmp_command(q, "query-status", NULL, 50, NULL, &err), -CC_TIMEOUT);
        assert_int_equal(qmp_command(q, "cont", NULL, 5000, NULL, &err), -CC_NETWORK);
        qmp_close(q);
        finish(&p);
}

static void test_death_of_the_process(void **state)
{
        static const struct step mute[] = { { .hold = true }, { 0 } };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int watch = eventfd(1, EFD_CLOEXEC);
        int64_t begin = cc_monotonic();

        (void)state;
        assert_int_equal(open_fails(mute, watch, 20000, &err), -CC_NETWORK);
        assert_true(cc_monotonic() - begin < 5 * CC_NSEC_PER_SEC);
}

static void test_no_listener(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct qmp *q = NULL;
        char path[200];

        (void)state;
        assert_int_equal(qmp_connect("/nonexistent/api.sock", -1, 100, &q, &err), -CC_NETWORK);
        memset(path, 'a', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        assert_int_equal(qmp_connect(path, -1, 100, &q, &err), -CC_INVALID);
        assert_null(q);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_events_and_splits),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_eof_in_reply),
                cmocka_unit_test(test_greeting_timeout),
                cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_endless_line),
                cmocka_unit_test(test_late_reply),
                cmocka_unit_test(test_death_of_the_process),
                cmocka_unit_test(test_no_listener),
        };

        (void)signal(SIGPIPE, SIG_IGN); /* the scripted peer may write to a closed client */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
