#include "parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"

void dbl_request_free(struct dbl_request *r)
{
        free(r->method);
        free(r->target);
        cc_buf_free(&r->body);
        *r = (struct dbl_request){ 0 };
}

void dbl_parser_free(struct dbl_parser *p)
{
        dbl_request_free(&p->pending);
}

const char *dbl_request_path(const struct dbl_request *r)
{
        static const char scheme[] = "http://";
        const char *path = r->target;

        if (cc_startswith(path, scheme)) {
                path = strchr(path + strlen(scheme), '/');
                return path ? path : "";
        }
        return *path == '/' ? path : "";
}

char *dbl_parser_room(struct dbl_parser *p, size_t *ret_room)
{
        *ret_room = sizeof(p->window) - p->filled;
        return p->window + p->filled;
}

/* Index of the first byte that is not UTF-8, or -1. */
static long bad_utf8(const char *s, size_t n)
{
        if (cc_utf8_valid(s, n))
                return -1;
        for (size_t i = 1; i <= n; i++) {
                size_t tail = n - i < 3 ? n - i : 3;
                bool some = false;

                /* A prefix may end inside a character; then some longer one is valid. */
                for (size_t more = 0; more <= tail && !some; more++)
                        some = cc_utf8_valid(s, i + more);
                if (!some)
                        return (long)i - 1;
        }
        return 0;
}

static char *trimmed(const char *s, size_t n)
{
        while (n && strchr(" \t\r\n\v\f", *s)) {
                s++;
                n--;
        }
        while (n && strchr(" \t\r\n\v\f", s[n - 1]))
                n--;
        return xstrndup(s, n);
}

static char *parse_line(struct dbl_parser *p, const char *line, size_t n)
{
        static const char *const methods[] = { "GET", "PUT", "PATCH", "DELETE" };
        const char *uri = memchr(line, ' ', n);
        const char *version = uri ? memchr(uri + 1, ' ', n - (size_t)(uri + 1 - line)) : NULL;
        CC_FREE char *method = NULL;
        CC_FREE char *http = NULL;
        size_t known = p->allow_delete ? 4 : 3;
        size_t i;

        if (!version)
                return xstrdup("Invalid request.");
        method = xstrndup(line, (size_t)(uri - line));
        for (i = 0; i < known && !cc_streq(methods[i], method); i++)
                ;
        if (i == known)
                return xstrdup("Invalid HTTP Method: Unsupported HTTP method.");
        uri++;
        if (uri == version)
                return xstrdup("Invalid URI: Empty URI not allowed.");
        if (!cc_utf8_valid(uri, (size_t)(version - uri)))
                return xstrdup("Invalid URI: Cannot parse URI as UTF-8.");
        http = xstrndup(version + 1, n - (size_t)(version + 1 - line));
        if (!cc_streq(http, "HTTP/1.0") && !cc_streq(http, "HTTP/1.1"))
                return xstrdup("Invalid HTTP Version: Unsupported HTTP version.");
        dbl_request_free(&p->pending);
        p->pending = (struct dbl_request){ .method = TAKE_PTR(method),
                                           .target = xstrndup(uri, (size_t)(version - uri)),
                                           .http10 = cc_endswith(http, ".0") };
        p->content_length = 0;
        p->expect = false;
        p->state = DBL_PARSE_HEADERS;
        return NULL;
}

static char *parse_encoding(const char *value)
{
        CC_STRV struct cc_strv items = { 0 };
        const char *item;

        if (!*value)
                return xstrdup("Invalid request.");
        cc_split(value, ",", &items);
        cc_strv_foreach (&items, i, item) {
                if (cc_streq(item, "identity;q=0") ||
                    (cc_streq(item, "*;q=0") && !strstr(value, "identity")))
                        return xasprintf("Invalid header. Reason: Invalid value. "
                                         "Key:Accept-Encoding; Value:%s",
                                         item);
        }
        return NULL;
}

/* The length as the library's language reads a number: an optional plus, digits, 32 bits. */
static bool parse_length(const char *text, uint32_t *ret)
{
        char *end;
        unsigned long long n;

        text += *text == '+';
        if (*text < '0' || *text > '9')
                return false;
        errno = 0;
        n = strtoull(text, &end, 10);
        if (errno || *end || n > UINT32_MAX)
                return false;
        *ret = (uint32_t)n;
        return true;
}

