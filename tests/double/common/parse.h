/*
 * One side of an HTTP/1.1 connection as the VMMs' server library parses it: request line and header
 * lines of at most 1024 bytes, a body of a bounded length that Content-Length announces, several
 * requests in one read. Bytes come in through a window of 1024 bytes; what that library refuses,
 * skips or forgets after an error, this refuses, skips and forgets too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum { DBL_HTTP_WINDOW = 1024 };

struct dbl_request {
        char *method; /* "GET", "PUT", "PATCH", "DELETE" */
        char *target; /* as sent */
        bool http10;
        bool has_body; /* Content-Length was there and not 0 */
        struct cc_buf body;
};

void dbl_request_free(struct dbl_request *r);

/* The path of a target: itself if it begins with '/', the part behind the host of an http:// URI,
 * else "". Points into it. */
const char *dbl_request_path(const struct dbl_request *r);

enum dbl_parse_state { DBL_PARSE_LINE, DBL_PARSE_HEADERS, DBL_PARSE_BODY };

struct dbl_parser {
        size_t body_max;   /* a longer Content-Length is refused */
        bool allow_delete; /* the DELETE method is known */

        /* Private. */
        enum dbl_parse_state state;
        char window[DBL_HTTP_WINDOW];
        size_t filled;   /* bytes kept from earlier reads */
        size_t pos, end; /* what of the window is still to be parsed */
        struct dbl_request pending;
        uint32_t content_length;
        uint32_t body_left;
        bool expect;
};

void dbl_parser_free(struct dbl_parser *p);

/* Where the next bytes of the connection go: at most *ret_room of them. */
char *dbl_parser_room(struct dbl_parser *p, size_t *ret_room);

/* What dbl_parse() reports, in order, until DBL_PARSE_MORE or DBL_PARSE_ERROR ends the read. */
enum dbl_parse_event {
        DBL_PARSE_MORE,     /* everything read so far is used up */
        DBL_PARSE_REQUEST,  /* *ret_request is complete; the caller frees it */
        DBL_PARSE_CONTINUE, /* the client waits for "100 Continue" */
        DBL_PARSE_ERROR,    /* *ret_error says why; the rest of this read is lost */
};

/* Take the n bytes that were read into the room; then call dbl_parse() until it says that this read
 * is used up. */
void dbl_parser_feed(struct dbl_parser *p, size_t n);
enum dbl_parse_event dbl_parse(struct dbl_parser *p, struct dbl_request *ret_request,
                               char **ret_error);
