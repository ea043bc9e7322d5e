/* A host in miniature; client.h. */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base64.h"
#include "buf.h"
#include "frame.h"
#include "json.h"
#include "kernel.h"
#include "log.h"
#include "options.h"

#define FAILED 125

/* What comes back; the decoder of frame.h knows only what a host sends. */
struct reply {
        struct json_text type, data, message;
        int64_t exit_code;
};

static bool decode_reply(char *line, size_t len, struct reply *ret)
{
        struct reply r = { 0 };
        struct json_text key;
        struct json j;
        bool first = true;

        jr_begin(&j, line, len);
        if (!jr_enter(&j, '{'))
                return false;
        while (jr_key(&j, &first, &key)) {
                if (jr_text_is(&key, "type"))
                        jr_string(&j, &r.type);
                else if (jr_text_is(&key, "data"))
                        jr_string(&j, &r.data);
                else if (jr_text_is(&key, "message"))
                        jr_string(&j, &r.message);
                else if (jr_text_is(&key, "exit_code"))
                        jr_int(&j, &r.exit_code);
                else
                        jr_skip(&j);
        }
        *ret = r;
        return jr_finish(&j);
}

static bool write_all(int fd, const char *data, size_t n)
{
        while (n) {
                ssize_t w = write(fd, data, n);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w < 0)
                        return false;
                data += w;
                n -= (size_t)w;
        }
        return true;
}

static bool send_request(int fd, char **argv)
{
        struct buf out = { 0 };
        struct frame_writer w;
        struct buf list = { 0 };
        bool ok;

        /* The array is a literal of strings, each written as a value of its own. */
        buf_puts(&list, "[");
        for (size_t i = 0; argv[i]; i++) {
                struct buf one = { 0 };

                frame_start(&w, &one, false, "");
                frame_string(&w, "", argv[i], strlen(argv[i]));
                /* {"type":"","":"text" */
                buf_consume(&one, sizeof("{\"type\":\"\",\"\":") - 1);
                if (i)
                        buf_puts(&list, ",");
                buf_put(&list, buf_head(&one), one.len);
                buf_free(&one);
        }
        buf_put(&list, "]", 2);
        frame_start(&w, &out, false, "exec");
        frame_literal(&w, "argv", buf_head(&list));
        frame_end(&w);
        buf_puts(&out, "{\"type\":\"stdin_close\"}\n");
        ok = write_all(fd, buf_head(&out), out.len);
        buf_free(&list);
        buf_free(&out);
        return ok;
}

/* Returns the exit status once a terminal frame came, else -1. */
static int take_reply(struct reply *r)
{
        long n;

        if (jr_text_is(&r->type, "stdout") || jr_text_is(&r->type, "stderr")) {
                n = r->data.data ? base64_decode(r->data.data, r->data.data, r->data.len) : 0;
                if (n < 0 ||
                    !write_all(jr_text_is(&r->type, "stdout") ? STDOUT_FILENO : STDERR_FILENO,
                               r->data.data, (size_t)n))
                        return FAILED;
        } else if (jr_text_is(&r->type, "exit")) {
                return (int)(r->exit_code & 255);
        } else if (jr_text_is(&r->type, "error")) {
                log_error("agent: %s", r->message.data ? r->message.data : "");
                return FAILED;
        }
        return -1;
}

static int receive(int fd)
{
        struct buf in = { 0 };
        int status = -1;

        while (status < 0) {
                char *newline = in.len ? memchr(buf_head(&in), '\n', in.len) : NULL;
                struct reply reply;
                ssize_t n;

                if (newline) {
                        size_t len = (size_t)(newline - buf_head(&in));

                        status = decode_reply(buf_head(&in), len, &reply) ? take_reply(&reply)
                                                                          : FAILED;
                        buf_consume(&in, len + 1);
                        continue;
                }
                if (in.len >= FRAME_LINE_MAX) {
                        status = FAILED;
                        break;
                }
                n = read(fd, buf_room(&in, 65536), 65536);
                if (n > 0) {
                        buf_commit(&in, (size_t)n);
                } else if (n == 0 || errno != EINTR) {
                        log_error("connection closed before exit frame");
                        status = FAILED;
                }
        }
        buf_free(&in);
        return status;
}

int client_run(unsigned cid, char **argv)
{
        struct vsock_address address = { .family = AF_VSOCK, .port = options.port, .cid = cid };
        int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int status = FAILED;

        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                log_error("connect to %u:%u: %s", cid, options.port, strerror(errno));
        else if (!send_request(fd, argv))
                log_error("send: %s", strerror(errno));
        else
                status = receive(fd);
        if (fd >= 0)
                close(fd);
        return status;
}
