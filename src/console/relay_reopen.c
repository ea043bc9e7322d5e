/*
 * Opening a console again: a child runs the driver's code and sends the descriptor back over a
 * socket pair, so that the relay neither waits nor allocates. See relay.c for the whole.
 */
#include "console/relay_reopen.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/timeutil.h"
#include "console/relay.h"

/* A VMM that is ending closes its console a moment before its pidfd tells. */
#define FIRST_PAUSE (20 * CC_NSEC_PER_MSEC)
#define LAST_PAUSE  CC_NSEC_PER_SEC

/* A child that asks a VMM which never answers. */
#define CHILD_SECONDS 10

void relay_reopen_init(struct relay_reopen *ro, console_open_fn open, const char *driver,
                       const char *run_dir)
{
        *ro = (struct relay_reopen){
                .open = open,
                .driver = driver,
                .run_dir = run_dir,
                .fd = -1,
                .pause = FIRST_PAUSE,
        };
}

void relay_reopen_begin(struct relay_reopen *ro)
{
        int64_t now = cc_monotonic();

        /* One that ends as soon as it is opened must not make us spin. */
        if (now - ro->opened > LAST_PAUSE)
                ro->pause = FIRST_PAUSE;
        ro->next = now + ro->pause;
}

int relay_reopen_wait_ms(const struct relay_reopen *ro)
{
        int64_t left = ro->next - cc_monotonic();

        if (ro->next == 0 || ro->fd >= 0)
                return -1;
        return left > 0 ? (int)(left / CC_NSEC_PER_MSEC) + 1 : 0;
}

static void send_fd(int to, int fd)
{
        union {
                char space[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        char byte = 0;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr msg = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.space,
                .msg_controllen = sizeof(control.space),
        };
        struct cmsghdr *c;

        memset(&control, 0, sizeof(control));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
        (void)sendmsg(to, &msg, MSG_NOSIGNAL);
}

static int receive_fd(int from)
{
        union {
                char space[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        char byte;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr msg = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.space,
                .msg_controllen = sizeof(control.space),
        };
        const struct cmsghdr *c;
        int fd = -1;

        if (recvmsg(from, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0)
                return -1;
        c = CMSG_FIRSTHDR(&msg);
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
            c->cmsg_len == CMSG_LEN(sizeof(int)))
                memcpy(&fd, CMSG_DATA(c), sizeof(int));
        return fd;
}

static void child(const struct relay_reopen *ro, int to) __attribute__((noreturn));
static void child(const struct relay_reopen *ro, int to)
{
        int fd = -1;

        /* Clients, listener and lock are the relay's: a copy here would keep them alive. */
        if (dup2(to, RELAY_FD_LISTEN) < 0 || dup2(RELAY_FD_VMM, RELAY_FD_LISTEN + 1) < 0)
                _exit(1);
        (void)syscall(SYS_close_range, (unsigned)RELAY_FD_LISTEN + 2, ~0u, 0u);
        (void)signal(SIGCHLD, SIG_DFL);
        (void)alarm(CHILD_SECONDS);
        if (ro->open(ro->driver, ro->run_dir, RELAY_FD_LISTEN + 1, &fd, NULL) == 0)
                send_fd(RELAY_FD_LISTEN, fd);
        _exit(0);
}

static void start_child(struct relay_reopen *ro)
{
        int pair[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return;
        pid = fork();
        if (pid == 0)
                child(ro, pair[1]);
        close(pair[1]);
        if (pid > 0)
                ro->fd = pair[0];
        else
                close(pair[0]);
}

static void again(struct relay_reopen *ro)
{
        ro->pause = ro->pause * 2 > LAST_PAUSE ? LAST_PAUSE : ro->pause * 2;
        ro->next = cc_monotonic() + ro->pause;
}

int relay_reopen_step(struct relay_reopen *ro, bool readable)
{
        int fd;

        if (ro->fd < 0) {
                if (ro->next && cc_monotonic() >= ro->next) {
                        start_child(ro);
                        if (ro->fd < 0)
                                again(ro);
                }
                return -1;
        }
        if (!readable)
                return -1;
        fd = receive_fd(ro->fd);
        close(TAKE_FD(ro->fd));
        again(ro);
        if (fd < 0)
                return -1;
        ro->opened = cc_monotonic();
        ro->next = 0;
        return fd;
}
