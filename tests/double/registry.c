/* An HTTP registry with faults. See registry.h. */
#include "double/registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_MAX = 16384, TOKEN_USES = 1 };

struct connection {
        struct double_registry *r;
        int fd;
};

static void die(const char *what)
{
        perror(what);
        abort();
}

static void digest_text(const void *data, size_t n, char out[72])
{
        unsigned char md[32];
        unsigned len;

        if (EVP_Digest(data, n, md, &len, EVP_sha256(), NULL) != 1)
                die("sha256");
        (void)snprintf(out, 72, "sha256:");
        for (size_t i = 0; i < sizeof(md); i++)
                (void)snprintf(out + 7 + 2 * i, 3, "%02x", md[i]);
}

static struct double_object *add(struct double_registry *r, const void *data, size_t n,
                                 const char *type)
{
        struct double_object *o = &r->objects[r->n++];

        if (r->n > DOUBLE_OBJECTS_MAX)
                die("too many objects");
        o->data = malloc(n + 1);
        if (!o->data)
                die("malloc");
        if (n)
                memcpy(o->data, data, n);
        o->len = n;
        (void)snprintf(o->type, sizeof(o->type), "%s", type);
        digest_text(data, n, o->digest);
        return o;
}

const char *double_registry_blob(struct double_registry *r, const char *repo, const void *data,
                                 size_t n)
{
        struct double_object *o = add(r, data, n, "application/octet-stream");

        (void)snprintf(o->path, sizeof(o->path), "/v2/%s/blobs/%s", repo, o->digest);
        return o->digest;
}

const char *double_registry_manifest(struct double_registry *r, const char *repo, const char *tag,
                                     const char *type, const char *text)
{
        struct double_object *o = add(r, text, strlen(text), type);

        (void)snprintf(o->path, sizeof(o->path), "/v2/%s/manifests/%s", repo, o->digest);
        if (tag) {
                struct double_object *t = add(r, text, strlen(text), type);

                (void)snprintf(t->path, sizeof(t->path), "/v2/%s/manifests/%s", repo, tag);
        }
        return o->digest;
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

static bool reply(int fd, int status, const char *headers, const char *body)
{
        char head[2048];
        int n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\n%sContent-Length: %zu\r\n\r\n%s",
                         status, headers, strlen(body), body);

        return send_all(fd, head, (size_t)n);
}

/* The value of a request header, or NULL. */
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

static bool basic_ok(const struct double_registry *r, const char *auth)
{
        char want[512] = "Basic ";

        if (!r->user)
                return true;
        (void)EVP_EncodeBlock((unsigned char *)want + 6, (const unsigned char *)r->user,
                              (int)strlen(r->user));
        return auth && strcmp(auth, want) == 0;
}

static bool serve_token(struct double_registry *r, int fd, const char *auth)
{
        char body[64];

        if (!basic_ok(r, auth))
                return reply(fd, 401, "", "{}");
        (void)snprintf(body, sizeof(body), "{\"token\":\"tok-%d\"}",
                       atomic_fetch_add(&r->seen.tokens, 1) + 1);
        return reply(fd, 200, "Content-Type: application/json\r\n", body);
}

/* True when the request may pass; otherwise a 401 was sent. */
static bool authorised(struct double_registry *r, int fd, const char *auth, bool *ret_sent)
{
        char want[64];
        char challenge[256];

        if (!r->need_token && !r->need_basic)
                return true;
        if (r->need_basic) {
                if (auth && basic_ok(r, auth))
                        return true;
                *ret_sent = reply(fd, 401, "WWW-Authenticate: Basic realm=\"test\"\r\n", "{}");
                return false;
        }
        (void)snprintf(want, sizeof(want), "Bearer tok-%d", atomic_load(&r->seen.tokens));
        if (auth && strcmp(auth, want) == 0) {
                bool first = atomic_load(&r->seen.tokens) == TOKEN_USES;

                if (!(r->expire_token && first && atomic_load(&r->seen.manifests) > 0))
                        return true;
        }
        (void)snprintf(challenge, sizeof(challenge),
                       "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\","
                       "service=\"double\",scope=\"repository:r/i:pull\"\r\n",
                       r->port);
        *ret_sent = reply(fd, 401, challenge, "{\"errors\":[{\"message\":\"who are you\"}]}");
        return false;
}

static void wait_stop(const struct double_registry *r, int fd)
{
        struct pollfd p[2] = { { .fd = r->stop[0], .events = POLLIN },
                               { .fd = fd, .events = POLLRDHUP } };

        (void)poll(p, 2, 60 * 1000);
}

