/*
 * Fetching a file in ranges. See url.h.
 *
 * The probe asks for the first eight bytes. A 206 with a total size starts the parallel mode: the
 * file is cut into parts that idle connections take one after the other, each retried by itself
 * from its last byte. Anything else is taken as the whole file, as it streams (serial mode).
 *
 * Parts of different files must never mix: every range carries the probe's validator (If-Range) and
 * every answer must repeat the probe's total size. The journal names URL, size, validator and boot;
 * after a crash of the machine the data behind its notes may not be on disk, so it counts for
 * nothing then.
 */
#include "image/pull/url.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/size.h"
#include "base/sys.h"
#include "image/pull/http.h"
#include "image/pull/sniff.h"
#include "image/pull/work.h"

enum {
        PART_MIN = 1 << 18,
        PART_MAX = 1 << 24,
        PARTS_PER_CONNECTION = 4,
        PROGRESS_RESETS_TRIES = 1 << 20,
        MIN_FILE = 4,
        JOURNAL_MAX = 1 << 20,
};

struct download {
        const struct url_fetch *f;
        int fd;
        int journal; /* append-only; -1: the server gives nothing to resume by */
        char *final; /* URL after redirects */
        char *validator;
        int64_t total, part;
        size_t n_parts;
        bool *done;
        bool any_done;
        bool settled; /* the server was heard: what an earlier call left was judged, or is gone */
        struct http **clients;
        size_t n_clients;
        pthread_mutex_t lock; /* guards have, any_done and the progress callback */
        int64_t have;
};

static void download_free(struct download *d)
{
        for (size_t i = 0; i < d->n_clients; i++)
                http_free(d->clients[i]);
        free(d->clients);
        free(d->final);
        free(d->validator);
        free(d->done);
        if (d->fd >= 0)
                close(d->fd);
        if (d->journal >= 0)
                close(d->journal);
        (void)pthread_mutex_destroy(&d->lock);
}

static void got(struct download *d, int64_t n)
{
        (void)pthread_mutex_lock(&d->lock);
        d->have += n;
        if (d->f->progress)
                d->f->progress(d->f->ctx, d->have, d->total);
        (void)pthread_mutex_unlock(&d->lock);
}

static int canceled(struct cc_err *err)
{
        return cc_fail(err, CC_CANCELED, "canceled");
}

static int write_at(int fd, const void *data, size_t n, int64_t at, struct cc_err *err)
{
        const char *p = data;

        while (n) {
                ssize_t w = cc_sys.pwrite(fd, p, n, at);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w < 0)
                        return cc_fail_errno(err, errno, "write the download");
                p += w;
                n -= (size_t)w;
                at += w;
        }
        return 0;
}

static int check_size(const struct download *d, int64_t size, struct cc_err *err)
{
        char limit[24];

        if (size <= d->f->config->cloudimg_max_size)
                return 0;
        cc_size_format(d->f->config->cloudimg_max_size, limit);
        (void)cc_fail(err, CC_INVALID, "the file is larger than %s", limit);
        cc_hint(err, "cloudimg_max_size in the configuration raises the limit");
        return -CC_INVALID;
}

/* The beginning alone tells most files that are no disks. */
static int check_head(const void *head, size_t n, struct cc_err *err)
{
        const char *what = sniff_no_disk(head, n);

        if (n < MIN_FILE)
                return cc_fail(err, CC_INVALID, "the file is too small: %zu bytes", n);
        if (what)
                return cc_fail(err, CC_INVALID, "the URL leads to %s, not to a disk image", what);
        return 0;
}

static int status_error(const struct download *d, long status, struct cc_err *err)
{
        CC_FREE char *host = http_host_of(d->f->url);

        if (status == 401 || status == 403)
                return cc_fail(err, CC_AUTH, "%s refuses access (HTTP status %ld)", host, status);
        if (status == 404 || status == 410)
                return cc_fail(err, CC_NOT_FOUND, "%s has no such file (HTTP status %ld)", host,
                               status);
        return cc_fail(err, CC_NETWORK, "%s answered with HTTP status %ld", host, status);
}

static bool worth_retrying(const struct cc_err *e, long status)
{
        if (status >= 300)
                return http_status_retryable(status);
        return e->class == CC_NETWORK || e->class == CC_TIMEOUT;
}

