/*
 * The console relay as a process of its own, between a fake VMM with a listening "serial" socket
 * and clients. This program is also the relay: main() dispatches the hidden verb.
 */
#include "relay_fixture.h"

static int open_serial(const char *driver, const char *run_dir, int vmm_pidfd, int *ret,
                       struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, "serial.sock");
        int fd;

        (void)driver;
        (void)vmm_pidfd;
        fd = unix_socket(path, false);
        if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                return cc_fail_errno(err, errno, "connect to %s", path);
        *ret = fd;
        return 0;
}

static int start_relay(struct fixture *f, struct cc_err *err)
{
        struct console_relay relay = {
                .driver = "test",
                .run_dir = f->dir,
                .open = open_serial,
                .source = -1,
                .listen_path = f->console,
                .log_path = f->log,
                .vmm_pidfd = f->pidfd,
                .lock_path = f->lock,
        };

        return console_relay_start(&relay, err);
}

static int setup(void **state)
{
        char tmpl[] = "/tmp/cocoon-relay-XXXXXX";
        struct fixture *f = xcalloc(1, sizeof(*f));
        struct cc_err err = CC_ERR_INIT;

        assert_non_null(mkdtemp(tmpl));
        f->dir = xstrdup(tmpl);
        f->serial = cc_path_join(f->dir, "serial.sock");
        f->console = cc_path_join(f->dir, "console.sock");
        f->log = cc_path_join(f->dir, "console.log");
        f->lock = cc_path_join(f->dir, "relay.lock");
        f->listener = unix_socket(f->serial, true);
        start_vmm(f);
        if (start_relay(f, &err) < 0)
                fail_msg("%s", err.msg);
        f->guest = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(f->guest >= 0);
        f->relay = lock_pid(f);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        kill_vmm(f);
        assert_true(relay_gone(f));
        close(f->guest);
        close(f->listener);
        (void)cc_rm_rf(f->dir, NULL);
        free(f->dir);
        free(f->serial);
        free(f->console);
        free(f->log);
        free(f->lock);
        free(f);
        return 0;
}

static void broadcast_and_typing(void **state)
{
        struct fixture *f = *state;
        int a = unix_socket(f->console, false);
        int b = unix_socket(f->console, false);

        put(f->guest, "login: ", 7);
        expect(a, "login: ");
        expect(b, "login: ");
        put(a, "root\r", 5);
        expect(f->guest, "root\r");
        /* The newest writer has the keyboard until it leaves. */
        put(b, "B", 1);
        expect(f->guest, "B");
        put(a, "dropped", 7);
        expect_silence(f->guest);
        close(b);
        usleep(50000);
        put(a, "again", 5);
        expect(f->guest, "again");
        close(a);
}

static void readers_do_not_take_the_keyboard(void **state)
{
        struct fixture *f = *state;
        int a = unix_socket(f->console, false);
        int b;

        put(a, "1", 1);
        expect(f->guest, "1");
        b = unix_socket(f->console, false);
        assert_int_equal(shutdown(b, SHUT_WR), 0);
        put(a, "2", 1);
        expect(f->guest, "2");
        put(f->guest, "out", 3);
        expect(b, "out"); /* half-closed, still a reader */
        close(b);
        close(a);
}

/* Five clients type at once: the fourth fills the pending input, and the fifth has to wait, not to
 * be taken for one that ended. */
static void many_type_at_once(void **state)
{
        struct fixture *f = *state;
        char sent[1024];
        char got[sizeof(sent)];
        int fds[5];

        for (size_t i = 0; i < CC_ARRAY_LEN(fds); i++)
                fds[i] = unix_socket(f->console, false);
        put(f->guest, "hi", 2);
        for (size_t i = 0; i < CC_ARRAY_LEN(fds); i++)
                expect(fds[i], "hi"); /* so it is accepted */
        assert_int_equal(kill(f->relay, SIGSTOP), 0);
        for (size_t i = 0; i < CC_ARRAY_LEN(fds); i++) {
                memset(sent, 'a' + (int)i, sizeof(sent));
                put(fds[i], sent, sizeof(sent));
        }
        assert_int_equal(kill(f->relay, SIGCONT), 0);
        for (size_t i = 0; i < CC_ARRAY_LEN(fds); i++) {
                memset(sent, 'a' + (int)i, sizeof(sent));
                get(f->guest, got, sizeof(got));
                assert_memory_equal(got, sent, sizeof(got));
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(fds); i++)
                close(fds[i]);
}

