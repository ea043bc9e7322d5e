/*
 * Firecracker's answers, word for word: dialogues recorded from the real 1.16.1 (fc/NAME.talk) are
 * held against the double, or against the binary that COCOON_FC names. With COCOON_FC_RECORD set
 * the answers are written back into the file instead, which is how a dialogue is recorded.
 *
 * A dialogue is a list of lines, in the scratch directory of its test:
 *   # text                  a comment
 *   needs kvm|root|io_uring skipped where that is missing (kvm: with COCOON_FC only)
 *   file NAME SIZE          a sparse file       text NAME TEXT    a file with that text
 *   kernel NAME FAULT       a kernel image that prints and counts; FAULT "good" or what is wrong
 *   move A B, remove A      a file
 *   flip NAME               the byte 3 from the end of a file
 *   start ID [ARGS]         a new process (the one before is killed)
 *   > METHOD PATH [BODY]    a request           < STATUS [BODY]   its answer
 *   raw BYTES               a request as it is, with \r and \n
 *   console TEXT            the guest says that  type TEXT         and is told this, with \n
 *   signal NAME             to the process
 *   exit N                  it ends with that status (128 + signal)
 *   alive                   it does not
 *   present A, absent A     whether a file exists
 *   size A N                of a file
 */
#include "unit.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/str.h"
#include "fc_kernel.h"
#include "fc_process.h"

enum { CONSOLE_MS = 30000, EXIT_MS = 20000, ALIVE_MS = 30, TALK_MAX = 1 << 20 };

struct talk {
        const char *name;
        size_t line;
        struct fc fc;
        int status;            /* of the last answer */
        struct cc_buf body;    /* of it */
        struct cc_buf *record; /* the file as it should be, NULL: compare */
};

/* The first word of *line; the rest stays in *line. Splits in place. */
static char *word(char **line)
{
        char *start = *line;
        char *end = start + strcspn(start, " ");

        *line = *end ? end + 1 : end;
        *end = '\0';
        return start;
}

static void unescape(char *s)
{
        char *out = s;

        for (; *s; s++) {
                if (*s == '\\' && (s[1] == 'n' || s[1] == 'r')) {
                        *out++ = *++s == 'n' ? '\n' : '\r';
                        continue;
                }
                *out++ = *s;
        }
        *out = '\0';
}

static void write_file(const char *name, const void *data, size_t n)
{
        FILE *f = fopen(name, "we");

        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
}

static void sparse_file(const char *name, const char *size)
{
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, strtol(size, NULL, 10)), 0);
        close(fd);
}

static void flip(const char *name)
{
        int fd = open(name, O_RDWR | O_CLOEXEC);
        off_t at = lseek(fd, -3, SEEK_END);
        unsigned char c = 0;

        assert_int_equal(pread(fd, &c, 1, at), 1);
        c ^= 0xff;
        assert_int_equal(pwrite(fd, &c, 1, at), 1);
        close(fd);
}

static void kernel(const char *name, const char *fault)
{
        CC_BUF struct cc_buf image = { 0 };

        fc_kernel(fault, &image);
        write_file(name, image.data ? image.data : "", image.len);
}

static bool missing(const char *what)
{
        struct io_uring_params params = { 0 };
        int fd;

        if (cc_streq(what, "kvm"))
                return !fc_is_double() && access("/dev/kvm", R_OK | W_OK) != 0;
        if (cc_streq(what, "root"))
                return unshare(CLONE_NEWNET) != 0 || access("/dev/net/tun", R_OK | W_OK) != 0;
        fd = (int)syscall(SYS_io_uring_setup, 8, &params);
        if (fd >= 0)
                close(fd);
        return fd < 0;
}

static void start(struct talk *t, char *line)
{
        const char *id = word(&line);
        CC_STRV struct cc_strv args = { 0 };

        fc_end(&t->fc);
        cc_split(line, " ", &args);
        fc_start(&t->fc, id, (const char *const *)args.v);
}

/* An answer of several lines is kept on one. */
static char *shown(struct talk *t)
{
        for (char *p = t->body.data; p && (p = strchr(p, '\n'));)
                *p = ' ';
        return t->body.len ? xasprintf("%d %s", t->status, t->body.data)
                           : xasprintf("%d", t->status);
}

static void record(struct talk *t)
{
        CC_FREE char *got = shown(t);

        if (t->record)
                cc_buf_printf(t->record, "< %s\n", got);
}

static void ask(struct talk *t, char *line)
{
        const char *method = word(&line);
        const char *path = word(&line);

        t->status = fc_request(&t->fc, method, path, *line ? line : NULL, &t->body);
        record(t);
}

static void ask_raw(struct talk *t, char *line)
{
        unescape(line);
        t->status = fc_exchange(&t->fc, line, strlen(line), &t->body);
        record(t);
}

static void answer(struct talk *t, const char *expected)
{
        CC_FREE char *got = shown(t);

        if (!t->record && strcmp(got, expected) != 0)
                fail_msg("%s:%zu: expected\n  %s\nbut got\n  %s", t->name, t->line, expected, got);
}

static int signal_number(const char *name)
{
        static const struct {
                const char *name;
                int number;
        } signals[] = {
                { "HUP", SIGHUP }, { "TERM", SIGTERM }, { "INT", SIGINT }, { "PIPE", SIGPIPE }
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(signals); i++) {
                if (cc_streq(signals[i].name, name))
                        return signals[i].number;
        }
        fail_msg("unknown signal %s", name);
        return 0;
}

static void check_exit(struct talk *t, const char *expected)
{
        int status = fc_wait(&t->fc, EXIT_MS);

        if (status != (int)strtol(expected, NULL, 10))
                fail_msg("%s:%zu: expected exit %s, not %d", t->name, t->line, expected, status);
}

