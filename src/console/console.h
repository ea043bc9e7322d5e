/*
 * Consoles: the relay process that alone holds a VMM's serial socket or PTY and serves console.sock
 * to many clients, and the attach side of `vm console` (cli.md §7).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* What the relay needs; strings borrowed. */
struct console_relay {
        const char *source; /* unix socket to connect to, or a PTY path */
        bool source_is_pty;
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
 * touch the VM.
 */
int console_relay_start(const struct console_relay *relay, struct cc_err *err);

/*
 * The relay process. main() calls it before anything else when argv[1] is CONSOLE_RELAY_VERB (so do
 * test programs that start relays); the return value is the exit status.
 */
int console_relay_main(int argc, char **argv);

/* "^]", "^a", one byte... Returns 0 or -CC_INVALID with text. */
int console_escape_parse(const char *s, unsigned char *ret, struct cc_err *err);

/* Attach the terminal to console.sock until detach, EOF or a signal. `ref` is shown. stdin must be
 * a TTY. */
int console_attach(const char *socket_path, unsigned char escape, bool read_only, const char *ref,
                   struct cc_err *err);
