#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/timeutil.h"

enum { CONNECTIONS_MAX = 10, LOST_MAX = 16 };

struct conn {
        int fd; /* -1: free */
        struct dbl_parser parser;
        struct cc_buf out;
        size_t in_flight; /* requests parsed and not yet answered */
        bool closed;      /* freed once nothing is in flight */
        bool close_after; /* once out is written */
        bool owes;        /* an answer is on its way: form->answered is due */
};

/* A request on its way through. */
struct job {
        struct conn *conn;
        struct dbl_request request;
        struct dbl_reply reply;
        struct dbl_fault fault;
        char endpoint[64];
        long n;
};

struct dbl_server {
        struct dbl_loop *loop;
        struct dbl_journal *journal;
        struct dbl_faults *faults;
        const struct dbl_server_form *form;
        void *ctx;
        int listener;
        struct conn conns[CONNECTIONS_MAX];
        struct job *queue; /* the first is the one being executed */
        size_t n_queue;
        bool busy; /* held up: nothing is accepted, read or written */
        long count;
        struct {
                char *key;
                long n;
        } lost[LOST_MAX]; /* mutating requests executed whose answer was lost */
        size_t n_lost;
};

static void on_conn(void *arg, int fd, short revents);
static void on_listener(void *arg, int fd, short revents);

void dbl_reply_json(struct dbl_reply *reply, int status, json_t *body)
{
        CC_FREE char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

        dbl_reply_text(reply, status, text ? text : "");
        json_decref(body);
}

void dbl_reply_text(struct dbl_reply *reply, int status, const char *body)
{
        reply->status = status;
        reply->body.len = 0;
        cc_buf_str(&reply->body, body);
}

int dbl_listen(const char *path, int *ret, struct cc_err *err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        CC_CLOSE int fd = -1;

        if (strlen(path) >= sizeof(addr.sun_path))
                return cc_fail(err, CC_INVALID, "path must be shorter than SUN_LEN");
        memcpy(addr.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return cc_fail_errno(err, errno, "socket");
        if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0)
                return cc_fail_errno(err, errno, "bind %s", path);
        *ret = TAKE_FD(fd);
        return 0;
}

/* ---- what is watched ---------------------------------------------------------------------- */

static void watch_conn(struct dbl_server *s, struct conn *c)
{
        if (c->fd < 0 || c->closed || s->busy)
                dbl_loop_unwatch(s->loop, c->fd);
        else
                dbl_loop_watch(s->loop, c->fd, (short)(POLLRDHUP | (c->out.len ? POLLOUT : POLLIN)),
                               on_conn, s);
}

static void watch_all(struct dbl_server *s)
{
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
                watch_conn(s, &s->conns[i]);
        if (s->busy)
                dbl_loop_unwatch(s->loop, s->listener);
        else
                dbl_loop_watch(s->loop, s->listener, POLLIN, on_listener, s);
}

static void answered(struct dbl_server *s, struct conn *c)
{
        if (c->owes && s->form->answered)
                s->form->answered(s->ctx);
        c->owes = false;
}

static void close_conn(struct dbl_server *s, struct conn *c)
{
        c->closed = true;
        watch_conn(s, c);
        c->out.len = 0;
        /* The peer sees the end at once; the slot stays taken while requests are in flight. */
        shutdown(c->fd, SHUT_RDWR);
        answered(s, c);
        if (c->in_flight)
                return;
        close(c->fd);
        cc_buf_free(&c->out);
        dbl_parser_free(&c->parser);
        *c = (struct conn){ .fd = -1 };
}

/* ---- answers ------------------------------------------------------------------------------ */

static void format_reply(struct cc_buf *out, const char *server, const char *type,
                         const struct dbl_reply *reply)
{
        cc_buf_printf(out, "HTTP/1.1 %d \r\nServer: %s\r\nConnection: keep-alive\r\n",
                      reply->status, server);
        if (reply->allow)
                cc_buf_printf(out, "Allow: %s\r\n", reply->allow);
        if (reply->deprecated)
                cc_buf_str(out, "Deprecation: true\r\n");
        if (reply->body.len || (reply->status != 204 && reply->status != 100))
                cc_buf_printf(out, "Content-Type: %s\r\nContent-Length: %zu\r\n", type,
                              reply->body.len);
        cc_buf_str(out, "\r\n");
        cc_buf_add(out, reply->body.data ? reply->body.data : "", reply->body.len);
}

