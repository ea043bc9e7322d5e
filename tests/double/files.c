/* A web server with faults. See files.h. */
#include "double/files.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_MAX = 16384, PROBE_LEN = 8 };

struct connection {
        struct double_files *s;
        int fd;
};

static void die(const char *what)
{
        perror(what);
        abort();
}

static bool send_all(int fd, const char *data, size_t n)
{
        while (n) {
                ssize_t w = send(fd, data, n, MSG_NOSIGNAL);

                if (w <= 0)
                        return false;
                data += w;
                n -= (size_t)w;
        }
        return true;
}

static bool reply(int fd, int status, const char *headers)
{
        char head[2048];
        int n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\n%sContent-Length: 0\r\n\r\n", status,
                         headers);

        return send_all(fd, head, (size_t)n);
}

static const char *header(const char *request, const char *name, char *out, size_t n)
{
        const char *p = request;

        while ((p = strstr(p, "\r\n"))) {
                p += 2;
                if (strncasecmp(p, name, strlen(name)) == 0 && p[strlen(name)] == ':') {
                        p += strlen(name) + 1;
                        p += strspn(p, " ");
                        (void)snprintf(out, n, "%.*s", (int)strcspn(p, "\r"), p);
                        return out;
                }
        }
        return NULL;
}

static bool take(atomic_int *counter)
{
        int v = atomic_load(counter);

        while (v > 0)
                if (atomic_compare_exchange_weak(counter, &v, v - 1))
                        return true;
        return false;
}

static void wait_for_company(const struct double_files *s)
{
        for (int i = 0; i < 2000 && atomic_load(&s->live) < 2; i++)
                (void)poll(NULL, 0, 1);
}

static void wait_stop(const struct double_files *s, int fd)
{
        struct pollfd p[2] = { { .fd = s->stop[0], .events = POLLIN },
                               { .fd = fd, .events = POLLRDHUP } };

        (void)poll(p, 2, 60 * 1000);
}

static void validators(const struct double_files *s, char *out, size_t n)
{
        int v = atomic_load(&s->version);

        *out = '\0';
        if (s->no_validator)
                return;
        if (s->weak)
                (void)snprintf(out, n,
                               "ETag: W/\"v%d\"\r\n"
                               "Last-Modified: Thu, 0%d Jan 2026 00:00:00 GMT\r\n",
                               v, v + 1);
        else
                (void)snprintf(out, n, "ETag: \"v%d\"\r\n", v);
}

/* If-Range is there and names another file than the one served now. */
static bool changed(const struct double_files *s, const char *request)
{
        char have[128];
        char now[256];

        if (s->ignore_if_range || !header(request, "If-Range", have, sizeof(have)))
                return false;
        validators(s, now, sizeof(now));
        return !strstr(now, have);
}

static bool send_body(struct double_files *s, int fd, const char *data, size_t n)
{
        bool stall = n > s->stall_at && n > PROBE_LEN && take(&s->stall);
        bool cut = !stall && n > s->cut_at && n > PROBE_LEN && take(&s->cut);
        size_t limit = stall ? s->stall_at : cut ? s->cut_at : n;
        bool ok;

        /* Before the client can have them. */
        atomic_fetch_add(&s->seen.bytes, (long long)limit);
        ok = send_all(fd, data, limit);
        if (stall)
                wait_stop(s, fd);
        return ok && !stall && !cut && !s->no_length;
}

static bool serve_file(struct double_files *s, int fd, const char *request)
{
        unsigned long long from = 0;
        unsigned long long to = s->len ? s->len - 1 : 0;
        bool partial = false;
        char text[128];
        char valid[256];
        char head[1024];
        int n;

        if (header(request, "Range", text, sizeof(text)) && !s->no_ranges && !changed(s, request)) {
                atomic_fetch_add(&s->seen.ranges, 1);
                partial = sscanf(text, "bytes=%llu-%llu", &from, &to) >= 1;
                if (partial && from >= s->len)
                        return reply(fd, 416, "");
                if (to >= s->len)
                        to = s->len - 1;
        } else {
                atomic_fetch_add(&s->seen.whole, 1);
        }
        if (s->slow_connections && to - from >= PROBE_LEN)
                wait_for_company(s);
        if ((!partial || to - from >= PROBE_LEN) && take(&s->busy))
                return reply(fd, s->busy_status, "");
        validators(s, valid, sizeof(valid));
        n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\n%s", partial ? 206 : 200, valid);
        if (partial && s->no_total)
                n += snprintf(head + n, sizeof(head) - (size_t)n,
                              "Content-Range: bytes %llu-%llu/*\r\n", from, to);
        else if (partial)
                n += snprintf(head + n, sizeof(head) - (size_t)n,
                              "Content-Range: bytes %llu-%llu/%zu\r\n",
                              from + (s->wrong_range && from ? 1 : 0), to, s->len);
        if (s->no_length)
                n += snprintf(head + n, sizeof(head) - (size_t)n, "Connection: close\r\n\r\n");
        else
                n += snprintf(head + n, sizeof(head) - (size_t)n, "Content-Length: %llu\r\n\r\n",
                              s->len ? to - from + 1 : 0);
        if (!send_all(fd, head, (size_t)n))
                return false;
        if (atomic_load(&s->change_after) > 0 && atomic_fetch_sub(&s->change_after, 1) == 1)
                atomic_fetch_add(&s->version, 1);
        return send_body(s, fd, (const char *)s->data + from, s->len ? to - from + 1 : 0);
}