static struct http_request request(const struct download *d, const char *url)
{
        return (struct http_request){
                .url = url,
                .identity = true,
                /* A redirect must not take away what the user asked for. */
                .allow_http = strncasecmp(d->f->url, "http:", 5) == 0,
                .etag = d->validator,
                .max = PART_MIN,
        };
}

/* ---- one answer that may be everything ---- */

struct stream {
        struct download *d;
        uint8_t head[SNIFF_MAGIC_LEN];
        size_t head_len;
        int64_t have;
        bool ranges; /* a 206 with a size: only the head was sent */
        int64_t total;
};

static int on_stream(void *ctx, const struct http_response *r, const void *data, size_t n,
                     struct cc_err *err)
{
        struct stream *s = ctx;
        size_t take = sizeof(s->head) - s->head_len;
        bool judged = take == 0;
        int res = 0;

        take = n < take ? n : take;
        memcpy(s->head + s->head_len, data, take);
        s->head_len += take;
        if (r->status == 206) {
                if (r->range_start != 0 || n > take)
                        return cc_fail(err, CC_NETWORK,
                                       "the server answered with another range than asked for");
                s->ranges = r->range_total > 0;
                s->total = r->range_total;
                return 0;
        }
        if (s->have == 0) {
                s->d->settled = true;
                if (cc_sys.ftruncate(s->d->fd, 0) < 0)
                        return cc_fail_errno(err, errno, "truncate %s", s->d->f->path);
        }
        s->total = r->content_length > 0 ? r->content_length : 0;
        res = check_size(s->d, s->total > s->have + (int64_t)n ? s->total : s->have + (int64_t)n,
                         err);
        if (res == 0 && !judged && s->head_len == sizeof(s->head))
                res = check_head(s->head, s->head_len, err);
        if (res == 0)
                res = write_at(s->d->fd, data, n, s->have, err);
        if (res < 0)
                return res;
        s->have += (int64_t)n;
        s->d->total = s->total;
        got(s->d, (int64_t)n);
        return 0;
}

/* One request that is answered with the whole file (*ret true), or with its beginning and the news
 * that ranges work. */
static int stream_once(struct download *d, bool range, struct http_response *answer,
                       bool *ret_whole, struct cc_err *err)
{
        struct stream s = { .d = d };
        struct http_request rq = request(d, d->f->url);
        int r;

        d->have = 0;
        if (range)
                rq.last = SNIFF_MAGIC_LEN - 1;
        rq.etag = NULL;
        rq.sink = on_stream;
        rq.sink_ctx = &s;
        r = http_once(d->clients[0], &rq, answer, err);
        if (r < 0)
                return r;
        if (answer->status == 416)
                return cc_fail(err, CC_INVALID, "the file is too small: it is empty");
        if (answer->status != 200 && answer->status != 206)
                return status_error(d, answer->status, err);
        r = check_head(s.head, s.head_len, err);
        if (r < 0)
                return r;
        *ret_whole = answer->status == 200;
        if (s.ranges) {
                d->total = s.total;
                return check_size(d, d->total, err);
        }
        if (answer->status == 206 && range) {
                /* Ranges, but of a file without an end. */
                http_response_clear(answer);
                return stream_once(d, false, answer, ret_whole, err);
        }
        return 0;
}

/* With retries from the start: there is nothing to resume by yet. */
static int probe(struct download *d, bool *ret_whole, struct cc_err *err)
{
        for (int next = 1;; next++) {
                HTTP_RESPONSE struct http_response answer = { 0 };
                struct cc_err e = CC_ERR_INIT;
                int r = stream_once(d, true, &answer, ret_whole, &e);

                if (r == 0) {
                        d->final = xstrdup(answer.url ? answer.url : d->f->url);
                        if (answer.etag && !cc_startswith(answer.etag, "W/"))
                                d->validator = TAKE_PTR(answer.etag);
                        else
                                d->validator = TAKE_PTR(answer.last_modified);
                        return 0;
                }
                if (cancel_pending(d->f->cancel))
                        return canceled(err);
                if (!worth_retrying(&e, answer.status) ||
                    !http_backoff(d->clients[0], next, answer.retry_after))
                        return cancel_pending(d->f->cancel) ? canceled(err) : cc_err_copy(err, &e);
        }
}

