/* What goes beyond the base protocol: hello, terminals, signals, users, copies, binary frames,
 * reseeding. docs/agent-protocol.md. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_peer.h"

#define CLOSE   "{\"type\":\"stdin_close\"}\n"
#define HELLO   "{\"type\":\"hello\",\"nonce\":\"n\\\"1\"}\n"
#define HELLO_1 "{\"type\":\"hello\",\"nonce\":\"n\\\"1\",\"proto\":1,\"agent\":\"cocoon-c/"

static void says_hello(void **state)
{
        CC_FREE char *answer = peer_ask(*state, HELLO HELLO "{\"type\":\"ping\"}\n");
        static const char features[] =
                "\"features\":[\"tty\",\"signal\",\"cwd\",\"user\",\"ping\",\"cp\",\"raw\"]}\n"
                "{\"type\":\"";

        assert_int_equal(strncmp(answer, HELLO_1, sizeof(HELLO_1) - 1), 0);
        assert_non_null(strstr(answer, features));
        assert_non_null(strstr(answer, "{\"type\":\"pong\",\"uptime_ms\":"));
        assert_true(peer_number(answer, "sessions") >= 1);
}

static void terminal(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *rest = NULL;

        peer_say(
                fd,
                "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"stty -echo; echo $TERM $(stty size); "
                "read x; stty size; exec cat\"],\"tty\":true,\"rows\":11,\"cols\":222,"
                "\"term\":\"vt9\"}\n");
        peer_output_to(fd, "vt9 11 222\r\n");
        peer_say(fd, "{\"type\":\"resize\",\"rows\":33,\"cols\":444}\n"
                     "{\"type\":\"stdin\",\"data\":\"Z28K\"}\n");
        peer_output_to(fd, "33 444\r\n");
        /* End-of-file, typed. */
        peer_say(fd, CLOSE CLOSE);
        rest = peer_read(fd, NULL);
        assert_string_equal(rest, "{\"type\":\"exit\"}\n");
        close(fd);
}

static void signals(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *ready = NULL;
        CC_FREE char *rest = NULL;

        peer_say(fd, "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"trap 'exit 9' INT; echo; "
                     "while :; do sleep 0.1; done\"]}\n");
        ready = peer_read_to(fd, "\"Cg==\"}\n");
        peer_say(fd, "{\"type\":\"signal\",\"signal\":\"NONE\"}\n{\"type\":\"signal\"}\n"
                     "{\"type\":\"signal\",\"signal\":\"INT\"}\n");
        rest = peer_read(fd, NULL);
        assert_string_equal(rest, "{\"type\":\"exit\",\"exit_code\":9}\n");
        close(fd);
}

static void directory_and_user(void **state)
{
        CC_FREE char *answer =
                peer_ask(*state, "{\"type\":\"exec\",\"argv\":[\"pwd\"],\"cwd\":\"/usr\"}\n" CLOSE);
        CC_FREE char *bad =
                peer_ask(*state, "{\"type\":\"exec\",\"argv\":[\"pwd\"],\"cwd\":\"/no/such\"}\n");
        CC_FREE char *nobody = peer_ask(
                *state, "{\"type\":\"exec\",\"argv\":[\"id\"],\"user\":\"no-such-user\"}\n");
        CC_FREE char *no_group = peer_ask(
                *state, "{\"type\":\"exec\",\"argv\":[\"id\"],\"user\":\"root:no-such\"}\n");
        CC_FREE char *ids = NULL;

        assert_non_null(strstr(answer, "\"L3Vzcgo=\""));
        assert_string_equal(bad,
                            "{\"type\":\"error\",\"message\":\"exec: chdir /no/such: No such file "
                            "or directory\"}\n");
        assert_string_equal(nobody,
                            "{\"type\":\"error\",\"message\":\"exec: user no-such-user: no such "
                            "user\"}\n");
        assert_string_equal(no_group,
                            "{\"type\":\"error\",\"message\":\"exec: user root:no-such: no "
                            "such group\"}\n");
        if (geteuid() != 0)
                skip_because("becoming another user needs root");
        ids = peer_ask(*state,
                       "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"id -u; id -g; id -G; echo "
                       "$HOME\"],\"user\":\"4321:1234\"}\n" CLOSE);
        /* 4321 1234 1234 / */
        assert_non_null(strstr(ids, "NDMyMQo"));
        assert_null(strstr(ids, "\"stderr\""));
        assert_non_null(strstr(ids, "{\"type\":\"exit\"}\n"));
}

static char *path_of(const struct peer *p, const char *name)
{
        return xasprintf("%s/%s", p->dir, name);
}

