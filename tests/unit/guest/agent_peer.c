/* Talking to a real agent; agent_peer.h. */
#include "agent_peer.h"
#include "base64.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 60000

int peer_connect(const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0 && strlen(path) < sizeof(address.sun_path));
        memcpy(address.sun_path, path, strlen(path) + 1);
        /* It may still be starting. */
        for (int i = 0; connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0; i++) {
                if (i == PATIENCE_MS / 10)
                        fail_msg("%s: %s", path, strerror(errno));
                usleep(10000);
        }
        return fd;
}

int peer_start(struct peer *p, const char *program)
{
        char template[] = "/tmp/cocoon-agent-XXXXXX";

        if (!mkdtemp(template))
                return -1;
        *p = (struct peer){ .dir = xstrdup(template),
                            .stream = xasprintf("%s/stream", template),
                            .serial = xasprintf("%s/serial", template) };
        p->pid = fork();
        if (p->pid == 0) {
                setenv("AGENT_LOG_LEVEL", "error", 1);
                setenv("INHERITED", "from the agent", 1);
                execl(program, program, "serve", "--unix", p->stream, "--serial-unix", p->serial,
                      "--root", p->dir, (char *)NULL);
                _exit(127);
        }
        close(peer_connect(p->serial));
        return p->pid < 0 ? -1 : 0;
}

int peer_stop(struct peer *p)
{
        int status = 0;
        int r;

        kill(p->pid, SIGTERM);
        if (waitpid(p->pid, &status, 0) != p->pid || status != 0) {
                print_error("the agent ended with status %x\n", status);
                status = -1;
        }
        r = cc_rm_rf(p->dir, NULL);
        free(p->dir);
        free(p->stream);
        free(p->serial);
        return status ? status : r;
}

int peer_setup(void **state)
{
        struct peer *p = xcalloc(1, sizeof(*p));

        *state = p;
        return peer_start(p, getenv("COCOON_TEST_AGENT"));
}

int peer_teardown(void **state)
{
        struct peer *p = *state;
        int r = peer_stop(p);

        free(p);
        return r;
}

void peer_send(int fd, const void *data, size_t n)
{
        const char *p = data;

        while (n) {
                ssize_t w = send(fd, p, n, MSG_NOSIGNAL);

                assert_true(w > 0);
                p += w;
                n -= (size_t)w;
        }
}

void peer_say(int fd, const char *text)
{
        peer_send(fd, text, strlen(text));
}

static ssize_t read_some(int fd, void *to, size_t n)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t r;

        if (poll(&p, 1, PATIENCE_MS) != 1)
                fail_msg("no answer");
        r = read(fd, to, n);
        /* Closed with something of ours unread: an end like any other. */
        return r < 0 && errno == ECONNRESET ? 0 : r;
}

char *peer_read(int fd, size_t *ret_n)
{
        size_t n = 0;
        size_t cap = 65536;
        char *text = xmalloc(cap + 1);
        ssize_t r;

        while ((r = read_some(fd, text + n, cap - n)) > 0) {
                n += (size_t)r;
                if (n == cap)
                        text = realloc(text, (cap *= 2) + 1);
                assert_non_null(text);
        }
        assert_int_equal(r, 0);
        text[n] = '\0';
        if (ret_n)
                *ret_n = n;
        return text;
}

char *peer_read_to(int fd, const char *text)
{
        char *got = xcalloc(1, 65536);
        size_t want = strlen(text);

        for (size_t n = 0; n < 65535;) {
                if (read_some(fd, got + n, 1) != 1)
                        fail_msg("ended before %s: %s", text, got);
                n++;
                if (n >= want && memcmp(got + n - want, text, want) == 0)
                        return got;
        }
        fail_msg("no %s", text);
        return got;
}

void peer_output_to(int fd, const char *text)
{
        static const char head[] = "{\"type\":\"stdout\",\"data\":\"";
        char output[4096] = "";
        size_t n = 0;

        while (!memmem(output, n, text, strlen(text))) {
                CC_FREE char *line = peer_read_to(fd, "}\n");
                char *data = line + sizeof(head) - 1;
                long got;

                if (strncmp(line, head, sizeof(head) - 1) != 0)
                        continue;
                assert_true(n + strlen(data) < sizeof(output));
                got = base64_decode(output + n, data, strcspn(data, "\""));
                assert_true(got > 0);
                n += (size_t)got;
        }
}

char *peer_ask(const struct peer *p, const char *text)
{
        int fd = peer_connect(p->stream);
        char *answer;

        peer_say(fd, text);
        answer = peer_read(fd, NULL);
        close(fd);
        return answer;
}

long peer_number(const char *frames, const char *key)
{
        CC_FREE char *pattern = xasprintf("\"%s\":", key);
        const char *at = strstr(frames, pattern);

        assert_non_null(at);
        return strtol(at + strlen(pattern), NULL, 10);
}

void peer_wait_dead(pid_t pid)
{
        for (int i = 0; kill(pid, 0) == 0; i++) {
                if (i == PATIENCE_MS / 10)
                        fail_msg("%d lives on", (int)pid);
                usleep(10000);
        }
}
