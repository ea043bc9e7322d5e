/* The agent's doors; serve.h. */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "child.h"
#include "kernel.h"
#include "log.h"
#include "loop.h"
#include "options.h"
#include "ports.h"
#include "session.h"

#define BACKLOG        32
#define VSOCK_RETRY_MS 1000
#define VSOCK_TRIES    120 /* the module may be loaded late */

struct listener {
        struct source source;
        enum session_kind kind;
        const char *path; /* NULL: vsock */
        bool busy;        /* a serial port has one host at a time */
};

static struct listener vsock = { .source = SOURCE_NONE };
static struct listener stand_ins[2 * OPTIONS_SOCKETS];
static struct timer vsock_retry;
static unsigned vsock_tries;

static void accept_all(struct listener *l);

static void serial_gone(void *arg)
{
        struct listener *l = arg;

        l->busy = false;
        accept_all(l);
}

/* Too many: said on the way out, as far as a fresh socket takes it. */
static void turn_away(int fd)
{
        static const char line[] = "{\"type\":\"error\",\"message\":\"too many sessions\"}\n";

        if (send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                log_debug("turn away: %s", strerror(errno));
        close(fd);
}

/* Loopback would give every user of the guest what only the host may have. */
static bool from_host(const struct listener *l, const struct vsock_address *peer)
{
        return l->path || (peer->family == AF_VSOCK && peer->cid == VSOCK_CID_HOST);
}

static void listen_vsock(void);

static void accept_all(struct listener *l)
{
        while (l->source.fd >= 0 && !l->busy) {
                struct vsock_address peer = {
                        0
                }; /* of a unix socket: cut off, and not looked at */
                socklen_t len = sizeof(peer);
                int fd = accept4(l->source.fd, (struct sockaddr *)&peer, &len,
                                 SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
                        continue;
                if (fd < 0 && errno == EAGAIN)
                        return;
                if (fd < 0) {
                        int error = errno;

                        log_error("accept: %s", strerror(error));
                        /* Out of descriptors or memory: the next connection tries again. */
                        if (l->path || error == EMFILE || error == ENFILE || error == ENOMEM ||
                            error == ENOBUFS)
                                return;
                        loop_close(&l->source);
                        vsock_tries = 0;
                        listen_vsock();
                        return;
                }
                if (!from_host(l, &peer)) {
                        log_warn("refused a connection that is not the host's");
                        close(fd);
                } else if (session_count() >= SESSION_MAX) {
                        turn_away(fd);
                } else if (session_new(fd, l->kind, l->kind == SESSION_SERIAL ? serial_gone : NULL,
                                       l)) {
                        l->busy = l->kind == SESSION_SERIAL;
                }
        }
}

static void listener_ready(struct source *source, uint32_t events)
{
        (void)events;
        accept_all((struct listener *)source);
}

static void retry_vsock(struct timer *timer)
{
        (void)timer;
        listen_vsock();
}

static void listen_vsock(void)
{
        struct vsock_address address = { .family = AF_VSOCK,
                                         .port = options.port,
                                         .cid = VSOCK_CID_ANY };
        int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
            listen(fd, BACKLOG) == 0) {
                vsock.source = (struct source){ fd, listener_ready };
                if (loop_watch(&vsock.source) == 0) {
                        log_info("serving vsock port %u", options.port);
                        return;
                }
                vsock.source.fd = -1;
        }
        if (errno == EADDRINUSE) {
                log_info("vsock port %u is another agent's", options.port);
        } else if (++vsock_tries < VSOCK_TRIES) {
                log_debug("vsock: %s", strerror(errno));
                vsock_retry.fire = retry_vsock;
                loop_arm(&vsock_retry, VSOCK_RETRY_MS);
        } else {
                log_info("no vsock: %s", strerror(errno));
        }
        if (fd >= 0)
                close(fd);
}

static bool listen_unix(struct listener *l, const char *path, enum session_kind kind)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path)) {
                errno = ENAMETOOLONG;
        } else {
                memcpy(address.sun_path, path, strlen(path) + 1);
                unlink(path);
                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        }
        *l = (struct listener){ .source = { fd, listener_ready }, .kind = kind, .path = path };
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            chmod(path, 0600) < 0 || listen(fd, BACKLOG) < 0 || loop_watch(&l->source) < 0) {
                log_error("%s: %s", path, strerror(errno));
                return false;
        }
        return true;
}

static void signalled(struct source *source, uint32_t events)
{
        struct signalfd_siginfo info;

        (void)events;
        while (read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                if (info.ssi_signo == SIGCHLD) {
                        session_reap();
                } else {
                        session_end_all();
                        loop_quit();
                }
        }
}

/* Children's ends and our own, as events. One mechanism for all children: nothing but us reaps
 * them, so their numbers stay theirs until then. */
static bool watch_signals(struct source *source)
{
        sigset_t set;

        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        *source = (struct source){ signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), signalled };
        return source->fd >= 0 && loop_watch(source) == 0;
}

int serve(void)
{
        struct source signals = SOURCE_NONE;
        size_t n = 0;

        if (loop_init() < 0 || !watch_signals(&signals)) {
                log_error("cannot watch events: %s", strerror(errno));
                return 1;
        }
        child_raise_limits();
        for (size_t i = 0; i < options.n_sockets; i++)
                if (!listen_unix(&stand_ins[n++], options.sockets[i], SESSION_STREAM))
                        return 1;
        for (size_t i = 0; i < options.n_serial_sockets; i++)
                if (!listen_unix(&stand_ins[n++], options.serial_sockets[i], SESSION_SERIAL))
                        return 1;
        if (n == 0) {
                listen_vsock();
                ports_open();
        }
        loop_run();
        for (size_t i = 0; i < n; i++)
                unlink(stand_ins[i].path);
        return 0;
}
