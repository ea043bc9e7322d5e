/*
 * A Firecracker under test, the double or the one that COCOON_FC names: started the way cocoon
 * starts it, on a terminal of its own, asked over its socket, and reaped. Paths are relative to the
 * current directory, which a test puts into its scratch directory: answers that quote them, or
 * count their bytes, are then the same everywhere.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/str.h"

struct fc {
        char *id, *dir;         /* the run directory is its id */
        char *sock, *log, *err; /* below it; err: what came on stderr */
        pid_t pid;              /* 0: not running */
        int terminal;           /* master side of its console */
        struct cc_buf console;  /* everything seen so far */
};

/* The binary, absolute; found once from the environment. */
const char *fc_binary(void);
bool fc_is_double(void);

/* Start with the usual arguments and `extra`, NULL-terminated (or NULL), and wait for the socket.
 */
void fc_start(struct fc *fc, const char *id, const char *const *extra);

/* Kill what still runs and free everything. */
void fc_end(struct fc *fc);

/* Send bytes and read one answer: status (0: none, the connection was closed) and body. */
int fc_exchange(const struct fc *fc, const char *data, size_t n, struct cc_buf *ret_body);

/* A request with a JSON body, or none when NULL. */
int fc_request(const struct fc *fc, const char *method, const char *path, const char *body,
               struct cc_buf *ret_body);

/* Collect console output until `text` is in it. False after `ms`. */
bool fc_console_wait(struct fc *fc, const char *text, int ms);

/* Forget the console's output so far; type. */
void fc_console_forget(struct fc *fc);
void fc_type(const struct fc *fc, const char *text);

/* Wait for the end: exit status, or 128 + signal; -1 if it is alive after `ms`. */
int fc_wait(struct fc *fc, int ms);

/* Run it once with these arguments, NULL-terminated, to its end; standard output into *ret_out. */
int fc_run(const char *const *args, struct cc_buf *ret_out);
