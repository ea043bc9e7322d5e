#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "server.h"

enum { KEPT_MAX = 1 << 20 };

struct dbl_console {
        struct dbl_loop *loop;
        dbl_console_fn *input;
        void *ctx;
        int in, out;  /* -1: nobody there. One descriptor for a PTY and a socket */
        int slave;    /* of a PTY: held, or poll reports a hang-up for ever */
        int listener; /* of a socket */
        bool borrowed, keep;
        char *path;
        struct cc_buf kept; /* output not taken yet */
};

static void on_event(void *arg, int fd, short revents);

static struct dbl_console *console_new(struct dbl_loop *loop, dbl_console_fn *input, void *ctx)
{
        struct dbl_console *c = xcalloc(1, sizeof(*c));

        c->loop = loop;
        c->input = input;
        c->ctx = ctx;
        c->in = c->out = c->slave = c->listener = -1;
        c->path = xstrdup("");
        return c;
}

static void watch(struct dbl_console *c)
{
        short in = POLLIN, out = c->kept.len ? POLLOUT : 0;

        if (c->in >= 0)
                dbl_loop_watch(c->loop, c->in, (short)(c->in == c->out ? in | out : in), on_event,
                               c);
        if (c->out >= 0 && c->out != c->in) {
                if (out)
                        dbl_loop_watch(c->loop, c->out, out, on_event, c);
                else
                        dbl_loop_unwatch(c->loop, c->out);
        }
}

static void hang_up(struct dbl_console *c)
{
        dbl_loop_unwatch(c->loop, c->in);
        dbl_loop_unwatch(c->loop, c->out);
        if (!c->borrowed && c->in >= 0)
                close(c->in);
        c->in = c->out = -1;
}

static void flush(struct dbl_console *c)
{
        ssize_t n;

        if (c->out < 0 || !c->kept.len)
                return;
        /* A borrowed descriptor may block: it gets what poll says it takes, page by page. */
        n = write(c->out, c->kept.data, c->borrowed && c->kept.len > 4096 ? 4096 : c->kept.len);
        if (n > 0) {
                c->kept.len -= (size_t)n;
                memmove(c->kept.data, c->kept.data + n, c->kept.len);
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
                c->kept.len = 0;
        }
}

static void on_event(void *arg, int fd, short revents)
{
        struct dbl_console *c = arg;
        char text[1024];
        ssize_t n;

        if (revents & POLLOUT)
                flush(c);
        if (fd == c->in && revents & (POLLIN | POLLHUP | POLLERR)) {
                n = read(fd, text, sizeof(text));
                if (n > 0) {
                        c->input(c->ctx, text, (size_t)n);
                        /* The input may have ended this console with its guest. */
                        return;
                }
                if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                        if (c->borrowed) {
                                dbl_loop_unwatch(c->loop, c->in);
                                c->in = -1;
                        } else {
                                hang_up(c);
                        }
                }
        }
        watch(c);
}

static void on_listener(void *arg, int fd, short revents)
{
        struct dbl_console *c = arg;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (client < 0)
                return;
        /* A new client takes over. */
        hang_up(c);
        c->in = c->out = client;
        watch(c);
}

int dbl_console_pty(struct dbl_loop *loop, dbl_console_fn *input, void *ctx,
                    struct dbl_console **ret, struct cc_err *err)
{
        CC_CLOSE int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
        CC_CLOSE int slave = -1;
        struct dbl_console *c;
        struct termios raw;
        char name[64];

        if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
            ptsname_r(master, name, sizeof(name)) != 0)
                return cc_fail_errno(err, errno, "open a PTY");
        slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0 || tcgetattr(slave, &raw) < 0)
                return cc_fail_errno(err, errno, "open %s", name);
        cfmakeraw(&raw);
        if (tcsetattr(slave, TCSANOW, &raw) < 0)
                return cc_fail_errno(err, errno, "tcsetattr");
        c = console_new(loop, input, ctx);
        c->in = c->out = TAKE_FD(master);
        c->slave = TAKE_FD(slave);
        cc_strset(&c->path, name);
        watch(c);
        *ret = c;
        return 0;
}

int dbl_console_socket(struct dbl_loop *loop, const char *path, bool keep, dbl_console_fn *input,
                       void *ctx, struct dbl_console **ret, struct cc_err *err)
{
        struct dbl_console *c;
        int fd, r;

        r = dbl_listen(path, &fd, err);
        if (r < 0)
                return r;
        c = console_new(loop, input, ctx);
        c->listener = fd;
        c->keep = keep;
        cc_strset(&c->path, path);
        dbl_loop_watch(loop, fd, POLLIN, on_listener, c);
        *ret = c;
        return 0;
}

void dbl_console_fds(struct dbl_loop *loop, int in, int out, dbl_console_fn *input, void *ctx,
                     struct dbl_console **ret)
{
        struct dbl_console *c = console_new(loop, input, ctx);

        c->in = in;
        c->out = out;
        c->borrowed = true;
        watch(c);
        *ret = c;
}

void dbl_console_free(struct dbl_console *c)
{
        if (!c)
                return;
        flush(c);
        hang_up(c);
        if (c->slave >= 0)
                close(c->slave);
        if (c->listener >= 0) {
                dbl_loop_unwatch(c->loop, c->listener);
                close(c->listener);
                (void)unlink(c->path);
        }
        cc_buf_free(&c->kept);
        free(c->path);
        free(c);
}

const char *dbl_console_path(const struct dbl_console *c)
{
        return c ? c->path : "";
}

void dbl_console_write(struct dbl_console *c, const char *data, size_t n)
{
        if (!c || (c->out < 0 && !c->keep) || c->kept.len + n > KEPT_MAX)
                return;
        cc_buf_add(&c->kept, data, n);
        if (!c->borrowed)
                flush(c);
        watch(c);
}
