/* Output that does not block. See sink.h. */
#include "agent/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static bool open_again(struct agent_sink *s)
{
        char path[40];
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
        fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return false;
        s->fd = fd;
        s->way = AGENT_SINK_OWN;
        return true;
}

void agent_sink_open(struct agent_sink *s, int fd, struct cc_buf *keep)
{
        struct stat st;

        *s = (struct agent_sink){ .fd = fd, .way = AGENT_SINK_DROP, .keep = keep };
        if (fd < 0)
                return;
        s->way = AGENT_SINK_BLOCKING;
        if (fstat(fd, &st) < 0)
                return;
        if (S_ISSOCK(st.st_mode))
                s->way = AGENT_SINK_SOCKET;
        else if (S_ISFIFO(st.st_mode) && !open_again(s))
                s->way = AGENT_SINK_PIPE;
        else if (S_ISCHR(st.st_mode) && isatty(fd))
                (void)open_again(s);
}

void agent_sink_close(struct agent_sink *s)
{
        if (s->way == AGENT_SINK_OWN && s->fd >= 0)
                close(s->fd);
        s->fd = -1;
        s->way = AGENT_SINK_DROP;
        cc_buf_free(&s->pending);
        s->at = 0;
}

/* One system call: bytes written, 0 when it would block, or negative. */
static ssize_t put(struct agent_sink *s, const void *data, size_t n, struct cc_err *err)
{
        ssize_t k;

        if (s->way == AGENT_SINK_SOCKET)
                k = send(s->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
                k = write(s->fd, data, s->way == AGENT_SINK_PIPE && n > PIPE_BUF ? PIPE_BUF : n);
        if (k >= 0 || errno == EAGAIN || errno == EINTR)
                return k > 0 ? k : 0;
        if (errno == EPIPE || errno == ECONNRESET) {
                s->gone = true;
                return 0;
        }
        return cc_fail_errno(err, errno, "write output");
}

int agent_sink_flush(struct agent_sink *s, struct cc_err *err)
{
        while (!s->gone && agent_sink_pending(s)) {
                ssize_t k = put(s, s->pending.data + s->at, agent_sink_pending(s), err);

                if (k <= 0)
                        return (int)k;
                s->at += (size_t)k;
                if (s->way == AGENT_SINK_PIPE)
                        break; /* there may be room for no more */
        }
        if (s->at == s->pending.len)
                s->at = s->pending.len = 0;
        return 0;
}

int agent_sink_write(struct agent_sink *s, const void *data, size_t n, struct cc_err *err)
{
        const char *p = data;

        if (s->way == AGENT_SINK_DROP) {
                if (s->keep && s->keep->len < AGENT_SINK_KEEP)
                        cc_buf_add(s->keep, data,
                                   n < AGENT_SINK_KEEP - s->keep->len
                                           ? n
                                           : AGENT_SINK_KEEP - s->keep->len);
                return 0;
        }
        /* A pipe of somebody's flags is only written to when poll says that there is room. */
        while (n && !s->gone && agent_sink_pending(s) == 0 && s->way != AGENT_SINK_PIPE) {
                ssize_t k = put(s, p, n, err);

                if (k < 0)
                        return (int)k;
                if (k == 0 && s->way != AGENT_SINK_BLOCKING)
                        break;
                p += k;
                n -= (size_t)k;
        }
        if (n && !s->gone)
                cc_buf_add(&s->pending, p, n);
        return 0;
}