static bool serve_blob(struct double_registry *r, int fd, const struct double_object *o,
                       const char *request)
{
        char range[128];
        char head[1024];
        size_t from = 0;
        size_t len = o->len;
        size_t limit;
        int n;

        atomic_fetch_add(&r->seen.blobs, 1);
        if (take(&r->busy)) {
                (void)snprintf(head, sizeof(head), "Retry-After: %d\r\n", r->retry_after);
                return reply(fd, r->busy_status, r->retry_after ? head : "", "busy");
        }
        if (r->redirect) {
                (void)snprintf(head, sizeof(head), "Location: %s%s\r\n", r->redirect, o->path);
                return reply(fd, 307, head, "");
        }
        if (header(request, "Range", range, sizeof(range))) {
                atomic_fetch_add(&r->seen.ranges, 1);
                if (!r->no_range)
                        from = strtoull(range + strlen("bytes="), NULL, 10);
                if (from >= len)
                        return reply(fd, 416, "", "");
        }
        if (r->truncate)
                len /= 2;
        if (from)
                n = snprintf(head, sizeof(head),
                             "HTTP/1.1 206 X\r\nContent-Range: bytes %zu-%zu/%zu\r\n"
                             "Content-Length: %zu\r\n\r\n",
                             from + (r->wrong_range ? 1 : 0), len - 1, len, len - from);
        else
                n = snprintf(head, sizeof(head),
                             "HTTP/1.1 200 X\r\nETag: \"%.20s\"\r\nContent-Length: %zu\r\n\r\n",
                             o->digest, len);
        if (!send_all(fd, head, (size_t)n))
                return false;
        limit = len - from;
        {
                bool stall = limit > r->stall_at && take(&r->stall);
                bool cut = !stall && limit > r->cut_at && take(&r->cut);
                char *body = malloc(limit + 1);
                bool ok;

                if (!body)
                        die("malloc");
                memcpy(body, o->data + from, limit);
                if (r->corrupt && limit)
                        body[limit / 2] ^= 1;
                if (stall)
                        limit = r->stall_at;
                if (cut)
                        limit = r->cut_at;
                ok = send_all(fd, body, limit);
                atomic_fetch_add(&r->seen.blob_bytes, (long long)limit);
                free(body);
                if (stall)
                        wait_stop(r, fd);
                return ok && !stall && !cut;
        }
}

static bool serve(struct double_registry *r, int fd, const char *request)
{
        char path[1024];
        char auth[2048];
        const char *given = header(request, "Authorization", auth, sizeof(auth));
        bool sent = false;

        if (sscanf(request, "%*s %1023s", path) != 1)
                return false;
        atomic_fetch_add(&r->seen.requests, 1);
        if (given)
                atomic_fetch_add(&r->seen.authorised, 1);
        if (strncmp(path, "/token", 6) == 0)
                return serve_token(r, fd, given);
        if (!authorised(r, fd, given, &sent))
                return sent;
        for (size_t i = 0; i < r->n; i++) {
                const struct double_object *o = &r->objects[i];
                char head[256];

                if (strcmp(o->path, path) != 0)
                        continue;
                if (strstr(path, "/blobs/"))
                        return serve_blob(r, fd, o, request);
                atomic_fetch_add(&r->seen.manifests, 1);
                (void)snprintf(head, sizeof(head), "Content-Type: %s\r\n", o->type);
                o->data[o->len] = '\0';
                {
                        char top[512];
                        int n = snprintf(top, sizeof(top),
                                         "HTTP/1.1 200 X\r\n%sContent-Length: %zu\r\n\r\n",
                                         *o->type ? head : "", o->len);

                        return send_all(fd, top, (size_t)n) && send_all(fd, o->data, o->len);
                }
        }
        return reply(fd, 404, "", "{\"errors\":[{\"message\":\"unknown\"}]}");
}

static void *connection_main(void *arg)
{
        struct connection *c = arg;
        struct double_registry *r = c->r;
        char request[REQUEST_MAX];
        size_t have = 0;

        for (;;) {
                struct pollfd p[2] = { { .fd = r->stop[0], .events = POLLIN },
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
                if (!serve(r, c->fd, request))
                        break;
                have = 0;
        }
        close(c->fd);
        free(c);
        atomic_fetch_sub(&r->live, 1);
        return NULL;
}

static void *listen_main(void *arg)
{
        struct double_registry *r = arg;

        for (;;) {
                struct pollfd p[2] = { { .fd = r->stop[0], .events = POLLIN },
                                       { .fd = r->fd, .events = POLLIN } };
                struct connection *c;
                pthread_attr_t detached;
                pthread_t t;

                if (poll(p, 2, -1) < 0 || p[0].revents)
                        return NULL;
                c = calloc(1, sizeof(*c));
                if (!c)
                        die("calloc");
                c->r = r;
                c->fd = accept(r->fd, NULL, NULL);
                atomic_fetch_add(&r->live, 1);
                (void)pthread_attr_init(&detached);
                (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
                if (c->fd < 0 || pthread_create(&t, &detached, connection_main, c) != 0)
                        die("accept");
                (void)pthread_attr_destroy(&detached);
        }
}

void double_registry_start(struct double_registry *r, const char *address)
{
        struct sockaddr_in sa = { .sin_family = AF_INET };
        socklen_t len = sizeof(sa);

        (void)signal(SIGPIPE, SIG_IGN);
        (void)inet_pton(AF_INET, address, &sa.sin_addr);
        r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (r->fd < 0 || bind(r->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
            listen(r->fd, 64) < 0 || getsockname(r->fd, (struct sockaddr *)&sa, &len) < 0)
                die("listen");
        r->port = ntohs(sa.sin_port);
        if (pipe(r->stop) < 0 || pthread_create(&r->thread, NULL, listen_main, r) != 0)
                die("start");
}

void double_registry_stop(struct double_registry *r)
{
        if (write(r->stop[1], "x", 1) != 1)
                die("stop");
        (void)pthread_join(r->thread, NULL);
        while (atomic_load(&r->live) > 0)
                (void)poll(NULL, 0, 1);
        close(r->fd);
        close(r->stop[0]);
        close(r->stop[1]);
        for (size_t i = 0; i < r->n; i++)
                free(r->objects[i].data);
        r->n = 0;
}
