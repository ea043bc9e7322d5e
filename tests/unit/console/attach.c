/* The terminal side of `vm console`, on a PTY: the test plays the user and the relay. */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "console/console.h"

struct fixture {
        char *dir, *path;
        int listener, peer; /* the relay's side */
        int user;           /* PTY master */
        int tty;            /* kept open to look at the settings afterwards */
        struct termios before;
        pid_t pid;
};

/* Exit status of the session process: the error class. */
static void begin(struct fixture *f, bool read_only)
{
        char buf[256];
        size_t len = 0;

        f->pid = fork();
        if (f->pid == 0) {
                (void)setsid();
                (void)dup2(f->tty, 0);
                (void)dup2(f->tty, 1);
                (void)dup2(f->tty, 2);
                cc_interrupt_setup();
                _exit(-console_attach(f->path, 0x1d, read_only, "web", NULL));
        }
        f->peer = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(f->peer >= 0);
        while (len < sizeof(buf) - 1 && !memmem(buf, len, ".)\r\n", 4)) {
                ssize_t n = read(f->user, buf + len, 1);

                assert_true(n == 1);
                len++;
        }
        buf[len] = '\0';
        assert_string_equal(buf, "Connected to web (escape sequence: ^].)\r\n");
}

static int setup(void **state)
{
        char tmpl[] = "/tmp/cocoon-attach-XXXXXX";
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        struct fixture *f = xcalloc(1, sizeof(*f));

        assert_non_null(mkdtemp(tmpl));
        f->dir = xstrdup(tmpl);
        f->path = cc_path_join(f->dir, "console.sock");
        f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        memcpy(addr.sun_path, f->path, strlen(f->path));
        assert_int_equal(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
        assert_int_equal(listen(f->listener, 4), 0);
        assert_int_equal(openpty(&f->user, &f->tty, NULL, NULL, NULL), 0);
        assert_int_equal(tcgetattr(f->tty, &f->before), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        close(f->peer);
        close(f->listener);
        close(f->user);
        close(f->tty);
        (void)cc_rm_rf(f->dir, NULL);
        free(f->dir);
        free(f->path);
        free(f);
        return 0;
}

static void expect(int fd, const char *text)
{
        char buf[256];

        for (size_t done = 0; done < strlen(text);) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                ssize_t n;

                assert_int_equal(poll(&p, 1, 5000), 1);
                n = read(fd, buf + done, strlen(text) - done);
                assert_true(n > 0);
                done += (size_t)n;
        }
        assert_memory_equal(buf, text, strlen(text));
}

/* Waits for the session, checks its last line and that the terminal is as before. */
static int finish(struct fixture *f, bool farewell)
{
        struct termios after;
        int status;

        if (farewell)
                expect(f->user, "\r\nDisconnected from web.\r\n");
        assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
        assert_int_equal(tcgetattr(f->tty, &after), 0);
        assert_int_equal(after.c_lflag, f->before.c_lflag);
        assert_int_equal(after.c_iflag, f->before.c_iflag);
        assert_int_equal(after.c_oflag, f->before.c_oflag);
        return status;
}

static void type_and_detach(void **state)
{
        struct fixture *f = *state;

        begin(f, false);
        assert_int_equal(write(f->user, "ls\r\x03", 4), 4);
        expect(f->peer, "ls\r\x03"); /* raw: no translation, ^C goes to the guest */
        assert_int_equal(write(f->peer, "out\n", 4), 4);
        expect(f->user, "out\n");
        assert_int_equal(write(f->user, "\x1d.", 2), 2);
        assert_int_equal(finish(f, true), 0);
}

static void ends_with_the_guest(void **state)
{
        struct fixture *f = *state;

        begin(f, false);
        assert_int_equal(write(f->peer, "bye", 3), 3);
        assert_int_equal(shutdown(f->peer, SHUT_RDWR), 0);
        expect(f->user, "bye");
        assert_int_equal(finish(f, true), 0);
}

static void read_only_sends_nothing(void **state)
{
        struct fixture *f = *state;
        char c;

        begin(f, true);
        assert_int_equal(write(f->user, "x", 1), 1);
        assert_int_equal(write(f->user, "\x1d.", 2), 2);
        assert_int_equal(finish(f, true), 0);
        assert_int_equal(read(f->peer, &c, 1), 0);
}

static void sigterm_restores(void **state)
{
        struct fixture *f = *state;
        int status;

        begin(f, false);
        assert_int_equal(kill(f->pid, SIGTERM), 0);
        status = finish(f, true);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), CC_CANCELED);
}

static void sighup_restores(void **state)
{
        struct fixture *f = *state;
        int status;

        begin(f, false);
        assert_int_equal(kill(f->pid, SIGHUP), 0);
        status = finish(f, false);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGHUP);
}

/* The relay does not read: typing is dropped in the end, detaching still works. */
static void detach_from_a_stuck_guest(void **state)
{
        struct fixture *f = *state;
        static char block[4096];

        begin(f, false);
        memset(block, 'k', sizeof(block));
        for (int i = 0; i < 400; i++)
                assert_int_equal(write(f->user, block, 2048), 2048);
        assert_int_equal(write(f->user, "\x1d.", 2), 2);
        assert_int_equal(finish(f, true), 0);
}

static void stdin_must_be_a_terminal(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int keep = fcntl(0, F_DUPFD_CLOEXEC, 3);

        assert_int_equal(dup2(null, 0), 0);
        assert_int_equal(console_attach(f->path, 0x1d, false, "web", &err), -CC_STATE);
        assert_string_equal(err.msg, "stdin is not a terminal");
        assert_int_equal(dup2(keep, 0), 0);
        close(keep);
        close(null);
        f->peer = -1;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(type_and_detach),          T(ends_with_the_guest), T(read_only_sends_nothing),
                T(sigterm_restores),         T(sighup_restores),     T(detach_from_a_stuck_guest),
                T(stdin_must_be_a_terminal),
        };

        alarm(60); /* a blocked read must not hang the suite */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
