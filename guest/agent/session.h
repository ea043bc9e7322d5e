/*
 * A session: one connection from the host, what it asked for, and the process that does it.
 *
 *     first frame ──exec, put, get──▶ starting ──report──▶ running ──▶ closing ──▶ gone
 *          └──────reseed, ping, nonsense──────────────────────────────────┘
 *
 * On a serial port, where nothing separates one session from the next, a session begins unsynced,
 * ignores everything until a hello, and ends by becoming unsynced again.
 *
 * Descriptors are edge-triggered: an event only notes that one may be read or written again, and
 * session_pump then moves whatever can move. What the command writes waits in its pipe while
 * SESSION_OUT_MAX bytes wait for the host; what the host sends waits in the connection while the
 * command does not read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"
#include "child.h"
#include "loop.h"

#define SESSION_MAX        256
#define SESSION_OUT_MAX    ((size_t)256 << 10)
#define SESSION_FIRST_MS   60000 /* until the first frame */
#define SESSION_DRAIN_MS   2000  /* for a grandchild that holds the pipes */
#define SESSION_CLOSING_MS 60000 /* for a host that does not take the last frame */
#define SESSION_ABSENT_MS  50    /* from a port's hangup until it is believed */
#define SESSION_LOOK_MS    200   /* between two looks at a port in use */

enum session_kind {
        SESSION_STREAM, /* a connection */
        SESSION_SERIAL, /* a connection with the rules of a serial port */
        SESSION_PORT,   /* a virtio-serial port: stays open when the host leaves */
};

enum session_phase { PHASE_UNSYNCED, PHASE_FIRST, PHASE_STARTING, PHASE_RUNNING, PHASE_CLOSING };

/* One descriptor of a session. */
struct stream {
        struct source source;
        struct session *session;
        bool readable, writable;
};

struct session {
        struct session *next;
        struct session **link;
        enum session_kind kind;
        enum session_phase phase;
        void (*gone)(void *arg); /* told last; may be NULL */
        void *gone_arg;

        struct stream conn;
        bool conn_eof;
        struct buf in;
        struct buf out;
        size_t scanned;      /* of in: known to hold no newline */
        bool skip_line;      /* too long: dropped up to its newline */
        const char *pending; /* inside in: bytes for the command */
        size_t pending_len;
        size_t frame_len; /* of in: consumed once pending is written */

        bool raw;
        size_t raw_left; /* of the data frame that is coming in */

        struct child child;
        bool alive; /* not reaped yet */
        int status; /* of wait, once reaped */
        struct stream child_in, child_out, child_err, report;
        bool in_closed; /* by the host: what still comes is dropped */
        size_t owed;    /* bytes that were in the pipes when the command ended */
        bool drained;   /* the grace after its end is over */
        char report_line[512];
        size_t report_len;
        char failure[480];
        char digest[65];
        int64_t copied;

        struct timer deadline;
        struct timer again;
        struct timer absent; /* port: then a hangup is looked into */
        struct timer look;   /* port: then one looks without an event */
};

/* Takes the descriptor (non-blocking). NULL if the kernel refuses to watch it (closed then). */
struct session *session_new(int fd, enum session_kind kind, void (*gone)(void *), void *arg);

unsigned session_count(void);

/* Collects every child that has ended. */
void session_reap(void);

/* Kills all groups and closes all connections. */
void session_end_all(void);

/* A line for the host on a port that has just been opened: whoever waits there waits in vain. */
void session_announce(struct session *s);
