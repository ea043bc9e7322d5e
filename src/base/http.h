/*
 * HTTP/1.1 over a unix socket: the one way to a VMM's control API. One connection and one request a
 * call, one deadline for all of it, a bounded reply. What a status means, and whether a call may be
 * repeated, is the caller's business: here only the ways to fail are kept apart. HTTP over TCP
 * (TLS, proxies, redirects) lives in the image module.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

/* Longest head and longest body of a reply that are read. The largest we ask for, a machine's
 * description with its devices, has some ten KiB. */
#define CC_HTTP_HEAD_MAX (16 << 10)
#define CC_HTTP_BODY_MAX (4 << 20)

struct cc_http_reply {
        int status;         /* 200-599 */
        struct cc_buf body; /* data is NULL when there is none */
};
void cc_http_reply_free(struct cc_http_reply *r); /* also the cleanup function */
#define CC_HTTP_REPLY CC_CLEANUP(cc_http_reply_free)

/*
 * Send `method` `target` to the server at socket_path, with `body` as application/json (NULL: no
 * body), and read its reply; any status is success here. On failure *ret is untouched and the class
 * says how far it got:
 *
 *      CC_UNAVAILABLE  nobody accepts connections: nothing was sent, the call may be repeated
 *      CC_TIMEOUT      no complete reply within timeout_ms: the peer is busy; it may have acted
 *      CC_IO           the connection broke after it was made: the peer may have acted
 *      CC_INVALID      what came is no HTTP or too long (it may have acted), or the path or target
 *                      cannot be used (nothing was sent)
 *      CC_CANCELED     interrupted; the peer may have acted
 *
 * Neither side of the connection is shut down before the reply is complete: a server that reads an
 * end of file takes it for a client that is gone.
 */
int cc_http_unix(const char *socket_path, const char *method, const char *target, const char *body,
                 int timeout_ms, struct cc_http_reply *ret, struct cc_err *err);

/* The same judgement of a reply that is already in memory, as if the connection had ended behind
 * it: CC_INVALID, or CC_IO when it is cut off. */
int cc_http_parse(const char *data, size_t n, struct cc_http_reply *ret, struct cc_err *err);