/* ---- the journal ---- */

static json_t *journal_head(const struct download *d)
{
        char boot[37];

        cc_boot_id(boot);
        return json_pack("{s:s, s:I, s:I, s:s, s:s}", "url", d->f->url, "total",
                         (json_int_t)d->total, "part", (json_int_t)d->part, "validator",
                         d->validator, "boot", boot);
}

/* Parts that an earlier process completed; a line that makes no sense ends the reading. */
static void journal_load(struct download *d)
{
        CC_FREE char *text = NULL;
        CC_FREE char *want = NULL;
        CC_JSON json_t *head = journal_head(d);
        struct stat st;
        char *p;
        size_t n;

        if (!head || fstat(d->fd, &st) < 0 || st.st_size != d->total ||
            cc_read_file(d->f->journal, JOURNAL_MAX, &text, &n, NULL) < 0)
                return;
        want = cc_json_compact(head);
        n = strlen(want);
        if (strncmp(text, want, n) != 0 || text[n] != '\n')
                return;
        for (p = text + n + 1; strchr(p, '\n'); p = strchr(p, '\n') + 1) {
                char *end;
                unsigned long i = strtoul(p, &end, 10);

                if (*end != '\n' || end == p || i >= d->n_parts)
                        return;
                if (d->done[i])
                        continue;
                d->done[i] = true;
                d->any_done = true;
                d->have += i + 1 < d->n_parts ? d->part : d->total - (int64_t)i * d->part;
        }
}

/* Open it for appending, anew unless something of it was used. No journal is no error. */
static void journal_open(struct download *d)
{
        CC_JSON json_t *head = journal_head(d);
        CC_FREE char *text = head ? cc_json_compact(head) : NULL;
        CC_FREE char *line = text ? xasprintf("%s\n", text) : NULL;
        int flags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC;

        if (!line)
                return;
        d->journal =
                cc_sys.openat(AT_FDCWD, d->f->journal, d->any_done ? flags : flags | O_TRUNC, 0600);
        if (d->journal >= 0 && !d->any_done &&
            cc_write_all(d->journal, line, strlen(line), NULL) < 0) {
                close(d->journal);
                d->journal = -1;
        }
}

static void journal_note(struct download *d, size_t part)
{
        char line[24];
        int n = snprintf(line, sizeof(line), "%zu\n", part);

        (void)pthread_mutex_lock(&d->lock);
        if (d->journal >= 0 && cc_write_all(d->journal, line, (size_t)n, NULL) == 0)
                d->any_done = true;
        (void)pthread_mutex_unlock(&d->lock);
}

/* ---- parts ---- */

struct part {
        struct download *d;
        int64_t at, end; /* next byte, and the one behind the last */
        bool begun;      /* the current answer was checked */
};

static int on_part(void *ctx, const struct http_response *r, const void *data, size_t n,
                   struct cc_err *err)
{
        struct part *p = ctx;
        int res;

        if (!p->begun) {
                if (r->status == 200)
                        return cc_fail(err, CC_CORRUPT,
                                       "the file changed on the server while it was fetched");
                if (r->status != 206 || r->range_start != p->at || r->range_last != p->end - 1)
                        return cc_fail(err, CC_NETWORK,
                                       "the server answered with another range than asked for");
                if (r->range_total != p->d->total)
                        return cc_fail(err, CC_CORRUPT,
                                       "the file changed on the server while it was fetched");
                p->begun = true;
        }
        if ((int64_t)n > p->end - p->at)
                return cc_fail(err, CC_NETWORK, "the server sent more than the range asked for");
        res = write_at(p->d->fd, data, n, p->at, err);
        if (res < 0)
                return res;
        p->at += (int64_t)n;
        got(p->d, (int64_t)n);
        return 0;
}

static int part_once(struct part *p, struct http *h, bool first, struct http_response *answer,
                     struct cc_err *err)
{
        struct download *d = p->d;
        /* What a redirect led to may have expired: ask the original again. */
        struct http_request rq = request(d, first ? d->final : d->f->url);
        int r;

        rq.offset = p->at;
        rq.last = p->end - 1;
        rq.sink = on_part;
        rq.sink_ctx = p;
        p->begun = false;
        r = http_once(h, &rq, answer, err);
        if (r < 0)
                return r;
        if (answer->status != 206 && answer->status != 200)
                return status_error(d, answer->status, err);
        if (p->at < p->end)
                return cc_fail(err, CC_NETWORK, "the server ended a range early");
        return 0;
}