static void check_size(struct talk *t, const char *name, const char *expected)
{
        struct stat st = { 0 };

        if (stat(name, &st) < 0 || st.st_size != strtol(expected, NULL, 10))
                fail_msg("%s:%zu: %s has %lld bytes", t->name, t->line, name,
                         (long long)st.st_size);
}

static void check_console(struct talk *t, const char *text)
{
        if (!fc_console_wait(&t->fc, text, CONSOLE_MS))
                fail_msg("%s:%zu: the console never said \"%s\", only \"%s\"", t->name, t->line,
                         text, t->fc.console.data ? t->fc.console.data : "");
        fc_console_forget(&t->fc);
}

/* Everything about the process. False if `verb` is none of it. */
static bool process_line(struct talk *t, const char *verb, char *rest)
{
        if (cc_streq(verb, "start")) {
                start(t, rest);
        } else if (cc_streq(verb, ">")) {
                ask(t, rest);
        } else if (cc_streq(verb, "raw")) {
                ask_raw(t, rest);
        } else if (cc_streq(verb, "<")) {
                answer(t, rest);
        } else if (cc_streq(verb, "console")) {
                check_console(t, rest);
        } else if (cc_streq(verb, "type")) {
                unescape(rest);
                fc_type(&t->fc, rest);
        } else if (cc_streq(verb, "signal")) {
                assert_int_equal(kill(t->fc.pid, signal_number(rest)), 0);
        } else if (cc_streq(verb, "exit")) {
                check_exit(t, rest);
        } else if (cc_streq(verb, "alive")) {
                assert_int_equal(fc_wait(&t->fc, ALIVE_MS), -1);
        } else {
                return false;
        }
        return true;
}

/* Everything about files. False if `verb` is none of it. */
static bool file_line(struct talk *t, const char *verb, char *rest)
{
        const char *name = word(&rest);

        if (cc_streq(verb, "file"))
                sparse_file(name, rest);
        else if (cc_streq(verb, "text"))
                write_file(name, rest, strlen(rest));
        else if (cc_streq(verb, "kernel"))
                kernel(name, rest);
        else if (cc_streq(verb, "move"))
                assert_int_equal(rename(name, rest), 0);
        else if (cc_streq(verb, "remove"))
                assert_int_equal(unlink(name), 0);
        else if (cc_streq(verb, "flip"))
                flip(name);
        else if (cc_streq(verb, "present"))
                assert_int_equal(access(name, F_OK), 0);
        else if (cc_streq(verb, "absent"))
                assert_int_equal(access(name, F_OK), -1);
        else if (cc_streq(verb, "size"))
                check_size(t, name, rest);
        else
                return false;
        return true;
}

/* What the dialogue lacks here, NULL: nothing. */
static const char *unmet(char *text)
{
        static char what[32];

        for (char *p = text; p && *p; p = strchr(p, '\n'), p += p != NULL) {
                if (sscanf(p, "needs %31s", what) == 1 && missing(what))
                        return what;
        }
        return NULL;
}

static char *talk_path(const char *name)
{
        return xasprintf("%s/tests/unit/double/fc/%s.talk", getenv("COCOON_SOURCE_ROOT"), name);
}

static void play(struct talk *t, char *text)
{
        for (char *next; *text; text = next) {
                CC_FREE char *copy = NULL;
                const char *verb;
                char *rest;

                next = text + strcspn(text, "\n");
                copy = xstrndup(text, (size_t)(next - text));
                next += *next == '\n';
                t->line++;
                if (t->record && copy[0] != '<')
                        cc_buf_printf(t->record, "%s\n", copy);
                rest = copy;
                verb = word(&rest);
                if (!*verb || *verb == '#' || cc_streq(verb, "needs"))
                        continue;
                if (!process_line(t, verb, rest) && !file_line(t, verb, rest))
                        fail_msg("%s:%zu: unknown line", t->name, t->line);
        }
}

static void run_talk(void **state, const char *name)
{
        CC_FREE char *path = talk_path(name);
        CC_FREE char *text = NULL;
        CC_BUF struct cc_buf record = { 0 };
        struct talk t = { .name = name, .fc = { .terminal = -1 } };
        struct cc_err err = CC_ERR_INIT;
        const char *what;
        size_t len;

        assert_ok(cc_read_file(path, TALK_MAX, &text, &len, &err));
        what = unmet(text);
        if (what)
                skip_because("%s is not available", what);
        assert_int_equal(chdir(*state), 0);
        if (getenv("COCOON_FC_RECORD"))
                t.record = &record;
        play(&t, text);
        fc_end(&t.fc);
        cc_buf_free(&t.body);
        if (t.record)
                write_file(path, record.data, record.len);
}

#define TALK(name)                                                                                 \
        static void test_##name(void **state)                                                      \
        {                                                                                          \
                run_talk(state, #name);                                                            \
        }

/* clang-format off */
TALK(requests) TALK(machine) TALK(boot) TALK(drives) TALK(drives_async) TALK(nics) TALK(devices)
TALK(preboot) TALK(http) TALK(kernels) TALK(limits) TALK(life) TALK(load) TALK(pci) TALK(guest)
        /* clang-format on */

        int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_requests), scratch_test(test_machine),
                scratch_test(test_boot),     scratch_test(test_drives),
                scratch_test(test_nics),     scratch_test(test_drives_async),
                scratch_test(test_devices),  scratch_test(test_preboot),
                scratch_test(test_http),     scratch_test(test_kernels),
                scratch_test(test_limits),   scratch_test(test_life),
                scratch_test(test_load),     scratch_test(test_pci),
                scratch_test(test_guest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
