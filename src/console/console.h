/*
 * Consoles: the relay process that alone reads a VMM's serial socket or PTY and serves console.sock
 * to many clients, and the attach side of `vm console` (cli.md §7).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Opens the end of a running VMM's console that its reader holds, nonblocking: a connected socket,
 * the master of a PTY, or its slave. `driver` and `run_dir` say which VM. CC_UNAVAILABLE when the
 * VMM offers none. Implemented by the drivers; this folder knows only the descriptor.
 */
typedef int (*console_open_fn)(const char *driver, const char *run_dir, int vmm_pidfd, int *ret,
                               struct cc_err *err);

/* What the relay needs; strings and descriptors borrowed. */
struct console_relay {
        const char *driver, *run_dir; /* the arguments of `open` */
        console_open_fn open;    /* called with the relay lock held: consoles have one reader */
        int source;              /* what the launch handed over, used instead of `open`; -1 none */
        const char *listen_path; /* console.sock */
        const char *log_path;    /* the VMM's own console log to truncate at 8 MiB, or NULL */
        int vmm_pidfd;           /* the relay ends when this process ends */
        const char *lock_path;   /* root/locks/vm/<id>.console.lock: one relay per VM */
};

/* First argument of the hidden verb that the relay process runs under. */
#define CONSOLE_RELAY_VERB "__console-relay"

/*
 * Start the relay: our own binary once more under CONSOLE_RELAY_VERB, in a new session, /dev/null
 * as stdio, detached so that nobody has to reap it, inheriting nothing but the descriptors it
 * needs. Returns once it listens (or found another relay alive, which is success). Failure does not
 * touch the VM: no reader is better than no guest, and a later call may succeed.
 */
int console_relay_start(const struct console_relay *relay, struct cc_err *err);

/*
 * The relay process. main() calls it before anything else when argv[1] is CONSOLE_RELAY_VERB (so do
 * test programs that start relays); the return value is the exit status. `open` is asked again, in
 * a child of the relay, when the console ends while the VMM lives (a PTY that the VMM replaced).
 * NULL: the relay ends then.
 */
int console_relay_main(int argc, char **argv, console_open_fn open);

/* "^]", "^a", one byte... Returns 0 or -CC_INVALID with text. */
int console_escape_parse(const char *s, unsigned char *ret, struct cc_err *err);

/* Attach the terminal to console.sock until detach, EOF or a signal. `ref` is shown. stdin must be
 * a TTY. */
int console_attach(const char *socket_path, unsigned char escape, bool read_only, const char *ref,
                   struct cc_err *err);