static char *parse_header(struct dbl_parser *p, const char *line, size_t n)
{
        const char *colon;
        CC_FREE char *key = NULL;
        CC_FREE char *value = NULL;
        long bad = bad_utf8(line, n);

        if (bad >= 0)
                return xasprintf("Invalid header. Reason: Header contains invalid characters. "
                                 "Key: invalid utf-8 sequence of 1 bytes from index %ld",
                                 bad);
        colon = memchr(line, ':', n);
        if (!colon)
                return xasprintf(
                        "Invalid header. Reason: Header is incorrectly formatted. Key: %.*s",
                        (int)n, line);
        key = trimmed(line, (size_t)(colon - line));
        value = trimmed(colon + 1, n - (size_t)(colon + 1 - line));
        if (strcasecmp(key, "content-length") == 0) {
                if (!parse_length(value, &p->content_length))
                        return xasprintf("Invalid header. Reason: Invalid value. "
                                         "Key:%.*s; Value:%.*s",
                                         (int)(colon - line), line,
                                         (int)(n - (size_t)(colon + 1 - line)), colon + 1);
        } else if (strcasecmp(key, "expect") == 0) {
                p->expect |= cc_streq(value, "100-continue");
        } else if (strcasecmp(key, "accept-encoding") == 0) {
                return parse_encoding(value);
        }
        return NULL;
}

/* The blank line behind the headers. */
static char *end_headers(struct dbl_parser *p, bool *ret_expect)
{
        if (p->content_length > p->body_max)
                return xasprintf("Request payload with size %u is larger than the limit of %zu "
                                 "allowed by server.",
                                 p->content_length, p->body_max);
        p->body_left = p->content_length;
        p->pending.has_body = p->content_length > 0;
        *ret_expect = p->pending.has_body && p->expect;
        p->state = DBL_PARSE_BODY;
        return NULL;
}

/* Keep the unfinished line for the next read. A line that fills the window can never finish. After
 * an error nothing is kept: the next read overwrites this one. */
static char *keep_rest(struct dbl_parser *p)
{
        if (p->pos == 0 && p->end == sizeof(p->window)) {
                if (p->state == DBL_PARSE_LINE)
                        return xstrdup("Invalid request.");
                return xasprintf("Invalid header. Reason: Invalid content length. Header: %.*s",
                                 (int)sizeof(p->window), p->window);
        }
        memmove(p->window, p->window + p->pos, p->end - p->pos);
        p->filled = p->end - p->pos;
        return NULL;
}

/* A line of the head; true when *ret_event is to be reported. */
static bool step_head(struct dbl_parser *p, enum dbl_parse_event *ret_event, char **ret_error)
{
        const char *line = p->window + p->pos;
        const char *crlf = memmem(line, p->end - p->pos, "\r\n", 2);
        size_t n = crlf ? (size_t)(crlf - line) : 0;
        bool expect = false;

        if (!crlf) {
                *ret_error = keep_rest(p);
                *ret_event = *ret_error ? DBL_PARSE_ERROR : DBL_PARSE_MORE;
                return true;
        }
        p->pos += n + 2;
        if (p->state == DBL_PARSE_LINE)
                *ret_error = parse_line(p, line, n);
        else if (n > 0)
                *ret_error = parse_header(p, line, n);
        else
                *ret_error = end_headers(p, &expect);
        *ret_event = *ret_error ? DBL_PARSE_ERROR : DBL_PARSE_CONTINUE;
        return *ret_error || expect;
}

void dbl_parser_feed(struct dbl_parser *p, size_t n)
{
        p->pos = 0;
        p->end = p->filled + n;
}

enum dbl_parse_event dbl_parse(struct dbl_parser *p, struct dbl_request *ret_request,
                               char **ret_error)
{
        enum dbl_parse_event event;
        size_t take;

        while (p->state != DBL_PARSE_BODY)
                if (step_head(p, &event, ret_error))
                        return event;
        take = p->end - p->pos < p->body_left ? p->end - p->pos : p->body_left;
        cc_buf_add(&p->pending.body, p->window + p->pos, take);
        p->body_left -= (uint32_t)take;
        p->pos += take;
        if (p->body_left) {
                p->filled = 0;
                return DBL_PARSE_MORE;
        }
        *ret_request = p->pending;
        p->pending = (struct dbl_request){ 0 };
        p->state = DBL_PARSE_LINE;
        return DBL_PARSE_REQUEST;
}
