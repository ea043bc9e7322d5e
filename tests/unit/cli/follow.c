/* Printing and following log files, with stdout as a pipe. */
#include "cli/follow.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "unit.h"

struct session {
        char *path;
        int saved, reader;
        pthread_t thread;
        int result;
};

static void put(const char *path, int flags, const char *text)
{
        CC_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void redirect(struct session *s)
{
        int fds[2];

        (void)fflush(stdout);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        s->saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(dup2(fds[1], STDOUT_FILENO) >= 0);
        close(fds[1]);
        s->reader = fds[0];
}

static void restore(struct session *s)
{
        assert_true(dup2(s->saved, STDOUT_FILENO) >= 0);
        close(s->saved);
}

/* Wait until exactly `want` came through the pipe; false after 5 s. */
static bool reads(int fd, const char *want)
{
        char got[256] = "";
        size_t n = 0;

        while (n < strlen(want)) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                ssize_t len;

                if (poll(&p, 1, 5000) <= 0)
                        return false;
                len = read(fd, got + n, sizeof(got) - 1 - n);
                if (len <= 0)
                        return false;
                n += (size_t)len;
        }
        return strcmp(got, want) == 0;
}

static void expect_tail(const char *path, int64_t tail, const char *want)
{
        struct cc_err err = CC_ERR_INIT;
        struct session s = { 0 };
        bool same;
        int r;

        redirect(&s);
        r = follow_file(path, tail, false, &err);
        restore(&s);
        same = reads(s.reader, want);
        close(s.reader);
        assert_int_equal(r, 0);
        assert_true(same);
}

static void test_tail(void **state)
{
        CC_FREE char *path = xasprintf("%s/log", (const char *)*state);

        put(path, O_TRUNC, "one\ntwo\nthree\n");
        expect_tail(path, 0, "one\ntwo\nthree\n");
        expect_tail(path, 1, "three\n");
        expect_tail(path, 2, "two\nthree\n");
        expect_tail(path, 3, "one\ntwo\nthree\n");
        expect_tail(path, 99, "one\ntwo\nthree\n");
        put(path, O_TRUNC, "one\ntwo");
        expect_tail(path, 1, "two");
        put(path, O_TRUNC, "");
        expect_tail(path, 3, "");
}

static void test_absent(void **state)
{
        CC_FREE char *path = xasprintf("%s/none", (const char *)*state);
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(follow_file(path, 0, false, &err), -CC_NOT_FOUND);
        assert_non_null(strstr(err.msg, "may not have been started"));
}

static void *follow_thread(void *p)
{
        struct session *s = p;

        s->result = follow_file(s->path, 0, true, NULL);
        return NULL;
}

/* Additions, a truncation with other content, and the end when the reader goes away. */
static void test_follow(void **state)
{
        CC_FREE char *path = xasprintf("%s/log", (const char *)*state);
        struct session s = { .path = path, .result = 1 };
        bool first, more, fresh, replaced;

        put(path, O_TRUNC, "first\n");
        redirect(&s);
        assert_int_equal(pthread_create(&s.thread, NULL, follow_thread, &s), 0);
        first = reads(s.reader, "first\n");
        put(path, O_APPEND, "more\n");
        more = reads(s.reader, "more\n");
        put(path, O_TRUNC, "second boot, longer than before\n");
        fresh = reads(s.reader, "second boot, longer than before\n");
        unlink(path);
        put(path, O_TRUNC, "third\n");
        replaced = reads(s.reader, "third\n");
        close(s.reader);
        pthread_join(s.thread, NULL);
        restore(&s);
        assert_true(first);
        assert_true(more);
        assert_true(fresh);
        assert_true(replaced);
        assert_int_equal(s.result, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_tail),
                scratch_test(test_absent),
                scratch_test(test_follow),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
