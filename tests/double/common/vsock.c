/*
 * Hybrid vsock in front of a real agent. See vsock.h. A thread a connection: it touches two
 * descriptors and nothing else, and ends with the process.
 */
#include "vsock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"

#define REQUEST_MAX 32

struct link {
        int host;
        char *agent; /* NULL: nobody listens in the guest */
};

static bool handshake(int fd)
{
        char line[REQUEST_MAX + 1] = { 0 };
        size_t n = 0;

        while (n < REQUEST_MAX && read(fd, line + n, 1) == 1 && line[n] != '\n')
                n++;
        return strncasecmp(line, "CONNECT 1024", 12) == 0;
}

static int dial(const char *path)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = path ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;

        if (fd < 0 || strlen(path) >= sizeof(addr.sun_path))
                return fd;
        memcpy(addr.sun_path, path, strlen(path));
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
                return fd;
        close(fd);
        return -1;
}

/* False at the end of `from`, which `to` then hears of. */
static bool carry(int from, int to)
{
        char chunk[65536];
        ssize_t n = read(from, chunk, sizeof(chunk));

        if (n > 0 && cc_write_all(to, chunk, (size_t)n, NULL) == 0)
                return true;
        (void)shutdown(to, SHUT_WR);
        return n < 0 && errno == EINTR;
}

struct way {
        int from, to;
};

static void *carry_all(void *arg)
{
        const struct way *w = arg;

        while (carry(w->from, w->to))
                ;
        return NULL;
}

static void *serve(void *arg)
{
        struct link *l = arg;
        int agent = handshake(l->host) ? dial(l->agent) : -1;
        struct way back = { agent, l->host };
        struct way forth = { l->host, agent };
        static const char ok[] = "OK 1073741824\n";
        pthread_t other;

        if (agent >= 0 && cc_write_all(l->host, ok, sizeof(ok) - 1, NULL) == 0 &&
            pthread_create(&other, NULL, carry_all, &back) == 0) {
                struct pollfd hup = { .fd = l->host };

                (void)carry_all(&forth);
                /* A host that sends no more still listens; one that is gone ends the guest's side.
                 */
                while (poll(&hup, 1, -1) < 0 && errno == EINTR)
                        ;
                (void)shutdown(agent, SHUT_RDWR);
                (void)pthread_join(other, NULL);
        }
        if (agent >= 0)
                close(agent);
        close(l->host);
        free(l->agent);
        free(l);
        return NULL;
}

static void on_connection(void *arg, int fd, short revents)
{
        const struct dbl_settings *settings = arg;
        struct link *l;
        pthread_t thread;
        int host = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        (void)revents;
        if (host < 0)
                return;
        l = xcalloc(1, sizeof(*l));
        *l = (struct link){ .host = host, .agent = xstrdup0(dbl_setting(settings, "AGENT")) };
        if (pthread_create(&thread, NULL, serve, l) != 0) {
                close(host);
                free(l->agent);
                free(l);
                return;
        }
        (void)pthread_detach(thread);
}

void dbl_vsock_serve(struct dbl_loop *loop, const struct dbl_settings *settings, int fd)
{
        dbl_loop_watch(loop, fd, POLLIN, on_connection, (void *)(uintptr_t)settings);
}