static bool serve(struct double_files *s, int fd, const char *request)
{
        char path[1024];
        char location[1200];
        int count = atomic_fetch_add(&s->seen.requests, 1);
        unsigned number;

        if (sscanf(request, "%*s %1023s", path) != 1 || (s->die_after && count >= s->die_after))
                return false;
        if (s->status)
                return reply(fd, s->status, "");
        if (s->redirect_loop) {
                (void)snprintf(location, sizeof(location), "Location: /loop-%d\r\n", count);
                return reply(fd, 302, location);
        }
        if (s->redirect && strncmp(path, "/moved", 6) == 0) {
                (void)snprintf(location, sizeof(location), "Location: %s\r\n", s->redirect);
                return reply(fd, 302, location);
        }
        if (s->sign && strncmp(path, "/moved", 6) == 0) {
                (void)snprintf(location, sizeof(location), "Location: /signed-%d\r\n", count);
                return reply(fd, 302, location);
        }
        if (s->sign && sscanf(path, "/signed-%u", &number) == 1 &&
            atomic_exchange(&s->used[number % 4096], true))
                return reply(fd, 403, "");
        return serve_file(s, fd, request);
}

static void *connection_main(void *arg)
{
        struct connection *c = arg;
        struct double_files *s = c->s;
        char request[REQUEST_MAX];
        size_t have = 0;

        for (;;) {
                struct pollfd p[2] = { { .fd = s->stop[0], .events = POLLIN },
                                       { .fd = c->fd, .events = POLLIN } };
                char *end;
                ssize_t n;

                if (poll(p, 2, -1) < 0 || p[0].revents)
                        break;
                n = recv(c->fd, request + have, sizeof(request) - 1 - have, 0);
                if (n <= 0)
                        break;
                have += (size_t)n;
                request[have] = '\0';
                end = strstr(request, "\r\n\r\n");
                if (!end)
                        continue;
                end[2] = '\0';
                if (!serve(s, c->fd, request))
                        break;
                have = 0;
        }
        close(c->fd);
        free(c);
        atomic_fetch_sub(&s->live, 1);
        return NULL;
}

static void *listen_main(void *arg)
{
        struct double_files *s = arg;

        for (;;) {
                struct pollfd p[2] = { { .fd = s->stop[0], .events = POLLIN },
                                       { .fd = s->fd, .events = POLLIN } };
                struct connection *c;
                pthread_attr_t detached;
                pthread_t t;
                int live;

                if (poll(p, 2, -1) < 0 || p[0].revents)
                        return NULL;
                c = calloc(1, sizeof(*c));
                if (!c)
                        die("calloc");
                c->s = s;
                c->fd = accept(s->fd, NULL, NULL);
                live = atomic_fetch_add(&s->live, 1) + 1;
                if (live > atomic_load(&s->seen.live_max))
                        atomic_store(&s->seen.live_max, live);
                (void)pthread_attr_init(&detached);
                (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
                if (c->fd < 0 || pthread_create(&t, &detached, connection_main, c) != 0)
                        die("accept");
                (void)pthread_attr_destroy(&detached);
        }
}

void double_files_start(struct double_files *s)
{
        struct sockaddr_in sa = { .sin_family = AF_INET };
        socklen_t len = sizeof(sa);

        (void)signal(SIGPIPE, SIG_IGN);
        sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
            listen(s->fd, 64) < 0 || getsockname(s->fd, (struct sockaddr *)&sa, &len) < 0)
                die("listen");
        s->port = ntohs(sa.sin_port);
        if (pipe(s->stop) < 0 || pthread_create(&s->thread, NULL, listen_main, s) != 0)
                die("start");
}

void double_files_stop(struct double_files *s)
{
        if (write(s->stop[1], "x", 1) != 1)
                die("stop");
        (void)pthread_join(s->thread, NULL);
        while (atomic_load(&s->live) > 0)
                (void)poll(NULL, 0, 1);
        close(s->fd);
        close(s->stop[0]);
        close(s->stop[1]);
}