/* What the library itself answers, before any request is executed. */
static void own_reply(struct conn *c, int status, const char *body)
{
        struct dbl_reply reply = { .status = status };

        if (body)
                cc_buf_str(&reply.body, body);
        format_reply(&c->out, "Firecracker API", "application/json", &reply);
        cc_buf_free(&reply.body);
}

/* ---- lost answers ------------------------------------------------------------------------- */

static char *lost_key(const struct dbl_request *r)
{
        return xasprintf("%s %s\n%s", r->method, r->target, r->body.len ? r->body.data : "");
}

static void remember_lost(struct dbl_server *s, const struct job *job)
{
        if (cc_streq(job->request.method, "GET"))
                return;
        if (s->n_lost == LOST_MAX) {
                free(s->lost[0].key);
                memmove(&s->lost[0], &s->lost[1], (LOST_MAX - 1) * sizeof(s->lost[0]));
                s->n_lost--;
        }
        s->lost[s->n_lost].key = lost_key(&job->request);
        s->lost[s->n_lost++].n = job->n;
}

static void check_lost(struct dbl_server *s, const struct job *job)
{
        CC_FREE char *key = lost_key(&job->request);

        if (s->form->repeatable && s->form->repeatable(s->ctx, &job->request))
                return;
        for (size_t i = 0; i < s->n_lost; i++)
                if (cc_streq(s->lost[i].key, key))
                        dbl_journal_add(s->journal, "retry-violation",
                                        json_pack("{s:I, s:I, s:s}", "n", (json_int_t)job->n,
                                                  "first", (json_int_t)s->lost[i].n, "endpoint",
                                                  job->endpoint));
}

/* ---- the way of a request ----------------------------------------------------------------- */

static void journal_request(struct dbl_server *s, const struct job *job)
{
        json_t *fields = json_pack("{s:I, s:s, s:s, s:s}", "n", (json_int_t)job->n, "endpoint",
                                   job->endpoint, "method", job->request.method, "path",
                                   job->request.target);

        if (job->request.has_body)
                json_object_set_new(
                        fields, "body",
                        dbl_journal_value(job->request.body.data, job->request.body.len));
        dbl_journal_add(s->journal, "request", fields);
}

static void journal_reply(struct dbl_server *s, const struct job *job, bool lost)
{
        json_t *fields =
                json_pack("{s:I, s:s}", "n", (json_int_t)job->n, "endpoint", job->endpoint);

        if (!lost)
                json_object_set_new(fields, "status", json_integer(job->reply.status));
        if (!lost && job->reply.body.len)
                json_object_set_new(fields, "body",
                                    dbl_journal_value(job->reply.body.data, job->reply.body.len));
        if (job->fault.kind)
                json_object_set_new(fields, "fault", json_string(dbl_fault_name(job->fault.kind)));
        dbl_journal_add(s->journal, "reply", fields);
}

static void next_job(struct dbl_server *s);

/* True if the client has hung up. */
static bool gone(const struct conn *c)
{
        struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };

        return poll(&p, 1, 0) > 0;
}

static bool executed(const struct job *job)
{
        return job->fault.kind != DBL_FAULT_REPLY && job->fault.kind != DBL_FAULT_RAW;
}

