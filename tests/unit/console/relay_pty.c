/*
 * The relay on pseudo terminals: the master handed over by the launch (Firecracker), and a slave
 * whose PTY the VMM replaces (Cloud Hypervisor). The guest is the test, at the other end.
 */
#include "relay_fixture.h"

#include <pty.h>
#include <termios.h>

enum { FDS_OF_A_RELAY = 7 }; /* stdio, listener, source, pidfd, lock */

struct pty_fixture {
        struct fixture f; /* .guest is the VMM's end */
        char *where;      /* file with the path of the slave to open */
        int master;       /* as the launch has it; -1: closed */
        int slave;        /* held: a PTY without one forgets that it is raw; -1: none */
};

/* A raw pair, as both VMMs make theirs. */
static void make_pty(int *master, int *slave)
{
        struct termios raw;

        assert_int_equal(openpty(master, slave, NULL, NULL, NULL), 0);
        assert_int_equal(tcgetattr(*slave, &raw), 0);
        cfmakeraw(&raw);
        assert_int_equal(tcsetattr(*slave, TCSANOW, &raw), 0);
        assert_int_equal(fcntl(*master, F_SETFD, FD_CLOEXEC), 0);
        assert_int_equal(fcntl(*slave, F_SETFD, FD_CLOEXEC), 0);
}

/* The driver's part: the PTY of the moment, named by a file. */
static int open_slave(const char *driver, const char *run_dir, int vmm_pidfd, int *ret,
                      struct cc_err *err)
{
        CC_FREE char *where = cc_path_join(run_dir, "where");
        CC_FREE char *path = NULL;
        int fd;
        int r = cc_read_file(where, 64, &path, NULL, err);

        if (r < 0)
                return r;
        if (strcmp(driver, "slave") != 0 || vmm_pidfd < 0)
                return cc_fail(err, CC_INTERNAL, "wrong arguments");
        fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        *ret = fd;
        return 0;
}

static int start_relay(struct pty_fixture *p, const char *driver, struct cc_err *err)
{
        struct console_relay relay = {
                .driver = driver,
                .run_dir = p->f.dir,
                .open = open_slave,
                .source = p->master,
                .listen_path = p->f.console,
                .vmm_pidfd = p->f.pidfd,
                .lock_path = p->f.lock,
        };

        return console_relay_start(&relay, err);
}

static struct pty_fixture *make(void **state)
{
        struct pty_fixture *p = xcalloc(1, sizeof(*p));
        char tmpl[] = "/tmp/cocoon-relay-XXXXXX";

        assert_non_null(mkdtemp(tmpl));
        p->f.dir = xstrdup(tmpl);
        p->f.console = cc_path_join(p->f.dir, "console.sock");
        p->f.lock = cc_path_join(p->f.dir, "relay.lock");
        p->where = cc_path_join(p->f.dir, "where");
        p->master = p->slave = -1;
        start_vmm(&p->f);
        *state = p;
        return p;
}

static int setup_master(void **state)
{
        struct pty_fixture *p = make(state);
        struct cc_err err = CC_ERR_INIT;

        make_pty(&p->master, &p->f.guest);
        /* As Firecracker does with its standard output. */
        assert_int_equal(fcntl(p->f.guest, F_SETFL, O_RDWR | O_NONBLOCK), 0);
        if (start_relay(p, "master", &err) < 0)
                fail_msg("%s", err.msg);
        close(TAKE_FD(p->master));
        p->f.relay = lock_pid(&p->f);
        return 0;
}

static void tell_slave(struct pty_fixture *p, int slave)
{
        const char *path = ttyname(slave);

        assert_int_equal(cc_publish(p->where, path, strlen(path), 0600, NULL), 0);
        if (p->slave >= 0)
                close(p->slave);
        p->slave = slave;
}

static int setup_slave(void **state)
{
        struct pty_fixture *p = make(state);
        struct cc_err err = CC_ERR_INIT;
        int slave;

        make_pty(&p->f.guest, &slave);
        tell_slave(p, slave);
        if (start_relay(p, "slave", &err) < 0)
                fail_msg("%s", err.msg);
        p->f.relay = lock_pid(&p->f);
        return 0;
}

static int teardown(void **state)
{
        struct pty_fixture *p = *state;

        kill_vmm(&p->f);
        assert_true(relay_gone(&p->f));
        if (p->f.guest >= 0)
                close(p->f.guest);
        if (p->master >= 0)
                close(p->master);
        if (p->slave >= 0)
                close(p->slave);
        (void)cc_rm_rf(p->f.dir, NULL);
        free(p->f.dir);
        free(p->f.console);
        free(p->f.lock);
        free(p->where);
        free(p);
        return 0;
}

