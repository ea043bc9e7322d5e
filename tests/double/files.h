/*
 * A web server with one file, for tests of downloads: plain HTTP on a loopback port, one thread a
 * connection, ranges with validators, and a knob for every way such a server can misbehave.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct double_files {
        /* What is served, at any path; borrowed. Changing it changes the validator too. */
        const void *data;
        size_t len;
        atomic_int version;

        /* Knobs. Those marked (n) act on the next n answers longer than the probe's. */
        bool no_ranges;        /* 200 with everything, whatever was asked */
        bool no_length;        /* and without Content-Length: the end is the end */
        bool no_validator;     /* neither ETag nor Last-Modified */
        bool weak;             /* a weak ETag, and Last-Modified */
        bool no_total;         /* a 206 that does not tell the size of the file */
        bool ignore_if_range;  /* 206 although the file changed */
        bool wrong_range;      /* a 206 for other bytes than asked for */
        bool slow_connections; /* answers wait until two connections are there */
        atomic_int cut;        /* (n) close after cut_at bytes */
        size_t cut_at;
        atomic_int stall; /* (n) send stall_at bytes, then nothing */
        size_t stall_at;
        atomic_int busy; /* (n) answer busy_status */
        int busy_status;
        int status;              /* every answer; 0: as it should be */
        bool redirect_loop;      /* every path leads to another one */
        const char *redirect;    /* where /moved leads */
        bool sign;               /* /moved leads to an address that is good for one request */
        int die_after;           /* so many requests are answered, then none; 0: all */
        atomic_int change_after; /* the file changes after so many answers; 0: never */

        struct {
                atomic_int requests, ranges, whole, live_max;
                atomic_llong bytes; /* body bytes sent */
        } seen;

        /* Private. */
        int fd, port;
        int stop[2];
        atomic_int live;
        atomic_bool used[4096]; /* signed addresses */
        pthread_t thread;
};

/* On 127.0.0.1, a port of the kernel's choice in ->port. */
void double_files_start(struct double_files *s);
void double_files_stop(struct double_files *s);
