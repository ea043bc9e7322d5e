/* libcurl behind one call, driven by curl_multi so that a signal ends a wait. See http.h. */
#include "image/pull/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "version.h"

enum {
        MAX_TRIES = 3,
        MAX_REDIRECTS = 10,
        CONNECT_TIMEOUT_S = 30,
        STALL_BYTES_PER_S = 1024,
        STALL_S = 30,
        RETRY_AFTER_MAX_S = 120,
        ERROR_BODY_MAX = 64 * 1024,
        HEADER_MAX = 16 * 1024,
};

struct http {
        CURL *easy;
        CURLM *multi;
        const struct cancel *cancel;
        long stall_s;
        int backoff_ms[MAX_TRIES - 1];
};

/* What the callbacks of one transfer need. */
struct transfer {
        struct http *h;
        const struct http_request *rq;
        struct http_response r;
        struct cc_err sink_err;
        bool sink_failed, too_large;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_init_result;

static void curl_init(void)
{
        curl_init_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* Tests shorten the waits; nobody else should need to. */
static long env_number(const char *name, long fallback)
{
        const char *s = getenv(name);
        long long v;

        if (cc_isempty(s) || cc_parse_i64(s, &v) < 0 || v < 1 || v > 3600 * 1000)
                return fallback;
        return (long)v;
}

void http_free(struct http *h)
{
        if (!h)
                return;
        if (h->easy)
                curl_easy_cleanup(h->easy);
        if (h->multi)
                curl_multi_cleanup(h->multi);
        free(h);
}

void http_freep(struct http **h)
{
        http_free(*h);
}

int http_new(const struct cancel *cancel, struct http **ret, struct cc_err *err)
{
        HTTP struct http *h = xcalloc(1, sizeof(*h));

        (void)pthread_once(&curl_once, curl_init);
        if (curl_init_result != CURLE_OK)
                return cc_fail(err, CC_UNAVAILABLE, "start libcurl: %s",
                               curl_easy_strerror(curl_init_result));
        h->easy = curl_easy_init();
        h->multi = curl_multi_init();
        if (!h->easy || !h->multi)
                return cc_fail(err, CC_INTERNAL, "start libcurl");
        h->cancel = cancel;
        h->stall_s = env_number("COCOON_HTTP_STALL_SECONDS", STALL_S);
        h->backoff_ms[0] = (int)env_number("COCOON_HTTP_RETRY_MS", 1000);
        h->backoff_ms[1] = 3 * h->backoff_ms[0];
        *ret = TAKE_PTR(h);
        return 0;
}

const struct cancel *http_cancel(const struct http *h)
{
        return h->cancel;
}

void http_response_clear(struct http_response *r)
{
        free(r->content_type);
        free(r->challenge);
        free(r->etag);
        free(r->last_modified);
        free(r->url);
        cc_buf_free(&r->body);
        memset(r, 0, sizeof(*r));
        r->content_length = r->range_start = r->range_last = r->range_total = -1;
}

/* The value if `line` is that header, else NULL. */
static char *header_value(const char *line, const char *name)
{
        size_t n = strlen(name);

        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
                return NULL;
        line += n + 1;
        line += strspn(line, " \t");
        n = strlen(line);
        while (n && isspace((unsigned char)line[n - 1]))
                n--;
        return xstrndup(line, n);
}

static void take_header(struct http_response *r, const char *line)
{
        char *v = NULL;

        if (cc_startswith(line, "HTTP/")) {
                /* A new response: a redirect's headers must not be mistaken for the final ones. */
                http_response_clear(r);
                return;
        }
        if ((v = header_value(line, "Content-Type"))) {
                v[strcspn(v, "; ")] = '\0';
                free(r->content_type);
                r->content_type = v;
        } else if ((v = header_value(line, "WWW-Authenticate"))) {
                if (!r->challenge || strncasecmp(v, "Bearer ", 7) == 0) {
                        free(r->challenge);
                        r->challenge = v;
                } else {
                        free(v);
                }
        } else if ((v = header_value(line, "ETag"))) {
                free(r->etag);
                r->etag = v;
        } else if ((v = header_value(line, "Last-Modified"))) {
                free(r->last_modified);
                r->last_modified = v;
        } else if ((v = header_value(line, "Content-Range"))) {
                long long start;
                long long last;
                long long total = -1;
                int n;

                /* Too large a number saturates, and the checks behind it refuse that. A total of
                 * "*" is not known. */
                /* NOLINTNEXTLINE(cert-err34-c) */
                n = sscanf(v, "bytes %lld-%lld/%lld", &start, &last, &total);
                if (n >= 2 && start >= 0 && last >= start && (n == 2 || total > last)) {
                        r->range_start = start;
                        r->range_last = last;
                        r->range_total = total;
                }
                free(v);
        }
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
        struct transfer *t = ctx;

        n *= size;
        if (n < HEADER_MAX) {
                CC_FREE char *line = xstrndup(data, n);

                take_header(&t->r, line);
        }
        return n;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
        struct transfer *t = ctx;
        curl_off_t length = -1;
        size_t max;

        n *= size;
        (void)curl_easy_getinfo(t->h->easy, CURLINFO_RESPONSE_CODE, &t->r.status);
        (void)curl_easy_getinfo(t->h->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        t->r.content_length = length;
        if (t->rq->sink && t->r.status >= 200 && t->r.status < 300) {
                if (t->rq->sink(t->rq->sink_ctx, &t->r, data, n, &t->sink_err) < 0) {
                        t->sink_failed = true;
                        return CURL_WRITEFUNC_ERROR;
                }
                return n;
        }
        max = t->r.status < 300 ? t->rq->max : ERROR_BODY_MAX;
        if (n > max - t->r.body.len) {
                if (t->r.status >= 300)
                        return n; /* only for a message: the rest does not matter */
                t->too_large = true;
                return CURL_WRITEFUNC_ERROR;
        }
        cc_buf_add(&t->r.body, data, n);
        return n;
}

char *http_host_of(const char *url)
{
        const char *p = strstr(url, "://");

        size_t n;

        p = p ? p + 3 : url;
        n = strcspn(p, "/?#");
        for (size_t i = n; i-- > 0;)
                if (p[i] == '@')
                        return xstrndup(p + i + 1, n - i - 1);
        return xstrndup(p, n);
}

char *http_escape(const char *s)
{
        CC_BUF struct cc_buf b = { 0 };

        for (; *s; s++) {
                if (isalnum((unsigned char)*s) || strchr("-._~", *s))
                        cc_buf_char(&b, *s);
                else
                        cc_buf_printf(&b, "%%%02X", (unsigned char)*s);
        }
        return cc_buf_take(&b);
}

static int set_options(struct http *h, const struct http_request *rq, struct transfer *t,
                       struct curl_slist *headers, char *errbuf)
{
        CURL *c = h->easy;
        CURLcode r = CURLE_OK;

        curl_easy_reset(c);
#define SET(opt, value)                                                                            \
        do {                                                                                       \
                if (r == CURLE_OK)                                                                 \
                        r = curl_easy_setopt(c, opt, value);                                       \
        } while (0)
        SET(CURLOPT_URL, rq->url);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_ERRORBUFFER, errbuf);
        SET(CURLOPT_USERAGENT, "cocoon/" COCOON_VERSION);
        SET(CURLOPT_PROTOCOLS_STR, "http,https");
        SET(CURLOPT_FOLLOWLOCATION, 1L);
        SET(CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
        SET(CURLOPT_REDIR_PROTOCOLS_STR, rq->allow_http ? "http,https" : "https");
        SET(CURLOPT_UNRESTRICTED_AUTH, 0L);
        SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
        SET(CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_S);
        SET(CURLOPT_LOW_SPEED_TIME, h->stall_s);
        SET(CURLOPT_HTTPHEADER, headers);
        SET(CURLOPT_HEADERFUNCTION, on_header);
        SET(CURLOPT_HEADERDATA, t);
        SET(CURLOPT_WRITEFUNCTION, on_body);
        SET(CURLOPT_WRITEDATA, t);
        /* Only a wish: refused once a transfer has failed before it read anything, as on a retry.
         */
        (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
        if (rq->bearer) {
                /* The option, not a raw header: libcurl drops it on a redirect to another host. */
                SET(CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
                SET(CURLOPT_XOAUTH2_BEARER, rq->bearer);
        } else if (rq->basic) {
                SET(CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
                SET(CURLOPT_USERPWD, rq->basic);
        }
        if (rq->form)
                SET(CURLOPT_POSTFIELDS, rq->form);
        if (cc_streq(rq->method, "HEAD"))
                SET(CURLOPT_NOBODY, 1L);
#undef SET
        return r == CURLE_OK ? 0 : -1;
}

/* Drive the one transfer until it is done or cancelled. */
static CURLcode perform(struct http *h, bool *ret_cancelled)
{
        CURLcode result = CURLE_FAILED_INIT;
        int running = 1;

        if (curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
                return CURLE_FAILED_INIT;
        while (running) {
                struct curl_waitfd extra[2] = {
                        { .fd = h->cancel->fd, .events = CURL_WAIT_POLLIN },
                        { .fd = cc_interrupt_fd(), .events = CURL_WAIT_POLLIN },
                };
                /* poll() in libcurl refuses negative descriptors of ours: list only real ones. */
                unsigned n = extra[1].fd >= 0 ? 2 : 1;

                if (cancel_pending(h->cancel)) {
                        *ret_cancelled = true;
                        break;
                }
                if (curl_multi_perform(h->multi, &running) != CURLM_OK)
                        break;
                if (running && curl_multi_poll(h->multi, extra, n, 1000, NULL) != CURLM_OK)
                        break;
        }
        for (;;) {
                int left;
                const CURLMsg *msg = curl_multi_info_read(h->multi, &left);

                if (!msg)
                        break;
                if (msg->msg == CURLMSG_DONE)
                        result = msg->data.result;
        }
        (void)curl_multi_remove_handle(h->multi, h->easy);
        return result;
}

static struct curl_slist *build_headers(const struct http_request *rq)
{
        struct curl_slist *list = NULL;

        if (rq->accept) {
                CC_FREE char *h = xasprintf("Accept: %s", rq->accept);

                list = curl_slist_append(list, h);
        }
        if (rq->identity)
                list = curl_slist_append(list, "Accept-Encoding: identity");
        if (rq->offset > 0 || rq->last > 0) {
                CC_FREE char *range =
                        rq->last > 0 ? xasprintf("Range: bytes=%lld-%lld", (long long)rq->offset,
                                                 (long long)rq->last)
                                     : xasprintf("Range: bytes=%lld-", (long long)rq->offset);

                list = curl_slist_append(list, range);
                if (rq->etag) {
                        CC_FREE char *h = xasprintf("If-Range: %s", rq->etag);

                        list = curl_slist_append(list, h);
                }
        }
        return list;
}

static int transfer_error(const struct http *h, const struct http_request *rq,
                          const struct transfer *t, CURLcode code, const char *text,
                          struct cc_err *err)
{
        CC_FREE char *host = http_host_of(rq->url);

        if (t->sink_failed)
                return cc_err_copy(err, &t->sink_err);
        if (t->too_large)
                return cc_fail(err, CC_INVALID, "%s: the answer is larger than %zu bytes", host,
                               rq->max);
        if (code == CURLE_OPERATION_TIMEDOUT)
                return cc_fail(err, CC_TIMEOUT, "%s: no answer, or less than %d bytes/s for %ld s",
                               host, STALL_BYTES_PER_S, h->stall_s);
        if (code == CURLE_TOO_MANY_REDIRECTS)
                return cc_fail(err, CC_INVALID, "%s: redirected more than %d times", host,
                               MAX_REDIRECTS);
        /* A URL, or a redirect to one, that no repetition can mend. */
        if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT)
                return cc_fail(err, CC_INVALID, "%s: %s", host,
                               *text ? text : curl_easy_strerror(code));
        return cc_fail(err, CC_NETWORK, "%s: %s", host, *text ? text : curl_easy_strerror(code));
}

int http_once(struct http *h, const struct http_request *rq, struct http_response *ret,
              struct cc_err *err)
{
        struct transfer t = { .h = h, .rq = rq };
        char text[CURL_ERROR_SIZE] = "";
        struct curl_slist *headers = build_headers(rq);
        curl_off_t retry_after = 0;
        const char *effective = NULL;
        bool cancelled = false;
        CURLcode code;
        int r;

        http_response_clear(&t.r);
        if (set_options(h, rq, &t, headers, text) < 0) {
                curl_slist_free_all(headers);
                return cc_fail(err, CC_INTERNAL, "libcurl lacks an option cocoon needs");
        }
        code = perform(h, &cancelled);
        (void)curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &t.r.status);
        (void)curl_easy_getinfo(h->easy, CURLINFO_RETRY_AFTER, &retry_after);
        t.r.retry_after = retry_after;
        (void)curl_easy_getinfo(h->easy, CURLINFO_EFFECTIVE_URL, &effective);
        t.r.url = xstrdup0(effective);
        curl_easy_reset(h->easy);
        curl_slist_free_all(headers);
        if (cancelled)
                r = cc_fail(err, CC_CANCELED, "canceled");
        else if (code != CURLE_OK)
                r = transfer_error(h, rq, &t, code, text, err);
        else
                r = 0;
        if (r < 0) {
                http_response_clear(&t.r);
                return r;
        }
        *ret = t.r;
        return 0;
}

bool http_status_retryable(long status)
{
        static const int codes[] = { 408, 429, 499, 500, 502, 503, 504, 522 };

        for (size_t i = 0; i < CC_ARRAY_LEN(codes); i++)
                if (status == codes[i])
                        return true;
        return false;
}

bool http_backoff(struct http *h, int next, int64_t retry_after)
{
        int ms;

        if (next < 1 || next >= MAX_TRIES || retry_after > RETRY_AFTER_MAX_S)
                return false;
        ms = h->backoff_ms[next - 1];
        if (retry_after * 1000 > ms)
                ms = (int)retry_after * 1000;
        return cancel_sleep(h->cancel, ms);
}

int http_get(struct http *h, const struct http_request *rq, struct http_response *ret,
             struct cc_err *err)
{
        for (int next = 1;; next++) {
                struct cc_err e = CC_ERR_INIT;
                HTTP_RESPONSE struct http_response r = { 0 };
                int res = http_once(h, rq, &r, &e);

                if (res == 0 && http_status_retryable(r.status) &&
                    http_backoff(h, next, r.retry_after))
                        continue;
                if (res == 0) {
                        *ret = r;
                        memset(&r, 0, sizeof(r));
                        return 0;
                }
                if ((e.class == CC_NETWORK || e.class == CC_TIMEOUT) && http_backoff(h, next, 0))
                        continue;
                if (cancel_pending(h->cancel))
                        return cc_fail(err, CC_CANCELED, "canceled");
                return cc_err_copy(err, &e);
        }
}
