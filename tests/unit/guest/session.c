/* The base protocol, byte by byte: what older hosts send and expect. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_peer.h"

#define CLOSE "{\"type\":\"stdin_close\"}\n"
#define SH(s) "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"" s "\"]}\n"

/* The answer without its first line, which must be `started`. */
static const char *after_started(const char *answer)
{
        const char *end = strchr(answer, '\n');

        if (strncmp(answer, "{\"type\":\"started\",\"pid\":", 24) != 0 || !end)
                fail_msg("no started: %s", answer);
        return end + 1;
}

static void assert_answer(const struct peer *p, const char *ask, const char *want)
{
        CC_FREE char *answer = peer_ask(p, ask);

        assert_string_equal(after_started(answer), want);
}

static void assert_refusal(const struct peer *p, const char *ask, const char *want)
{
        CC_FREE char *answer = peer_ask(p, ask);
        CC_FREE char *line = xasprintf("{\"type\":\"error\",\"message\":\"%s\"}\n", want);

        assert_string_equal(answer, line);
}

static void exit_codes(void **state)
{
        assert_answer(*state, "{\"type\":\"exec\",\"argv\":[\"true\"]}\n" CLOSE,
                      "{\"type\":\"exit\"}\n");
        for (int code = 1; code < 256; code += 127) {
                CC_FREE char *ask = xasprintf("{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\","
                                              "\"exit %d\"]}\n" CLOSE,
                                              code);
                CC_FREE char *want = xasprintf("{\"type\":\"exit\",\"exit_code\":%d}\n", code);

                assert_answer(*state, ask, want);
        }
        assert_answer(*state, SH("kill -9 $$") CLOSE,
                      "{\"type\":\"exit\",\"exit_code\":137,\"signal\":\"KILL\"}\n");
}

static void output_and_environment(void **state)
{
        /* As an older host writes it: keys in its order, <>& escaped. */
        CC_FREE char *answer = peer_ask(
                *state,
                "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"echo $A \\u003e\\u00262; "
                "echo $INHERITED\"],\"env\":{\"A\":\"a \\u003c b\",\"PATH\":\"/none\"}}\n" CLOSE);
        const char *rest = after_started(answer);

        /* The two streams are in no order. */
        assert_non_null(strstr(rest, "{\"type\":\"stdout\",\"data\":\"ZnJvbSB0aGUgYWdlbnQK\"}\n"));
        assert_non_null(strstr(rest, "{\"type\":\"stderr\",\"data\":\"YSA8IGIK\"}\n"));
        assert_string_equal(rest + strlen(rest) - 16, "{\"type\":\"exit\"}\n");
}

static void start_failures(void **state)
{
        assert_refusal(*state, "{\"type\":\"exec\"}\n", "exec: argv is empty");
        assert_refusal(*state, "{\"type\":\"exec\",\"argv\":[]}\n", "exec: argv is empty");
        assert_refusal(*state, "{\"type\":\"exec\",\"argv\":[\"no-such-thing\"]}\n",
                       "exec: start no-such-thing: executable file not found in $PATH");
        assert_refusal(*state, "{\"type\":\"exec\",\"argv\":[\"/no/such\"]}\n",
                       "exec: start /no/such: No such file or directory");
        assert_refusal(*state, "{\"type\":\"exec\",\"argv\":[\"/\"]}\n",
                       "exec: start /: Permission denied");
        assert_refusal(*state, "{\"type\":\"exec\",\"argv\":[\"\"]}\n",
                       "exec: start : executable file not found in $PATH");
}

static void wrong_first_frames(void **state)
{
        CC_FREE char *nothing = NULL;
        int fd;

        assert_refusal(
                *state, "{\"type\":\"stdin\",\"data\":\"\"}\n",
                "expected first frame type \\\"exec\\\" or \\\"reseed\\\", got \\\"stdin\\\"");
        assert_refusal(*state, "{}\n",
                       "expected first frame type \\\"exec\\\" or \\\"reseed\\\", got \\\"\\\"");
        assert_refusal(*state, "GET / HTTP/1.1\n", "first frame: not an object");
        assert_refusal(*state, "\n", "first frame: not an object");
        /* A connection without a word is nobody's fault. */
        fd = peer_connect(((struct peer *)*state)->stream);
        shutdown(fd, SHUT_WR);
        nothing = peer_read(fd, NULL);
        assert_string_equal(nothing, "");
        close(fd);
}

static void final_line_without_newline(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *answer = NULL;

        peer_say(fd, "{\"type\":\"exec\",\"argv\":[\"cat\"]}\r\n{\"type\":\"stdin\",\"data\":"
                     "\"aGk=\",\"later\":[{}]}");
        shutdown(fd, SHUT_WR);
        answer = peer_read(fd, NULL);
        assert_string_equal(after_started(answer), "{\"type\":\"stdout\",\"data\":\"aGk=\"}\n"
                                                   "{\"type\":\"exit\"}\n");
        close(fd);
}

