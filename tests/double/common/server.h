/*
 * The API server of a double: a unix stream socket on which requests are executed one at a time,
 * with the limits, reply forms and rudeness of the VMMs' own server library (parse.h), the journal
 * and the faults. It knows no endpoint: a double gives it a form, a small table of what differs
 * between VMMs and the one function that executes requests.
 */
#pragma once

#include "fault.h"
#include "journal.h"
#include "loop.h"
#include "parse.h"

/* An answer. Without a body, a 204 has no Content-Length and every other status has 0. */
struct dbl_reply {
        int status;
        struct cc_buf body;
        bool deprecated;   /* "Deprecation: true" */
        const char *allow; /* value of the Allow header, NULL: none */
        bool drop;         /* no answer: close the connection */
};

struct dbl_server_form {
        const char *server;       /* Server: of an executed request */
        const char *content_type; /* of an executed request's body */
        size_t body_max;
        bool allow_delete; /* the DELETE method exists */

        /* Name of a request's endpoint for journal and faults; at most `n` bytes into out. */
        void (*endpoint)(const struct dbl_request *request, char *out, size_t n);

        /* Execute a request. */
        void (*handle)(void *ctx, const struct dbl_request *request, struct dbl_reply *ret);

        /* May be NULL: whether a request whose answer was lost may come again, because repeating it
         * changes nothing. Without it only GET may. */
        bool (*repeatable)(void *ctx, const struct dbl_request *request);

        /* May be NULL: called when the answer has been written to the socket, or its connection is
         * lost; for what ends the process only behind its answer. */
        void (*answered)(void *ctx);
};

struct dbl_server;

/* Serve on `listener`, a listening stream socket, which becomes the server's. */
struct dbl_server *dbl_server_new(struct dbl_loop *loop, struct dbl_journal *journal,
                                  struct dbl_faults *faults, const struct dbl_server_form *form,
                                  void *ctx, int listener);
void dbl_server_free(struct dbl_server *s);

/* Bind and listen on a unix socket; fails with the errno text if the path exists. */
int dbl_listen(const char *path, int *ret, struct cc_err *err);

/* Reply helpers: status with a JSON body (reference stolen; NULL: no body) or plain text. */
void dbl_reply_json(struct dbl_reply *reply, int status, json_t *body);
void dbl_reply_text(struct dbl_reply *reply, int status, const char *body);
