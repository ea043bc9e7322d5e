/* Sessions on a serial port, where the stream has no ends: sync, and every way to lose it. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "agent_peer.h"

#define HELLO(n) "\n{\"type\":\"hello\",\"nonce\":\"" n "\"}\n"
#define CLOSE    "{\"type\":\"stdin_close\"}\n"
#define SLEEP    "{\"type\":\"exec\",\"argv\":[\"sleep\",\"300\"]}\n"
#define EXIT_3   "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"exit 3\"]}\n" CLOSE

/* Reads the hello with that nonce, and nothing behind it. */
static void expect_hello(int fd, const char *nonce)
{
        CC_FREE char *text = xasprintf("{\"type\":\"hello\",\"nonce\":\"%s\",", nonce);
        CC_FREE char *rest = NULL;

        free(peer_read_to(fd, text));
        rest = peer_read_to(fd, "}\n");
        assert_non_null(strstr(rest, "\"cp\"]"));
}

static void expect_exit_3(int fd)
{
        free(peer_read_to(fd, "{\"type\":\"exit\",\"exit_code\":3}\n"));
}

static void one_after_the_other(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->serial);

        /* Nothing counts before the first hello; blank lines never do. */
        peer_say(fd, EXIT_3 "garbage\n\n\r\n{\"type\":\"ping\"}\n");
        for (int i = 0; i < 3; i++) {
                peer_say(fd, HELLO("a1") "\n" EXIT_3 "\n");
                expect_hello(fd, "a1");
                expect_exit_3(fd);
        }
        close(fd);
}

static void hello_ends_what_runs(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->serial);
        CC_FREE char *started = NULL;

        peer_say(fd, HELLO("a1") SLEEP);
        expect_hello(fd, "a1");
        started = peer_read_to(fd, "}\n");
        /* In the middle of a line. */
        peer_say(fd, "{\"type\":\"stdin\",\"data\":\"aaa" HELLO("a2") EXIT_3);
        expect_hello(fd, "a2");
        peer_wait_dead((pid_t)peer_number(started, "pid"));
        expect_exit_3(fd);
        close(fd);
}

static void bad_line_ends_the_session_only(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->serial);
        CC_FREE char *started = NULL;
        CC_FREE char *error = NULL;

        peer_say(fd, HELLO("b1") SLEEP);
        expect_hello(fd, "b1");
        started = peer_read_to(fd, "}\n");
        peer_say(fd, "nonsense\n");
        error = peer_read_to(fd, "}\n");
        assert_string_equal(error, "{\"type\":\"error\",\"message\":\"stdin: not an object\"}\n");
        peer_wait_dead((pid_t)peer_number(started, "pid"));
        peer_say(fd, EXIT_3 HELLO("b2") EXIT_3);
        expect_hello(fd, "b2");
        expect_exit_3(fd);
        close(fd);
}

static void the_host_dies(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->serial);
        CC_FREE char *started = NULL;

        peer_say(fd, HELLO("c1") SLEEP);
        expect_hello(fd, "c1");
        started = peer_read_to(fd, "}\n");
        peer_say(fd, "{\"type\":\"stdin\",\"data\":\"aaa");
        close(fd);
        fd = peer_connect(p->serial);
        peer_say(fd, HELLO("c2") EXIT_3);
        expect_hello(fd, "c2");
        expect_exit_3(fd);
        peer_wait_dead((pid_t)peer_number(started, "pid"));
        close(fd);
}

static void no_binary_frames(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->serial);
        CC_FREE char *answer = NULL;

        peer_say(fd, HELLO("d1") "{\"type\":\"exec\",\"argv\":[\"cat\"],\"raw\":true}\n"
                                 "{\"type\":\"stdin\",\"data\":\"aGk=\"}\n" CLOSE);
        expect_hello(fd, "d1");
        answer = peer_read_to(fd, "{\"type\":\"exit\"}\n");
        assert_non_null(strstr(answer, "{\"type\":\"stdout\",\"data\":\"aGk=\"}\n"));
        close(fd);
}

static void endless_line_before_hello(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->serial);
        static char chunk[65536];

        memset(chunk, 'x', sizeof(chunk));
        for (int i = 0; i < 160; i++)
                peer_send(fd, chunk, sizeof(chunk));
        peer_say(fd, HELLO("e1") EXIT_3);
        expect_hello(fd, "e1");
        expect_exit_3(fd);
        close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                peer_test(one_after_the_other),
                peer_test(hello_ends_what_runs),
                peer_test(bad_line_ends_the_session_only),
                peer_test(the_host_dies),
                peer_test(no_binary_frames),
                peer_test(endless_line_before_hello),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
