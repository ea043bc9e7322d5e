/*
 * A registry for tests: one repository in memory, served over plain HTTP on a loopback port by one
 * thread per connection, with a knob for every way a registry can misbehave. It checks its clients
 * too: what it saw is counted in `seen`.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { DOUBLE_OBJECTS_MAX = 512 };

struct double_object {
        char path[256]; /* "/v2/r/i/manifests/latest" */
        char type[128]; /* Content-Type, "" for none */
        char digest[72];
        char *data;
        size_t len;
};

struct double_registry {
        /* Knobs: set before requests come. Those marked (n) act on the next n blob answers
         * (cut and stall: that are long enough). */
        bool need_token;   /* 401 Bearer, tokens from /token */
        bool need_basic;   /* 401 Basic */
        const char *user;  /* expected "user:password" for either, NULL: anonymous */
        bool expire_token; /* the first token is refused after one use */
        bool no_range;     /* ignore Range */
        atomic_int cut;    /* (n) close after cut_at bytes of the body */
        size_t cut_at;
        atomic_int stall; /* (n) send stall_at bytes, then nothing */
        size_t stall_at;
        atomic_int busy; /* (n) answer busy_status */
        int busy_status;
        int retry_after;      /* with it; 0: no header */
        bool corrupt;         /* flip one bit of every blob body */
        bool truncate;        /* blobs end early, with a Content-Length that agrees */
        const char *redirect; /* "http://127.0.0.2:PORT": where blobs really are */
        bool wrong_range;     /* a 206 for another offset than asked */

        /* What was seen. */
        struct {
                atomic_int requests, manifests, blobs, ranges, tokens;
                atomic_int authorised;   /* requests with an Authorization header */
                atomic_llong blob_bytes; /* body bytes sent for blobs */
        } seen;

        /* Private. */
        struct double_object objects[DOUBLE_OBJECTS_MAX];
        size_t n;
        int fd, port;
        int stop[2]; /* pipe: readable once stopping */
        atomic_int live;
        pthread_t thread;
};

/* Listen on `address` ("127.0.0.1"), a port of the kernel's choice in ->port. */
void double_registry_start(struct double_registry *r, const char *address);
void double_registry_stop(struct double_registry *r);

/* Serve a blob of repository `repo`; returns its digest (owned by the registry). */
const char *double_registry_blob(struct double_registry *r, const char *repo, const void *data,
                                 size_t n);

/* Serve a manifest under its digest and, unless NULL, a tag. */
const char *double_registry_manifest(struct double_registry *r, const char *repo, const char *tag,
                                     const char *type, const char *text);
