/*
 * The host's side of the guest agent (agent.md): reaching it over one of the carriers, and sessions
 * on such a connection: a command, fresh entropy. Nothing here knows records or
 * drivers: a caller says where the sockets are. What a guest sends is hostile: every line is
 * bounded, nothing is allocated by a size it names, frames that the phase does not allow are
 * ignored.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/frame.h"
#include "base/err.h"
#include "base/str.h"

/* The guest's port on vsock. */
#define AGENT_PORT 1024

/* Serial ports a machine may have. */
#define AGENT_PORTS_MAX 8

enum agent_carrier {
        AGENT_NONE,   /* the machine has no way to its agent */
        AGENT_VSOCK,  /* hybrid vsock: a unix socket with a text handshake */
        AGENT_SERIAL, /* virtio-serial ports: unix sockets without stream boundaries, one session
                         each */
        AGENT_UNIX,   /* a plain socket, a connection is a session: tests and benchmarks */
};

/* Where an agent is. Strings borrowed. */
struct agent_peer {
        enum agent_carrier carrier;
        const char *sockets[AGENT_PORTS_MAX]; /* one, or one a port */
        const char *locks[AGENT_PORTS_MAX];   /* serial: who holds it has the port */
        size_t n;
        /* Asked between tries: false ends them. NULL: always alive. */
        bool (*alive)(void *ctx);
        void *ctx;
};

/* What an agent says that it can, in its answer to a hello (agent.md §6). */
enum {
        AGENT_TTY = 1 << 0,
        AGENT_SIGNAL = 1 << 1,
        AGENT_CWD = 1 << 2,
        AGENT_USER = 1 << 3,
        AGENT_RAW = 1 << 4,
};

struct agent_conn {
        int fd;
        int lock; /* of a serial port */
        bool greeted;
        unsigned features; /* known once greeted */
        struct agent_reader in;
};
#define AGENT_CONN_INIT                                                                            \
        {                                                                                          \
                .fd = -1, .lock = -1                                                               \
        }
void agent_conn_close(struct agent_conn *c); /* also the cleanup function */
#define AGENT_CONN CC_CLEANUP(agent_conn_close)

/*
 * Connect and begin a session. `connect_ms`: how long an agent that does not answer is tried again.
 * `queue_ms` bounds the wait for a serial port that no other session has (0: for ever). `greet`:
 * the features are wanted; an agent that knows no hello is connected to without.
 *
 * CC_UNAVAILABLE "vsock not configured…" without a way to the agent, CC_NETWORK "dial agent: …"
 * when it did not answer, CC_CANCELED when interrupted.
 */
struct agent_dial {
        int64_t connect_ms, queue_ms;
        bool greet;
};
int agent_dial(const struct agent_peer *peer, const struct agent_dial *how, struct agent_conn *ret,
               struct cc_err *err);

/* One try that never waits longer than `wait_ms`: does an agent accept sessions now? */
bool agent_answers(const struct agent_peer *peer, int64_t wait_ms);

/* One command. Strings and descriptors borrowed. */
struct agent_exec {
        const char *const *argv; /* NULL-terminated, not empty */
        const char *const *env;  /* "K=V", NULL-terminated, or NULL */
        const char *user, *cwd;  /* NULL: the agent's; need a greeting */
        bool tty;                /* needs a greeting; fd_in is the terminal */
        const char *term;        /* with tty: the terminal's type */
        int fd_in;               /* -1: end of file at once */
        int fd_out, fd_err;      /* -1: dropped */
        struct cc_buf *err_text; /* with fd_err -1: the first 4 KiB go here; may be NULL */
        int64_t timeout_ms;      /* 0: none */
};

/* How a session ended that did not fail. */
struct agent_result {
        int code; /* 0..255 */
};

/*
 * Run it to its end. Success is that the guest said how the command ended. 141: who read our output
 * is gone. CC_CANCELED: interrupted, CC_TIMEOUT: timeout_ms passed; the connection is shut then,
 * which ends the guest's process. CC_INVALID, CC_NETWORK: "agent: …". CC_UNSUPPORTED: the agent
 * lacks what was asked for.
 */
int agent_exec(struct agent_conn *c, const struct agent_exec *x, struct agent_result *ret,
               struct cc_err *err);

/* Give the guest's kernel 256 fresh bytes, and the guest a new machine-id. */
int agent_reseed(struct agent_conn *c, bool machine_id, int64_t timeout_ms, struct cc_err *err);