static void every_byte(void **state)
{
        /* All 256 values, encoded by an independent implementation. */
        static const char data[] =
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7"
                "PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3"
                "eHl6e3x9fn+AgYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq+wsbKz"
                "tLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v"
                "8PHy8/T19vf4+fr7/P3+/w==";
        CC_FREE char *ask = xasprintf("{\"type\":\"exec\",\"argv\":[\"cat\"]}\n{\"type\":\"stdin\","
                                      "\"data\":\"%s\"}\n{\"type\":\"stdin\"}\n" CLOSE,
                                      data);
        CC_FREE char *want =
                xasprintf("{\"type\":\"stdout\",\"data\":\"%s\"}\n{\"type\":\"exit\"}\n", data);

        assert_answer(*state, ask, want);
}

static void flood_of_input_for_nobody(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *line = xmalloc(60000);
        CC_FREE char *go = xasprintf("%s/go", p->dir);
        CC_FREE char *ask =
                xasprintf("{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"exec <&-; echo; "
                          "while [ ! -e %s ]; do sleep 0.1; done\"]}\n",
                          go);
        CC_FREE char *answer = NULL;
        int n = snprintf(line, 60000, "{\"type\":\"stdin\",\"data\":\"");

        memset(line + n, 'A', 40000);
        memcpy(line + n + 40000, "\"}\n", 4);
        peer_say(fd, ask);
        for (int i = 0; i < 100; i++)
                peer_say(fd, line);
        peer_say(fd, CLOSE);
        close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        answer = peer_read(fd, NULL);
        assert_string_equal(after_started(answer), "{\"type\":\"stdout\",\"data\":\"Cg==\"}\n"
                                                   "{\"type\":\"exit\"}\n");
        close(fd);
}

static void grandchild_holds_the_pipes(void **state)
{
        CC_FREE char *answer = peer_ask(*state, SH("sleep 300 & echo $! >&2; echo started") CLOSE);

        assert_non_null(strstr(answer, "{\"type\":\"stdout\",\"data\":\"c3RhcnRlZAo=\"}\n"));
        assert_non_null(strstr(answer, "\n{\"type\":\"exit\"}\n"));
        /* It lives: in its group, whose number is the dead leader's. */
        assert_int_equal(kill(-(pid_t)peer_number(answer, "pid"), SIGKILL), 0);
}

static void malformed_frames(void **state)
{
        const struct peer *p = *state;
        static const char *const rows[][2] = {
                { "nonsense\n", "stdin: not an object" },
                { "{\"type\":\"stdin\",\"data\":\"A\"}\n", "stdin: bad base64" },
                { "\n", "stdin: not an object" },
        };

        for (size_t i = 0; i < 3; i++) {
                int fd = peer_connect(p->stream);
                CC_FREE char *started = NULL;
                CC_FREE char *rest = NULL;
                CC_FREE char *want =
                        xasprintf("{\"type\":\"error\",\"message\":\"%s\"}\n", rows[i][1]);

                peer_say(fd, SH("sleep 300"));
                started = peer_read_to(fd, "\n");
                peer_say(fd, rows[i][0]);
                rest = peer_read(fd, NULL);
                assert_string_equal(rest, want);
                peer_wait_dead((pid_t)peer_number(started, "pid"));
                close(fd);
        }
}

static void line_too_long(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *chunk = xmalloc(1 << 20);
        CC_FREE char *answer = NULL;

        memset(chunk, ' ', 1 << 20);
        for (int i = 0; i < 8; i++)
                peer_send(fd, chunk, 1 << 20);
        answer = peer_read(fd, NULL);
        assert_string_equal(answer,
                            "{\"type\":\"error\",\"message\":\"first frame: line too long\"}\n");
        close(fd);
        /* The longest: 8 MiB with its newline. */
        fd = peer_connect(p->stream);
        for (int i = 0; i < 7; i++)
                peer_send(fd, chunk, 1 << 20);
        memcpy(chunk, "{\"type\":\"exec\"}", 15);
        chunk[(1 << 20) - 1] = '\n';
        peer_send(fd, chunk, 1 << 20);
        free(answer);
        answer = peer_read(fd, NULL);
        assert_string_equal(answer, "{\"type\":\"error\",\"message\":\"exec: argv is empty\"}\n");
        close(fd);
}

static void hangup_kills(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *started = NULL;

        /* A quiet command, whose shell waits for a child of its own. */
        peer_say(fd, SH("sleep 300; true"));
        started = peer_read_to(fd, "\n");
        close(fd);
        peer_wait_dead((pid_t)peer_number(started, "pid"));
}

static void half_close_does_not(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *answer = NULL;

        peer_say(fd, SH("cat; sleep 1; echo"));
        shutdown(fd, SHUT_WR);
        answer = peer_read(fd, NULL);
        assert_string_equal(after_started(answer), "{\"type\":\"stdout\",\"data\":\"Cg==\"}\n"
                                                   "{\"type\":\"exit\"}\n");
        close(fd);
}