/* All of it, waiting whenever the terminal is full: the relay must make room. */
static void say(int guest, const void *data, size_t n)
{
        for (size_t done = 0; done < n;) {
                struct pollfd w = { .fd = guest, .events = POLLOUT };
                ssize_t k = write(guest, (const char *)data + done, n - done);

                if (k > 0) {
                        done += (size_t)k;
                        continue;
                }
                assert_int_equal(errno, EAGAIN);
                if (poll(&w, 1, WAIT_MS) != 1)
                        fail_msg("the guest stalls after %zu of %zu bytes", done, n);
        }
}

/* Pages that the relay has to itself: what it would leak. */
static long private_kib(pid_t pid)
{
        CC_FREE char *path = xasprintf("/proc/%d/smaps_rollup", (int)pid);
        CC_FREE char *text = NULL;
        const char *line;

        assert_int_equal(cc_read_file(path, 65536, &text, NULL, NULL), 0);
        line = strstr(text, "Private_Dirty:");
        assert_non_null(line);
        return strtol(line + strlen("Private_Dirty:"), NULL, 10);
}

static void output_typing_replay(void **state)
{
        struct pty_fixture *p = *state;
        int a;
        int b;

        say(p->f.guest, "early\r\n", 7); /* nobody is attached */
        usleep(20000);
        a = unix_socket(p->f.console, false);
        expect(a, "early\r\n");
        b = unix_socket(p->f.console, false);
        expect(b, "early\r\n");
        put(a, "root\r\x03\x11\x13", 8); /* nothing is a special character to it */
        expect(p->f.guest, "root\r\x03\x11\x13");
        expect_silence(a); /* no echo */
        say(p->f.guest, "# ", 2);
        expect(a, "# ");
        expect(b, "# ");
        close(a);
        close(b);
}

/* Issue 6: fifty cycles, one client that never reads, one killed in the middle of its output. */
static void cycles_lose_nothing(void **state)
{
        struct pty_fixture *p = *state;
        static char block[4096];
        static char got[sizeof(block)];
        int deaf = unix_socket(p->f.console, false);
        int witness = unix_socket(p->f.console, false);
        long before;
        int n = 0;

        /* Once around the ring, so that all its pages are in use. */
        for (int i = 0; i < 65; i++) {
                say(p->f.guest, block, sizeof(block));
                get(witness, got, sizeof(got));
        }
        before = private_kib(p->f.relay);
        for (int i = 0; i < 50; i++) {
                int a = unix_socket(p->f.console, false);
                pid_t victim = fork();

                if (victim == 0) {
                        char c;
                        int v = unix_socket(p->f.console, false);

                        while (read(v, &c, 1) == 1)
                                ;
                        _exit(0);
                }
                memset(block, 'a' + i % 26, sizeof(block));
                (void)snprintf(block, 8, "<%05d>", i);
                say(p->f.guest, block, sizeof(block) / 2);
                assert_int_equal(kill(victim, SIGKILL), 0);
                assert_int_equal(waitpid(victim, NULL, 0), victim);
                say(p->f.guest, block + sizeof(block) / 2, sizeof(block) / 2);
                /* Every byte, whoever comes and goes. */
                get(witness, got, sizeof(got));
                assert_memory_equal(got, block, sizeof(got));
                close(a);
        }
        close(deaf);
        close(witness);
        for (int i = 0; i < 100 && (n = count_fds(p->f.relay)) > FDS_OF_A_RELAY; i++)
                usleep(10000);
        assert_int_equal(n, FDS_OF_A_RELAY);
        print_message("relay: %ld KiB private, %ld KiB after 50 cycles\n", before,
                      private_kib(p->f.relay));
        assert_true(private_kib(p->f.relay) - before <= 16);
}

static void a_deaf_client_stalls_nobody(void **state)
{
        struct pty_fixture *p = *state;
        static char block[65536];
        int deaf = unix_socket(p->f.console, false);
        char last[9] = "";
        int late;

        memset(block, 'x', sizeof(block));
        for (int i = 0; i < 64; i++)
                say(p->f.guest, block, sizeof(block));
        say(p->f.guest, "\nTHE END", 8);
        late = unix_socket(p->f.console, false);
        for (int fd = late;; fd = deaf) {
                do {
                        memmove(last, last + 1, 7);
                        get(fd, last + 7, 1);
                } while (memcmp(last, "\nTHE END", 8) != 0);
                memset(last, 0, sizeof(last));
                if (fd == deaf)
                        break;
        }
        close(late);
        close(deaf);
}

