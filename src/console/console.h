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

/*
 * Fork the relay: new session, /dev/null as stdio, nothing else inherited but what it needs.
 * Returns once it listens (or found another relay alive, which is success). Failure does not touch
 * the VM.
 */
int console_relay_start(const struct console_relay *relay, struct cc_err *err);

/* "^]", "^a", one byte... Returns 0 or -CC_INVALID with text. */
int console_escape_parse(const char *s, unsigned char *ret, struct cc_err *err);

/* Attach the terminal to console.sock until detach, EOF or a signal. `ref` is shown. stdin must be
 * a TTY. */
int console_attach(const char *socket_path, unsigned char escape, bool read_only, const char *ref,
                   struct cc_err *err);