static void replay_last_64k(void **state)
{
        struct fixture *f = *state;
        size_t n = 300 * 1024;
        CC_FREE unsigned char *sent = xmalloc(n);
        CC_FREE unsigned char *got = xmalloc(65536);
        int a;

        for (size_t i = 0; i < n; i++)
                sent[i] = (unsigned char)(i * 2654435761u >> 13);
        a = unix_socket(f->console, false);
        for (size_t at = 0; at < n; at += 4096) {
                unsigned char chunk[4096];

                put(f->guest, sent + at, 4096);
                get(a, chunk, 4096); /* the relay has it */
                assert_memory_equal(chunk, sent + at, 4096);
        }
        close(a);
        a = unix_socket(f->console, false);
        get(a, got, 65536);
        assert_memory_equal(got, sent + n - 65536, 65536);
        expect_silence(a);
        close(a);
}

static void a_client_that_never_reads(void **state)
{
        struct fixture *f = *state;
        static unsigned char block[65536];
        int deaf = unix_socket(f->console, false);
        int live = unix_socket(f->console, false);
        size_t total = 0;

        memset(block, 'x', sizeof(block));
        /* Far more than any socket buffer: with a blocking relay this write would hang. */
        for (int i = 0; i < 64; i++) {
                put(f->guest, block, sizeof(block));
                total += sizeof(block);
        }
        put(f->guest, "\nTHE END", 8);
        for (char last[9] = "";;) {
                char c;

                get(live, &c, 1);
                memmove(last, last + 1, 7);
                last[7] = c;
                if (memcmp(last, "\nTHE END", 8) == 0)
                        break;
        }
        /* Whoever starts reading late still gets the newest output. */
        for (char last[9] = "";;) {
                char c;

                get(deaf, &c, 1);
                memmove(last, last + 1, 7);
                last[7] = c;
                if (memcmp(last, "\nTHE END", 8) == 0)
                        break;
        }
        assert_true(total == 4u << 20);
        close(deaf);
        close(live);
}

static void fifty_cycles_leak_nothing(void **state)
{
        struct fixture *f = *state;
        int n = 0;

        assert_int_equal(count_fds(f->relay), 7); /* stdio, listener, source, pidfd, lock */
        for (int i = 0; i < 50; i++) {
                int a = unix_socket(f->console, false);
                char text[16];

                (void)snprintf(text, sizeof(text), "<%03d>", i);
                put(f->guest, text, 5);
                for (char got[6] = ""; strcmp(got, text) != 0;) {
                        memmove(got, got + 1, 4);
                        get(a, got + 4, 1);
                }
                close(a);
        }
        for (int i = 0; i < 100 && (n = count_fds(f->relay)) > 7; i++)
                usleep(10000);
        assert_int_equal(n, 7);
}

static void sixty_five_clients(void **state)
{
        struct fixture *f = *state;
        int fds[65];
        char c;
        struct pollfd p;

        for (int i = 0; i < 65; i++) {
                fds[i] = unix_socket(f->console, false);
                assert_true(fds[i] >= 0);
        }
        p = (struct pollfd){ .fd = fds[64], .events = POLLIN };
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        assert_int_equal(read(fds[64], &c, 1), 0); /* one too many: turned away at once */
        put(f->guest, "hi", 2);
        for (int i = 0; i < 64; i++)
                expect(fds[i], "hi");
        for (int i = 0; i < 65; i++)
                close(fds[i]);
}

static void stdio_and_session(void **state)
{
        struct fixture *f = *state;
        char path[64];
        char target[64];

        for (int fd = 0; fd < 3; fd++) {
                ssize_t n;

                (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)f->relay, fd);
                n = readlink(path, target, sizeof(target) - 1);
                assert_true(n > 0);
                target[n] = '\0';
                assert_string_equal(target, "/dev/null");
        }
        assert_int_not_equal(getsid(f->relay), getsid(0));
}

