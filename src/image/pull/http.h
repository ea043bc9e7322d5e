/*
 * One HTTP request over libcurl: time limits, redirects that never carry credentials to another
 * host, interruption, and the rule what to retry. What is asked for (tokens, manifests, blobs) is
 * decided by the callers; a struct http belongs to one thread and keeps its connections.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "image/pull/cancel.h"

struct http;

/* `cancel` must outlive the client. */
int http_new(const struct cancel *cancel, struct http **ret, struct cc_err *err);
void http_free(struct http *h);
void http_freep(struct http **h); /* cleanup function */
#define HTTP CC_CLEANUP(http_freep)

struct http_response {
        long status;
        char *content_type; /* without parameters, or NULL */
        char *challenge;    /* WWW-Authenticate, the Bearer one if there are several; or NULL */
        char *etag;
        int64_t retry_after;                          /* seconds, 0 unknown */
        int64_t content_length;                       /* -1 unknown */
        int64_t range_start, range_last, range_total; /* of Content-Range; -1 unknown */
        char *last_modified;
        char *url;          /* where the answer came from, after redirects */
        struct cc_buf body; /* unless a sink took it */
};
void http_response_clear(struct http_response *r); /* also the cleanup function */
#define HTTP_RESPONSE CC_CLEANUP(http_response_clear)

/* Takes the next bytes of a 2xx body; the headers are in `r` already. A failure ends the request
 * with that error. */
typedef int (*http_sink_fn)(void *ctx, const struct http_response *r, const void *data, size_t n,
                            struct cc_err *err);

struct http_request {
        const char *url;
        const char *method; /* NULL: GET, or POST with a form */
        const char *accept; /* NULL: anything */
        const char *form;   /* application/x-www-form-urlencoded body */
        const char *bearer; /* token, or NULL */
        const char *basic;  /* "user:password", or NULL */
        int64_t offset;     /* > 0: Range: bytes=offset- */
        int64_t last;       /* > 0: Range: bytes=offset-last */
        const char *etag;   /* If-Range with a range: an ETag or a date */
        bool identity;      /* the bytes as stored: no content coding */
        bool allow_http;    /* redirects may go to plain http */
        size_t max;         /* bound of a body kept in memory */
        http_sink_fn sink;  /* NULL: the body is kept in memory */
        void *sink_ctx;
};

/*
 * One try. 0 with *ret for every HTTP status; NETWORK or TIMEOUT when no complete answer came,
 * CANCELED, INVALID for a body above `max`, or the sink's own error. A class of NETWORK or TIMEOUT
 * may be retried. Errors never show query strings.
 */
int http_once(struct http *h, const struct http_request *rq, struct http_response *ret,
              struct cc_err *err);

/* http_once() with up to three tries (1 s and 3 s apart, or Retry-After). Not for sinks. */
int http_get(struct http *h, const struct http_request *rq, struct http_response *ret,
             struct cc_err *err);

/* 408, 429, 499, 500, 502, 503, 504, 522 (images.md §1.4). */
bool http_status_retryable(long status);

/*
 * Wait before try number `next` (1: the first repetition). `retry_after` in seconds as announced.
 * False when there are no tries left, the announced wait is above two minutes, or on cancellation.
 */
bool http_backoff(struct http *h, int next, int64_t retry_after);

/* The switch that the client was made with. */
const struct cancel *http_cancel(const struct http *h);

/* "HOST[:PORT]" of a URL, for messages: no user information. Caller frees. */
char *http_host_of(const char *url);

/* Percent-encode for a query or form value. Caller frees. */
char *http_escape(const char *s);