/* The first job is through: its answer goes out, or with `lost` its connection is closed. */
static void finish(struct dbl_server *s, bool lost)
{
        struct job job = s->queue[0];
        struct conn *c = job.conn;

        s->n_queue--;
        memmove(&s->queue[0], &s->queue[1], s->n_queue * sizeof(*s->queue));
        s->busy = false;
        if (gone(c) && !lost && executed(&job))
                remember_lost(s, &job);
        journal_reply(s, &job, lost);
        c->in_flight--;
        c->owes = true;
        if (lost || c->closed) {
                close_conn(s, c);
        } else if (job.fault.kind == DBL_FAULT_RAW) {
                cc_buf_add(&c->out, job.reply.body.data ? job.reply.body.data : "",
                           job.reply.body.len);
                c->close_after = true;
        } else {
                size_t before = c->out.len;

                format_reply(&c->out, s->form->server, s->form->content_type, &job.reply);
                if (job.fault.kind == DBL_FAULT_CUT &&
                    c->out.len > before + (size_t)job.fault.bytes) {
                        c->out.len = before + (size_t)job.fault.bytes;
                        c->close_after = true;
                }
        }
        if (c->close_after && !c->out.len)
                close_conn(s, c);
        dbl_request_free(&job.request);
        cc_buf_free(&job.reply.body);
        json_decref(job.fault.body);
}

static void finish_timer(void *arg)
{
        struct dbl_server *s = arg;

        finish(s, false);
        next_job(s);
}

static void hold(struct dbl_server *s, int64_t ms, dbl_timer_fn *then)
{
        s->busy = true;
        watch_all(s);
        if (then)
                dbl_loop_at(s->loop, cc_monotonic() + ms * CC_NSEC_PER_MSEC, then, s);
}

static void execute(struct dbl_server *s)
{
        struct job *job = &s->queue[0];
        bool lost;

        s->form->handle(s->ctx, &job->request, &job->reply);
        lost = job->fault.kind == DBL_FAULT_DROP_AFTER || job->reply.drop;
        if (lost || job->fault.kind == DBL_FAULT_CUT)
                remember_lost(s, job);
        if (job->fault.kind == DBL_FAULT_CRASH_AFTER)
                (void)kill(getpid(), SIGKILL);
        if (job->fault.kind == DBL_FAULT_DELAY_AFTER)
                hold(s, job->fault.ms, finish_timer);
        else
                finish(s, lost);
}

static void execute_timer(void *arg)
{
        struct dbl_server *s = arg;

        s->busy = false;
        execute(s);
        next_job(s);
}

static void fault_reply(struct job *job)
{
        job->reply.status = job->fault.status;
        if (json_is_string(job->fault.body))
                dbl_reply_text(&job->reply, job->fault.status, json_string_value(job->fault.body));
        else if (job->fault.body)
                dbl_reply_json(&job->reply, job->fault.status, json_incref(job->fault.body));
}

static void start(struct dbl_server *s)
{
        struct job *job = &s->queue[0];

        job->n = ++s->count;
        s->form->endpoint(&job->request, job->endpoint, sizeof(job->endpoint));
        job->fault = dbl_faults_next(s->faults, job->endpoint);
        journal_request(s, job);
        check_lost(s, job);
        switch (job->fault.kind) {
        case DBL_FAULT_CRASH:
                (void)kill(getpid(), SIGKILL);
                break;
        case DBL_FAULT_DROP_BEFORE:
                finish(s, true);
                break;
        case DBL_FAULT_REPLY:
        case DBL_FAULT_RAW:
                fault_reply(job);
                finish(s, false);
                break;
        case DBL_FAULT_DELAY:
                hold(s, job->fault.ms, execute_timer);
                break;
        case DBL_FAULT_HANG:
                hold(s, 0, NULL);
                break;
        default:
                execute(s);
        }
}

static void next_job(struct dbl_server *s)
{
        while (s->n_queue && !s->busy)
                start(s);
        watch_all(s);
}

/* ---- connections -------------------------------------------------------------------------- */

static void enqueue(struct dbl_server *s, struct conn *c, struct dbl_request *request)
{
        s->queue = xreallocarray(s->queue, s->n_queue + 1, sizeof(*s->queue));
        s->queue[s->n_queue++] = (struct job){ .conn = c, .request = *request };
        c->in_flight++;
}

/* A parse error discards what this connection asked before in the same read. */
static void discard_last(struct dbl_server *s, struct conn *c, size_t n)
{
        for (; n; n--) {
                dbl_request_free(&s->queue[--s->n_queue].request);
                c->in_flight--;
        }
}