static void ends_with_the_vmm(void **state)
{
        struct fixture *f = *state;
        int a = unix_socket(f->console, false);
        char c;

        put(f->guest, "bye", 3);
        usleep(20000);
        kill_vmm(f);
        expect(a, "bye");
        assert_int_equal(read(a, &c, 1), 0);
        assert_true(relay_gone(f));
        close(a);
}

static void second_start_is_success(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(start_relay(f, NULL), 0);
        assert_int_equal(lock_pid(f), f->relay);
}

static void restart_is_harmless(void **state)
{
        struct fixture *f = *state;
        int a;

        (void)kill(f->relay, SIGKILL);
        assert_true(relay_gone(f));
        assert_int_equal(start_relay(f, NULL), 0);
        close(f->guest);
        f->guest = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        a = unix_socket(f->console, false);
        put(f->guest, "back", 4);
        expect(a, "back");
        put(a, "x", 1);
        expect(f->guest, "x");
        close(a);
}

/* A restarted VM finds the old relay still holding the lock for a moment. */
static void start_follows_a_dying_relay(void **state)
{
        struct fixture *f = *state;
        int a;

        (void)kill(f->relay, SIGSTOP);
        assert_int_equal(unlink(f->console), 0);
        kill_vmm(f);
        start_vmm(f);
        if (fork() == 0) {
                usleep(300000);
                (void)kill(f->relay, SIGCONT);
                _exit(0);
        }
        assert_int_equal(start_relay(f, NULL), 0);
        (void)wait(NULL);
        close(f->guest);
        f->guest = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        a = unix_socket(f->console, false);
        put(f->guest, "new", 3);
        expect(a, "new");
        close(a);
}

static void log_is_cut_at_8_mib(void **state)
{
        struct fixture *f = *state;
        static char block[65536];
        int fd = open(f->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        int a = unix_socket(f->console, false);
        struct stat st;

        memset(block, 'y', sizeof(block));
        assert_int_equal(ftruncate(fd, 9 << 20), 0);
        for (int i = 0; i < 5; i++) {
                put(f->guest, block, sizeof(block));
                get(a, block, sizeof(block));
        }
        for (int i = 0; i < 100; i++) {
                assert_int_equal(fstat(fd, &st), 0);
                if (st.st_size == 0)
                        break;
                usleep(10000);
        }
        assert_int_equal(st.st_size, 0);
        close(fd);
        close(a);
}

static void failures_leave_nothing(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *lock = cc_path_join(f->dir, "other.lock");
        CC_FREE char *sock = cc_path_join(f->dir, "other.sock");
        CC_FREE char *nothing = cc_path_join(f->dir, "nothing");
        struct console_relay relay = {
                .driver = "test",
                .run_dir = nothing,
                .open = open_serial,
                .source = -1,
                .listen_path = sock,
                .vmm_pidfd = f->pidfd,
                .lock_path = lock,
        };
        int before = count_fds(getpid());
        int fd = -1;

        assert_true(console_relay_start(&relay, &err) < 0);
        assert_non_null(strstr(err.msg, "console relay: connect to"));
        assert_false(cc_exists(sock));
        assert_int_equal(cc_lock_try(lock, CC_LOCK_EXCLUSIVE, "test", &fd, NULL), 0);
        close(fd);
        assert_int_equal(count_fds(getpid()), before);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                T(broadcast_and_typing),      T(readers_do_not_take_the_keyboard),
                T(many_type_at_once),         T(replay_last_64k),
                T(a_client_that_never_reads), T(fifty_cycles_leak_nothing),
                T(sixty_five_clients),        T(stdio_and_session),
                T(ends_with_the_vmm),         T(second_start_is_success),
                T(restart_is_harmless),       T(start_follows_a_dying_relay),
                T(log_is_cut_at_8_mib),       T(failures_leave_nothing),
        };

        if (argc > 1 && strcmp(argv[1], CONSOLE_RELAY_VERB) == 0)
                return console_relay_main(argc, argv, open_serial);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