static void assert_file(const char *path, const char *want, mode_t mode)
{
        char text[64] = "";
        struct stat st;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_true(read(fd, text, sizeof(text) - 1) >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        close(fd);
        assert_string_equal(text, want);
        assert_int_equal(st.st_mode & 07777, mode);
}

static unsigned files_in(const char *dir)
{
        CC_FREE char *command = xasprintf("ls -A %s | wc -l", dir);
        FILE *f = popen(command, "re"); // NOLINT(cert-env33-c): a test, and a path of its own
        unsigned n = 0;
        char line[32];

        assert_non_null(f);
        if (fgets(line, sizeof(line), f))
                n = (unsigned)strtoul(line, NULL, 10);
        pclose(f);
        return n;
}

#define HI_SHA "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"

static void put_and_get(void **state)
{
        const struct peer *p = *state;
        CC_FREE char *file = path_of(p, "file");
        CC_FREE char *put = xasprintf("{\"type\":\"put\",\"path\":\"%s\",\"mode\":416,\"size\":2}\n"
                                      "{\"type\":\"stdin\",\"data\":\"aGk=\"}\n" CLOSE,
                                      file);
        CC_FREE char *into = xasprintf("{\"type\":\"put\",\"path\":\"%s\",\"name\":\"other\"}\n"
                                       "{\"type\":\"stdin\",\"data\":\"aGk=\"}\n" CLOSE,
                                       p->dir);
        CC_FREE char *other = path_of(p, "other");
        CC_FREE char *get = xasprintf("{\"type\":\"get\",\"path\":\"%s\"}\n", file);
        CC_FREE char *done = peer_ask(p, put);
        CC_FREE char *done_into = peer_ask(p, into);
        CC_FREE char *got = peer_ask(p, get);

        assert_string_equal(done, "{\"type\":\"exit\",\"sha256\":\"" HI_SHA "\",\"size\":2}\n");
        assert_file(file, "hi", 0640);
        assert_string_equal(done_into, done);
        assert_file(other, "hi", 0644);
        assert_string_equal(got, "{\"type\":\"started\",\"mode\":416,\"size\":2}\n"
                                 "{\"type\":\"stdout\",\"data\":\"aGk=\"}\n"
                                 "{\"type\":\"exit\",\"sha256\":\"" HI_SHA "\",\"size\":2}\n");
}

static void put_refused(void **state)
{
        const struct peer *p = *state;
        CC_FREE char *file = path_of(p, "file");
        CC_FREE char *short_put = xasprintf("{\"type\":\"put\",\"path\":\"%s\",\"size\":3}\n"
                                            "{\"type\":\"stdin\",\"data\":\"aGk=\"}\n" CLOSE,
                                            file);
        CC_FREE char *on_dir = xasprintf("{\"type\":\"put\",\"path\":\"%s\"}\n" CLOSE, p->dir);
        CC_FREE char *cut = xasprintf("{\"type\":\"put\",\"path\":\"%s\"}\n"
                                      "{\"type\":\"stdin\",\"data\":\"aGk=\"}\n",
                                      file);
        CC_FREE char *got_short = peer_ask(p, short_put);
        CC_FREE char *got_dir = peer_ask(p, on_dir);
        CC_FREE char *got_cut = NULL;
        CC_FREE char *get_dir = peer_ask(p, "{\"type\":\"get\",\"path\":\"/usr\"}\n");
        CC_FREE char *get_none = peer_ask(p, "{\"type\":\"get\",\"path\":\"/no/such\"}\n");
        CC_FREE char *get_null = peer_ask(p, "{\"type\":\"get\",\"path\":\"/dev/null\"}\n");
        unsigned before = files_in(p->dir);
        int fd;

        assert_non_null(strstr(got_short, "2 bytes came, not 3\"}\n"));
        assert_non_null(strstr(got_dir, ": Is a directory\"}\n"));
        assert_string_equal(get_dir,
                            "{\"type\":\"error\",\"message\":\"get: /usr: Is a directory\"}\n");
        assert_string_equal(
                get_none,
                "{\"type\":\"error\",\"message\":\"get: /no/such: No such file or directory\"}\n");
        assert_string_equal(
                get_null,
                "{\"type\":\"error\",\"message\":\"get: /dev/null: not a regular file\"}\n");
        /* The host dies; the socket says so, and nothing stays behind. */
        fd = peer_connect(p->stream);
        peer_say(fd, cut);
        shutdown(fd, SHUT_WR);
        got_cut = peer_read(fd, NULL);
        assert_string_equal(got_cut, "{\"type\":\"error\",\"message\":\"put: the connection ended "
                                     "before the file did\"}\n");
        close(fd);
        for (int i = 0; files_in(p->dir) != before && i < 600; i++)
                usleep(100000);
        assert_int_equal(files_in(p->dir), before);
        assert_int_equal(access(file, F_OK), -1);
}

static void binary_frames(void **state)
{
        const struct peer *p = *state;
        static const char control[] = "{\"type\":\"stdin_close\"}";
        static char payload[3 << 20];
        int fd = peer_connect(p->stream);
        CC_FREE char *started = NULL;
        CC_FREE char *answer = NULL;
        size_t n;
        const unsigned char *at;
        char header[4];
        size_t sum = 0;
        pid_t writer;

        for (size_t i = 0; i < sizeof(payload); i++)
                payload[i] = (char)(i * 31 >> 3);
        peer_say(fd, HELLO "{\"type\":\"exec\",\"argv\":[\"cat\"],\"raw\":true}\n");
        started = peer_read_to(fd, "\"started\"");
        free(started);
        started = peer_read_to(fd, "}\n");
        /* Both ways at once: a writer of its own. */
        writer = fork();
        if (writer == 0) {
                memcpy(header, "\0\0\0\060", 4);
                header[0] = 0;
                header[1] = (char)(sizeof(payload) & 255);
                header[2] = (char)(sizeof(payload) >> 8 & 255);
                header[3] = (char)(sizeof(payload) >> 16);
                peer_send(fd, header, 4);
                peer_send(fd, payload, sizeof(payload));
                peer_send(fd, "\0\0\0\0\3\26\0\0", 8);
                peer_send(fd, control, sizeof(control) - 1);
                _exit(0);
        }
        answer = peer_read(fd, &n);
        at = (const unsigned char *)answer;
        while (at[0] == 1) {
                size_t len = (size_t)at[1] | (size_t)at[2] << 8 | (size_t)at[3] << 16;

                assert_true(sum + len <= sizeof(payload));
                assert_memory_equal(at + 4, payload + sum, len);
                sum += len;
                at += 4 + len;
        }
        assert_int_equal(sum, sizeof(payload));
        assert_int_equal((size_t)((char *)at - answer), n - 19);
        assert_memory_equal(at, "\3\17\0\0{\"type\":\"exit\"}", 19);
        close(fd);
}

static void bad_binary_frames(void **state)
{
        const struct peer *p = *state;
        int fd = peer_connect(p->stream);
        CC_FREE char *started = NULL;
        CC_FREE char *answer = NULL;
        size_t n;

        peer_say(fd, "{\"type\":\"exec\",\"argv\":[\"sleep\",\"300\"],\"raw\":true}\n");
        started = peer_read_to(fd, "}\n");
        peer_send(fd, "\7\0\0\0", 4);
        answer = peer_read(fd, &n);
        assert_true(n > 4);
        assert_int_equal(answer[0], 3);
        assert_string_equal(answer + 4,
                            "{\"type\":\"error\",\"message\":\"stdin: bad binary frame\"}");
        peer_wait_dead((pid_t)peer_number(started, "pid"));
        close(fd);
}

static char *machine_id(const struct peer *p)
{
        CC_FREE char *path = path_of(p, "etc/machine-id");
        char text[40] = "";
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(read(fd, text, sizeof(text)), 33);
        close(fd);
        assert_int_equal(strspn(text, "0123456789abcdef"), 32);
        assert_int_equal(text[32], '\n');
        return xstrdup(text);
}

static void put_file(const char *path)
{
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        close(fd);
}

static void reseeds(void **state)
{
        const struct peer *p = *state;
        static const char *const dirs[] = { "etc", "var", "var/lib", "var/lib/systemd",
                                            "var/lib/dbus" };
        CC_FREE char *seed = path_of(p, "var/lib/systemd/random-seed");
        CC_FREE char *dbus = path_of(p, "var/lib/dbus/machine-id");
        CC_FREE char *id = path_of(p, "etc/machine-id");
        CC_FREE char *first = NULL;
        CC_FREE char *second = NULL;

        for (size_t i = 0; i < 5; i++) {
                CC_FREE char *dir = path_of(p, dirs[i]);

                assert_int_equal(mkdir(dir, 0755), 0);
        }
        put_file(seed);
        put_file(dbus);
        for (int i = 0; i < 3; i++) {
                /* The last one without a new id; none of them with much entropy. */
                CC_FREE char *answer =
                        peer_ask(p, i < 2 ? "{\"type\":\"reseed\",\"data\":\"c29tZXRoaW5n\","
                                            "\"regen_machine_id\":true}\n"
                                          : "{\"type\":\"reseed\",\"data\":\"c29tZXRoaW5n\"}\n");

                if (geteuid() == 0)
                        assert_string_equal(answer, "{\"type\":\"exit\"}\n");
                else
                        assert_int_equal(
                                strncmp(answer, "{\"type\":\"error\",\"message\":\"reseed: ", 35),
                                0);
                /* No machine id where there was none. */
                if (i == 0) {
                        assert_int_equal(access(id, F_OK), -1);
                        put_file(id);
                } else if (i == 1) {
                        first = machine_id(p);
                        assert_int_equal(access(dbus, F_OK), -1);
                } else {
                        second = machine_id(p);
                }
        }
        assert_string_equal(first, second);
        assert_int_equal(access(seed, F_OK), -1);
        free(peer_ask(p, "{\"type\":\"reseed\",\"regen_machine_id\":true}\n"));
        free(second);
        second = machine_id(p);
        assert_string_not_equal(first, second);
        {
                struct stat st;

                assert_int_equal(stat(id, &st), 0);
                assert_int_equal(st.st_mode & 07777, 0444);
        }
        free(second);
        second = peer_ask(p, "{\"type\":\"reseed\",\"data\":\"?\"}\n");
        assert_string_equal(second,
                            "{\"type\":\"error\",\"message\":\"first frame: bad base64\"}\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                peer_test(says_hello),         peer_test(terminal),          peer_test(signals),
                peer_test(directory_and_user), peer_test(put_and_get),       peer_test(put_refused),
                peer_test(binary_frames),      peer_test(bad_binary_frames), peer_test(reseeds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
