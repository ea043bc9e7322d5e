/*
 * Firecracker's command line: the arguments that cocoon passes, refused in the same words when they
 * are wrong. Arguments of the real one that cocoon has no use for are unknown here, which is a
 * stricter double, and said so in the journal by its exit status.
 */
#pragma once

#include <stdbool.h>

#include "base/str.h"

struct fcd_args {
        const char *api_sock;         /* default /run/firecracker.socket */
        const char *id;               /* default anonymous-instance */
        const char *log_path, *level; /* NULL: not given */
        const char *describe_snapshot;
        bool enable_pci, version, snapshot_version, help;
};

/* 0, or -1 with what the real one prints on stderr behind "Error: " in `debug` and the same for its
 * log in `text`. */
int fcd_args_parse(int argc, char **argv, struct fcd_args *ret, struct cc_buf *text,
                   struct cc_buf *debug);

/* 1 to 64 characters, alphanumeric or '-'; -1 with the reason as Rust's debug form shows it. */
int fcd_args_check_id(const char *id, struct cc_buf *reason);
