/*
 * Drives a cloud-hypervisor program for tests: the one COCOON_CH names, or the double of this
 * build. What holds for both is asserted on both; a test of the double's own knobs calls
 * double_only().
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/timeutil.h"
#include "unit.h"

#define API "/api/v1/"

static inline const char *program(void)
{
        const char *real = getenv("COCOON_CH");

        if (cc_isempty(real))
                real = getenv("COCOON_TEST_CH");
        if (cc_isempty(real))
                fail_msg("neither COCOON_CH nor COCOON_TEST_CH names a program");
        return real;
}

static inline bool is_double(void)
{
        return cc_isempty(getenv("COCOON_CH"));
}

/* A VMM of its own in the current directory, which is the test's scratch. */
struct vmm {
        pid_t pid;
};

/* Files that VMs are made of: a kernel that halts at once (an ELF image with a PVH note), two raw
 * disks, something that is neither. */
static inline void make_files(const char *dir)
{
        /* clang-format off */
        static const unsigned char head[] = {
                0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                2, 0, 62, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, /* entry 1 MiB */
                64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0,
                1, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, /* load 4 KiB from 4 KiB on */
                0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0,
                0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0,
                4, 0, 0, 0, 4, 0, 0, 0, 176, 0, 0, 0, 0, 0, 0, 0, /* note at 176 */
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                24, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
                4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0, /* PHYS32_ENTRY */
                0, 0, 0x10, 0, 0, 0, 0, 0,
        };
        /* clang-format on */
        static const unsigned char code[] = { 0xfa, 0xf4, 0xeb, 0xfd }; /* cli; hlt; again */
        static const struct {
                const char *name;
                off_t size;
        } files[] = { { "k", 8192 }, { "cow.raw", 4 << 20 }, { "layer.raw", 4 << 20 } };
        int fd;

        assert_int_equal(chdir(dir), 0);
        for (size_t i = 0; i < CC_ARRAY_LEN(files); i++) {
                fd = open(files[i].name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                assert_true(fd >= 0);
                assert_int_equal(ftruncate(fd, files[i].size), 0);
                if (i == 0) {
                        assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
                        assert_int_equal(pwrite(fd, code, sizeof(code), 4096), sizeof(code));
                }
                close(fd);
        }
        fd = open("junk", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        for (int i = 0; i < 256; i++)
                assert_int_equal(write(fd, "junkjunk", 8), 8);
        close(fd);
}

static inline int files_setup(void **state)
{
        int r = scratch_setup(state);

        if (r == 0)
                make_files(*state);
        return r;
}

static inline int files_teardown(void **state)
{
        return chdir("/") < 0 ? -1 : scratch_teardown(state);
}

#define vmm_test(f) cmocka_unit_test_setup_teardown(f, files_setup, files_teardown)

/* Knobs of the next double, by environment. */
static inline void knob(const char *name, const char *value)
{
        CC_FREE char *key = xasprintf("COCOON_DOUBLE_%s", name);

        if (value)
                setenv(key, value, 1);
        else
                unsetenv(key);
}

static inline void no_knobs(void)
{
        static const char *const names[] = { "JOURNAL",       "FAULTS",   "CONTROL",
                                             "BOOT_MS",       "PROFILE",  "LENIENT",
                                             "ACK",           "START_MS", "TAP",
                                             "PENDING_PAUSE", "SIGTERM",  "PREFAULT_MS",
                                             "POWER_BUTTON" };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                knob(names[i], NULL);
}

static inline int dial(const char *path)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        memcpy(addr.sun_path, path, strlen(path));
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
                return fd;
        close(fd);
        return -1;
}

/* Start with "--api-socket a.sock" and the words of `args`; returns once the API answers. */
static inline struct vmm vmm_start(const char *args)
{
        CC_STRV struct cc_strv argv = { 0 };
        struct vmm v;
        int fd;

        cc_strv_add(&argv, program());
        cc_strv_add(&argv, "--api-socket");
        cc_strv_add(&argv, "a.sock");
        cc_split(args, " ", &argv);
        v.pid = fork();
        if (v.pid == 0) {
                fd = open("log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                dup2(fd, STDOUT_FILENO);
                dup2(fd, STDERR_FILENO);
                execv(argv.v[0], argv.v);
                _exit(127);
        }
        for (int i = 0; (fd = dial("a.sock")) < 0; i++) {
                if (i == 2000 || waitpid(v.pid, NULL, WNOHANG) == v.pid)
                        fail_msg("%s %s does not serve", program(), args);
                usleep(2000);
        }
        close(fd);
        return v;
}

/* The exit status, or 128 + signal; kills what does not end by itself within 10 s. */
static inline int vmm_wait(struct vmm v)
{
        int status = 0;

        for (int i = 0; waitpid(v.pid, &status, WNOHANG) == 0; i++) {
                if (i == 5000)
                        kill(v.pid, SIGKILL);
                usleep(2000);
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int vmm_end(struct vmm v, int sig)
{
        kill(v.pid, sig);
        return vmm_wait(v);
}

/* What the peer sends until `text` was among it (NULL: at once), and then until it is quiet for a
 * while. Its end is shown as "<EOF>". */
static inline char *hear(int fd, const char *text)
{
        CC_BUF struct cc_buf got = { 0 };
        struct pollfd p = { .fd = fd, .events = POLLIN };
        char bytes[4096];
        ssize_t n;

        for (;;) {
                bool waiting = text && (!got.len || !strstr(got.data, text));

                if (poll(&p, 1, waiting ? 10000 : 300) <= 0)
                        break;
                n = read(fd, bytes, sizeof(bytes));
                if (n <= 0) {
                        cc_buf_str(&got, "<EOF>");
                        break;
                }
                cc_buf_add(&got, bytes, (size_t)n);
        }
        return cc_buf_take(&got);
}

struct answer {
        int status; /* 0: none */
        char *head;
        char *body;
};

static inline void answer_free(struct answer *a)
{
        free(a->head);
        free(a->body);
}
#define ANSWER CC_CLEANUP(answer_free)

/* Positions of JSON errors are not part of the comparison. */
static inline void strip_position(char *s)
{
        char *at;

        while ((at = strstr(s, " at line ")))
                memmove(at, at + strcspn(at, "\""), strlen(at + strcspn(at, "\"")) + 1);
}

/* Read one reply: the head, then as much as Content-Length says. */
static inline struct answer listen_reply(int fd)
{
        struct answer a = { 0 };
        CC_BUF struct cc_buf got = { 0 };
        struct pollfd p = { .fd = fd, .events = POLLIN };
        size_t want = SIZE_MAX;
        char text[4096];
        ssize_t n;

        while (got.len < want && poll(&p, 1, 10000) > 0 && (n = read(fd, text, sizeof(text))) > 0) {
                char *end, *length;

                cc_buf_add(&got, text, (size_t)n);
                end = strstr(got.data, "\r\n\r\n");
                length = end ? strstr(got.data, "Content-Length: ") : NULL;
                if (end)
                        want = (size_t)(end + 4 - got.data) +
                               (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
        }
        if (want == SIZE_MAX)
                return a;
        a.body = xstrdup(strstr(got.data, "\r\n\r\n") + 4);
        strip_position(a.body);
        a.head = xstrndup(got.data, (size_t)(strstr(got.data, "\r\n\r\n") - got.data));
        a.status = atoi(a.head + strlen("HTTP/1.1 "));
        return a;
}

static inline void send_request(int fd, const char *method, const char *endpoint, const char *body)
{
        CC_BUF struct cc_buf out = { 0 };

        cc_buf_printf(&out, "%s " API "%s HTTP/1.1\r\nHost: localhost\r\n", method, endpoint);
        if (body)
                cc_buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                              strlen(body));
        cc_buf_printf(&out, "\r\n%s", body ? body : "");
        assert_int_equal(send(fd, out.data, out.len, MSG_NOSIGNAL), out.len);
}

static inline struct answer ask(const char *method, const char *endpoint, const char *body)
{
        int fd = dial("a.sock");
        struct answer a;

        assert_true(fd >= 0);
        send_request(fd, method, endpoint, body);
        a = listen_reply(fd);
        close(fd);
        return a;
}

/* The request must be answered so; `body` NULL: any. */
static inline void expect(const char *method, const char *endpoint, const char *request, int status,
                          const char *body)
{
        ANSWER struct answer a = ask(method, endpoint, request);

        if (a.status != status || (body && !cc_streq(a.body, body)))
                fail_msg("%s %s %s:\n  %d %s\nwanted\n  %d %s", method, endpoint,
                         request ? request : "", a.status, a.body ? a.body : "(nothing)", status,
                         body ? body : "(anything)");
}

#define put(endpoint, request, status, body) expect("PUT", endpoint, request, status, body)
#define get(endpoint, status, body)          expect("GET", endpoint, NULL, status, body)

/* vm.info, a new reference. */
static inline json_t *info(void)
{
        ANSWER struct answer a = ask("GET", "vm.info", NULL);
        json_t *j = NULL;

        assert_int_equal(a.status, 200);
        j = json_loads(a.body, 0, NULL);
        assert_non_null(j);
        return j;
}

static inline void expect_state(const char *state)
{
        CC_JSON json_t *j = info();

        assert_string_equal(json_string_value(json_object_get(j, "state")), state);
}

/* True if the device tree has that node. */
static inline bool in_tree(const char *id)
{
        CC_JSON json_t *j = info();

        return json_object_get(json_object_get(j, "device_tree"), id);
}

/* The journal's lines of an event, as one array. */
static inline json_t *journal(const char *path, const char *event)
{
        CC_FREE char *text = NULL;
        CC_STRV struct cc_strv lines = { 0 };
        json_t *found = json_array();
        struct cc_err err = CC_ERR_INIT;
        const char *line;
        size_t len;

        assert_ok(cc_read_file(path, 1 << 22, &text, &len, &err));
        cc_split(text, "\n", &lines);
        cc_strv_foreach (&lines, i, line) {
                json_t *j = json_loads(line, 0, NULL);

                assert_non_null(j);
                if (cc_streq(json_string_value(json_object_get(j, "event")), event))
                        json_array_append(found, j);
                json_decref(j);
        }
        return found;
}