static void the_end_of_the_agent(void **state)
{
        struct peer p;
        int fd;
        CC_FREE char *started = NULL;
        CC_FREE char *rest = NULL;

        assert_int_equal(peer_start(&p, getenv("COCOON_TEST_AGENT")), 0);
        fd = peer_connect(p.stream);
        peer_say(fd, SH("trap '' TERM HUP; sleep 300; true"));
        started = peer_read_to(fd, "\n");
        assert_int_equal(peer_stop(&p), 0);
        peer_wait_dead((pid_t)peer_number(started, "pid"));
        rest = peer_read(fd, NULL);
        assert_string_equal(rest, "");
        close(fd);
}

static void back_pressure(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *started = NULL;
        static char chunk[65536];
        struct pollfd poll_out = { .fd = fd, .events = POLLOUT };
        size_t sent = 0;

        memset(chunk, ' ', sizeof(chunk));
        chunk[sizeof(chunk) - 1] = '\n';
        memcpy(chunk, "{\"type\":\"stdin\",\"data\":\"", 24);
        memset(chunk + 24, 'A', 60000);
        memcpy(chunk + 24 + 60000, "\"}", 2);
        peer_say(fd, SH("sleep 300"));
        started = peer_read_to(fd, "\n");
        fcntl(fd, F_SETFL, O_NONBLOCK);
        /* It stops taking: what is under way fits pipes and sockets. */
        while (poll(&poll_out, 1, 500) == 1 && sent < (64 << 20)) {
                ssize_t n = send(fd, chunk + sent % sizeof(chunk),
                                 sizeof(chunk) - sent % sizeof(chunk), MSG_NOSIGNAL);

                if (n > 0)
                        sent += (size_t)n;
        }
        assert_true(sent < (16 << 20));
        close(fd);
        peer_wait_dead((pid_t)peer_number(started, "pid"));
}

static void too_many(void **state)
{
        const struct peer *p = *state;
        static int fds[256];
        CC_FREE char *answer = NULL;
        CC_FREE char *later = NULL;

        for (int i = 0; i < 256; i++)
                fds[i] = peer_connect(p->stream);
        answer = peer_ask(p, "");
        assert_string_equal(answer, "{\"type\":\"error\",\"message\":\"too many sessions\"}\n");
        for (int i = 0; i < 256; i++)
                close(fds[i]);
        /* The hangups are still being worked off. */
        for (int i = 0; !later || (strstr(later, "too many") && i < 6000); i++) {
                free(later);
                later = peer_ask(p, SH("exit 3") CLOSE);
                usleep(10000);
        }
        assert_non_null(strstr(later, "\"exit_code\":3"));
}

static void many_at_once(void **state)
{
        const struct peer *p = *state;
        int fds[50];

        for (int i = 0; i < 50; i++) {
                fds[i] = peer_connect(p->stream);
                peer_say(fds[i], SH("read x; exit $x"));
        }
        for (int i = 49; i >= 0; i--) {
                static const char *const data[] = { "Nwo=", "OAo=" }; /* 7, 8 */
                CC_FREE char *in = xasprintf("{\"type\":\"stdin\",\"data\":\"%s\"}\n", data[i % 2]);
                CC_FREE char *want = xasprintf("{\"type\":\"exit\",\"exit_code\":%d}\n", 7 + i % 2);
                CC_FREE char *answer = NULL;

                peer_say(fds[i], in);
                answer = peer_read(fds[i], NULL);
                assert_string_equal(after_started(answer), want);
                close(fds[i]);
        }
}

/* The program that goes into images: small, and small in memory after moving a lot of it. */
static void static_program(void **state)
{
        const char *program = getenv("COCOON_TEST_AGENT_STATIC");
        const char *musl = getenv("COCOON_TEST_MUSL");
        CC_FREE char *path = NULL;
        CC_FREE char *answer = NULL;
        char line[128];
        long peak = 0;
        struct peer p;
        struct stat st;
        FILE *f;

        assert_int_equal(stat(program, &st), 0);
        assert_int_equal(peer_start(&p, program), 0);
        answer = peer_ask(&p, SH("head -c 20000000 /dev/zero") CLOSE);
        assert_non_null(strstr(answer, "{\"type\":\"exit\"}\n"));
        path = xasprintf("/proc/%d/status", (int)p.pid);
        f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                if (strncmp(line, "VmHWM:", 6) == 0)
                        peak = strtol(line + 6, NULL, 10);
        fclose(f);
        assert_int_equal(peer_stop(&p), 0);
        assert_in_range(peak, 1, 2048);
        if (strcmp(musl, "yes") != 0)
                skip_because("no musl-gcc: the program is not as small as it should be");
        assert_in_range(st.st_size, 1, 300 << 10);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                peer_test(exit_codes),
                peer_test(output_and_environment),
                peer_test(start_failures),
                peer_test(wrong_first_frames),
                peer_test(final_line_without_newline),
                peer_test(every_byte),
                peer_test(flood_of_input_for_nobody),
                peer_test(grandchild_holds_the_pipes),
                peer_test(malformed_frames),
                peer_test(line_too_long),
                peer_test(hangup_kills),
                peer_test(half_close_does_not),
                cmocka_unit_test(the_end_of_the_agent),
                peer_test(back_pressure),
                peer_test(too_many),
                peer_test(many_at_once),
                cmocka_unit_test(static_program),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