/* Nobody reads a terminal that is typed at: the rest is dropped, the relay goes on. */
static void a_guest_that_does_not_listen(void **state)
{
        struct pty_fixture *p = *state;
        static char block[65536];
        int a = unix_socket(p->f.console, false);
        int b = unix_socket(p->f.console, false);

        memset(block, 'k', sizeof(block));
        assert_int_equal(fcntl(a, F_SETFL, O_NONBLOCK), 0);
        (void)!write(a, block, sizeof(block));
        usleep(50000);
        say(p->f.guest, "still here", 10);
        expect(b, "still here");
        close(a);
        close(b);
}

static void ends_with_the_vmm(void **state)
{
        struct pty_fixture *p = *state;
        int a = unix_socket(p->f.console, false);
        char c;

        say(p->f.guest, "bye", 3);
        expect(a, "bye");
        say(p->f.guest, "!", 1);
        close(TAKE_FD(p->f.guest)); /* as the kernel does it: descriptors first, then the pidfd */
        kill_vmm(&p->f);
        expect(a, "!");
        assert_int_equal(read(a, &c, 1), 0);
        assert_true(relay_gone(&p->f));
        close(a);
}

/* The descriptor that was handed over stays usable when the relay cannot start. */
static void a_failure_keeps_the_master(void **state)
{
        struct pty_fixture *p = make(state);
        struct cc_err err = CC_ERR_INIT;

        make_pty(&p->master, &p->f.guest);
        assert_int_equal(mkdir(p->f.console, 0700), 0);
        assert_true(start_relay(p, "master", &err) < 0);
        assert_non_null(strstr(err.msg, "console relay: "));
        say(p->f.guest, "boots on", 8);
        assert_int_equal(rmdir(p->f.console), 0);
        assert_int_equal(start_relay(p, "master", &err), 0);
        close(TAKE_FD(p->master));
        {
                int a = unix_socket(p->f.console, false);

                expect(a, "boots on");
                close(a);
        }
}

static void a_replaced_pty_is_followed(void **state)
{
        struct pty_fixture *p = *state;
        int a = unix_socket(p->f.console, false);
        int slave;
        int n = 0;

        put(p->f.guest, "first boot", 10);
        expect(a, "first boot");
        put(a, "x", 1);
        expect(p->f.guest, "x");
        for (int i = 0; i < 3; i++) {
                char text[16];

                /* The VMM takes its time; until then the old path is no terminal any more. */
                close(TAKE_FD(p->f.guest));
                usleep(i * 100000);
                make_pty(&p->f.guest, &slave);
                tell_slave(p, slave);
                (void)snprintf(text, sizeof(text), "boot %d", i);
                put(p->f.guest, text, 6);
                expect(a, text);
                put(a, text, 6);
                expect(p->f.guest, text);
        }
        for (int i = 0; i < 100 && (n = count_fds(p->f.relay)) > FDS_OF_A_RELAY + 1; i++)
                usleep(10000);
        assert_int_equal(n, FDS_OF_A_RELAY + 1); /* and the client */
        close(a);
}

static void ends_while_it_waits_for_a_pty(void **state)
{
        struct pty_fixture *p = *state;
        int a = unix_socket(p->f.console, false);
        char c;

        put(p->f.guest, "last words", 10);
        expect(a, "last words");
        assert_int_equal(unlink(p->where), 0);
        close(TAKE_FD(p->f.guest));
        usleep(100000);
        kill_vmm(&p->f);
        assert_int_equal(read(a, &c, 1), 0);
        assert_true(relay_gone(&p->f));
        close(a);
}

#define M(f) cmocka_unit_test_setup_teardown(f, setup_master, teardown)
#define S(f) cmocka_unit_test_setup_teardown(f, setup_slave, teardown)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                M(output_typing_replay),
                M(cycles_lose_nothing),
                M(a_deaf_client_stalls_nobody),
                M(a_guest_that_does_not_listen),
                M(ends_with_the_vmm),
                cmocka_unit_test_teardown(a_failure_keeps_the_master, teardown),
                S(a_replaced_pty_is_followed),
                S(ends_while_it_waits_for_a_pty),
        };

        if (argc > 1 && strcmp(argv[1], CONSOLE_RELAY_VERB) == 0)
                return console_relay_main(argc, argv, open_slave);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