static void read_conn(struct dbl_server *s, struct conn *c)
{
        size_t room, parsed = 0;
        char *into = dbl_parser_room(&c->parser, &room);
        ssize_t n = recv(c->fd, into, room, MSG_DONTWAIT);
        struct dbl_request request;
        CC_FREE char *error = NULL;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                close_conn(s, c);
                return;
        }
        dbl_parser_feed(&c->parser, (size_t)n);
        for (;;) {
                switch (dbl_parse(&c->parser, &request, &error)) {
                case DBL_PARSE_REQUEST:
                        enqueue(s, c, &request);
                        parsed++;
                        continue;
                case DBL_PARSE_CONTINUE:
                        own_reply(c, 100, NULL);
                        continue;
                case DBL_PARSE_ERROR: {
                        CC_FREE char *body = xasprintf(
                                "{ \"error\": \"%s\nAll previous unanswered requests will be "
                                "dropped.\" }",
                                error);

                        discard_last(s, c, parsed);
                        own_reply(c, 400, body);
                        dbl_journal_add(s->journal, "bad-request",
                                        json_pack("{s:s}", "why", error));
                        return;
                }
                case DBL_PARSE_MORE:
                        return;
                }
        }
}

static void write_conn(struct dbl_server *s, struct conn *c)
{
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) {
                close_conn(s, c);
                return;
        }
        c->out.len -= (size_t)n;
        memmove(c->out.data, c->out.data + n, c->out.len);
        if (c->out.len)
                return;
        if (c->close_after)
                close_conn(s, c);
        else
                answered(s, c);
}

static void on_conn(void *arg, int fd, short revents)
{
        struct dbl_server *s = arg;
        struct conn *c = s->conns;

        while (c->fd != fd)
                c++;
        /* A client that shuts its side down is gone, whatever it still wanted to read. */
        if (revents & (POLLERR | POLLHUP | POLLRDHUP | POLLNVAL))
                close_conn(s, c);
        else if (revents & POLLIN)
                read_conn(s, c);
        else if (revents & POLLOUT)
                write_conn(s, c);
        next_job(s);
}

static void on_listener(void *arg, int fd, short revents)
{
        static const char full[] =
                "HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
                "Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }";
        struct dbl_server *s = arg;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct conn *c = s->conns;

        if (client < 0)
                return;
        while (c < s->conns + CONNECTIONS_MAX && c->fd >= 0)
                c++;
        if (c == s->conns + CONNECTIONS_MAX) {
                (void)send(client, full, strlen(full), MSG_NOSIGNAL);
                close(client);
                return;
        }
        *c = (struct conn){ .fd = client,
                            .parser = { .body_max = s->form->body_max,
                                        .allow_delete = s->form->allow_delete } };
        watch_conn(s, c);
}

struct dbl_server *dbl_server_new(struct dbl_loop *loop, struct dbl_journal *journal,
                                  struct dbl_faults *faults, const struct dbl_server_form *form,
                                  void *ctx, int listener)
{
        struct dbl_server *s = xcalloc(1, sizeof(*s));

        s->loop = loop;
        s->journal = journal;
        s->faults = faults;
        s->form = form;
        s->ctx = ctx;
        s->listener = listener;
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
                s->conns[i].fd = -1;
        watch_all(s);
        return s;
}

void dbl_server_free(struct dbl_server *s)
{
        if (!s)
                return;
        for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
                struct conn *c = &s->conns[i];

                if (c->fd < 0)
                        continue;
                dbl_loop_unwatch(s->loop, c->fd);
                /* Answers given are delivered, whatever ended the process. */
                if (c->out.len)
                        (void)send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
                close(c->fd);
                cc_buf_free(&c->out);
                dbl_parser_free(&c->parser);
        }
        for (size_t i = 0; i < s->n_queue; i++) {
                dbl_request_free(&s->queue[i].request);
                cc_buf_free(&s->queue[i].reply.body);
                json_decref(s->queue[i].fault.body);
        }
        for (size_t i = 0; i < s->n_lost; i++)
                free(s->lost[i].key);
        free(s->queue);
        dbl_loop_unwatch(s->loop, s->listener);
        close(s->listener);
        free(s);
}