/* A work_fn. */
static int fetch_part(void *ctx, size_t worker, size_t i, struct cc_err *err)
{
        struct download *d = ctx;
        struct http *h = d->clients[worker];
        struct part p = { .d = d, .at = (int64_t)i * d->part };
        int64_t last = p.at;
        int next = 1;
        bool first = true;

        p.end = p.at + d->part < d->total ? p.at + d->part : d->total;
        if (d->done[i])
                return 0;
        for (;;) {
                HTTP_RESPONSE struct http_response answer = { 0 };
                struct cc_err e = CC_ERR_INIT;
                bool expired;

                if (part_once(&p, h, first, &answer, &e) == 0) {
                        journal_note(d, i);
                        return cc_failpoint("url.part", err);
                }
                if (cancel_pending(d->f->cancel))
                        return canceled(err);
                expired = first && answer.status >= 400 && !cc_streq(d->final, d->f->url);
                first = false;
                if (!expired && !worth_retrying(&e, answer.status))
                        return cc_err_copy(err, &e);
                if (p.at - last >= PROGRESS_RESETS_TRIES)
                        next = 1;
                last = p.at;
                if (!http_backoff(h, next++, answer.retry_after))
                        return cancel_pending(d->f->cancel) ? canceled(err) : cc_err_copy(err, &e);
        }
}

static int fetch_parts(struct download *d, struct cc_err *err)
{
        size_t conns = d->f->config->pull_conns > 0 ? (size_t)d->f->config->pull_conns : 1;
        int64_t part = d->total / (int64_t)(conns * PARTS_PER_CONNECTION);
        int r = 0;

        part = part < PART_MIN ? PART_MIN : part > PART_MAX ? PART_MAX : part;
        d->part = part / PART_MIN * PART_MIN;
        d->n_parts = (size_t)((d->total + d->part - 1) / d->part);
        d->done = xcalloc(d->n_parts, sizeof(*d->done));
        d->settled = true;
        if (conns > d->n_parts)
                conns = d->n_parts;
        if (d->validator) {
                journal_load(d);
                journal_open(d);
        }
        if (cc_sys.ftruncate(d->fd, d->total) < 0)
                return cc_fail_errno(err, errno, "size %s", d->f->path);
        d->clients = xreallocarray(d->clients, conns + 1, sizeof(struct http *));
        while (d->n_clients < conns && r == 0) {
                r = http_new(d->f->cancel, &d->clients[d->n_clients], err);
                d->n_clients += r == 0 ? 1 : 0;
        }
        return r < 0 ? r : work_run(d->n_parts, conns, d->f->cancel, fetch_part, d, err);
}

static int run(struct download *d, struct cc_err *err)
{
        bool whole = false;
        int r;

        d->fd = cc_sys.openat(AT_FDCWD, d->f->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
                              0600);
        if (d->fd < 0)
                return cc_fail_errno(err, errno, "create %s", d->f->path);
        d->clients = xcalloc(1, sizeof(struct http *));
        r = http_new(d->f->cancel, &d->clients[0], err);
        if (r < 0)
                return r;
        d->n_clients = 1;
        r = probe(d, &whole, err);
        if (r < 0 || whole)
                return r;
        return fetch_parts(d, err);
}

int url_fetch(const struct url_fetch *f, bool *ret_resumable, struct cc_err *err)
{
        CC_CLEANUP(download_free) struct download d = { .f = f, .fd = -1, .journal = -1 };
        struct cc_err e = CC_ERR_INIT;
        bool earlier = cc_exists(f->journal);
        int r;

        (void)pthread_mutex_init(&d.lock, NULL);
        r = run(&d, &e);
        *ret_resumable = false;
        if (r == 0)
                return 0;
        if ((d.settled ? d.any_done : earlier) &&
            (e.class == CC_CANCELED || e.class == CC_NETWORK || e.class == CC_TIMEOUT)) {
                *ret_resumable = true;
        } else {
                (void)cc_unlink(f->path, NULL);
                (void)cc_unlink(f->journal, NULL);
        }
        return cc_err_copy(err, &e);
}
