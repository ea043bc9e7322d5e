/*
 * Processes: starting them with exactly the descriptors they shall have, running tools to
 * completion, and telling a process from a recycled pid. A process is pid + start time + boot id,
 * or a pidfd.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/* Descriptor `from` of the caller becomes `to` (>= 3) in the child. */
struct cc_fd_map {
        int from;
        int to;
};

/* In the child's own mount namespace the file `to` is `from`. */
struct cc_bind {
        const char *from;
        const char *to;
};

struct cc_spawn {
        const char *const *argv;     /* argv[0] is looked up with cc_find_program() */
        const char *const *env;      /* NULL: inherited */
        const char *cwd;             /* NULL: "/" */
        int fd_in, fd_out, fd_err;   /* -1: /dev/null. Zero is a real descriptor: set all three */
        const struct cc_fd_map *fds; /* further descriptors; everything else is closed */
        size_t n_fds;
        bool new_session;     /* setsid(): long-lived children must not die with our terminal */
        const char *pid_file; /* written by the child before exec: decimal + "\n", 0600 */
        const char *netns;    /* network namespace to enter; failure is a launch failure */
        const struct cc_bind *binds; /* with any: a private mount namespace, nothing leaves it */
        size_t n_binds;
        mode_t file_mask; /* umask of the child; 0: inherited */
        bool detach;      /* nobody's child: its end is init's to see */
};

/* The environment of what outlives the command: none of the caller's, whose secrets would stay in
 * /proc/PID/environ for as long as the child lives. */
extern const char *const cc_lasting_env[];

/*
 * Start a program. The child gets default signal dispositions and an empty mask. Failure to prepare
 * or exec is reported here (class UNAVAILABLE when the program does not exist), with the pid file
 * removed. *ret_pidfd (may be NULL) is a pidfd, owned by the caller. The child is ours to reap:
 * with cc_reap(), or by init when we exit first; a detached one has no pid and no pidfd for us.
 */
int cc_spawn(const struct cc_spawn *spec, pid_t *ret_pid, int *ret_pidfd, struct cc_err *err);

/* What cc_run() returns about a finished tool. */
struct cc_run_result {
        int status;        /* exit status, or 128 + signal */
        struct cc_buf out; /* at most the limit given */
        struct cc_buf err;
};
void cc_run_result_free(struct cc_run_result *r);

/*
 * Run a tool to completion, which is its own end, not that of children it left behind: own process
 * group, stdin from `input` (n bytes; NULL: /dev/null), output captured up to `max` bytes per
 * stream (more: killed, CC_INVALID). On timeout (ms, 0: none) or interruption the group is killed
 * and CC_TIMEOUT or CC_CANCELED returned. A non-zero exit status is not an error here.
 */
int cc_run(const char *const *argv, const void *input, size_t n, size_t max, int timeout_ms,
           struct cc_run_result *ret, struct cc_err *err);

/* The same with an environment of its own (NULL-terminated; NULL: inherited). */
int cc_run_env(const char *const *argv, const char *const *env, const void *input, size_t n,
               size_t max, int timeout_ms, struct cc_run_result *ret, struct cc_err *err);

/* cc_run() with 1 MiB per stream, where a non-zero status is an error quoting the tool's last
 * stderr line (stdout if stderr is empty). ret_out may be NULL. */
int cc_run_ok(const char *const *argv, int timeout_ms, char **ret_out, struct cc_err *err);

/* Start time in clock ticks since boot (/proc/PID/stat field 22). 0 with *ret set, or -CC_NOT_FOUND
 * (no text) for a process that is gone or a zombie. */
int cc_proc_starttime(pid_t pid, uint64_t *ret);

/* /proc/sys/kernel/random/boot_id, "" if unreadable. */
void cc_boot_id(char out[37]);

/*
 * Live check (state.md §3): opens a pidfd first, then verifies: not a zombie, start time equal
 * unless `starttime` is 0, and every string of `needles` (NULL-terminated) occurs in the command
 * line. Returns 0 and the pidfd (caller closes), or -CC_NOT_FOUND (no text).
 */
int cc_proc_open(pid_t pid, uint64_t starttime, const char *const *needles, int *ret_pidfd);

/* Read a pid file: -CC_NOT_FOUND (no text) when absent or malformed. */
int cc_pid_file_read(const char *path, pid_t *ret);

/* Wait for the process behind pidfd to end. timeout_ms < 0: for ever. Returns 1 ended, 0 timeout,
 * -CC_CANCELED (no text) on interruption. */
int cc_pidfd_wait(int pidfd, int timeout_ms);

/* Signal through the pidfd; a process that is gone is success. */
int cc_pidfd_signal(int pidfd, int sig, struct cc_err *err);

/* SIGTERM, wait grace_ms, SIGKILL, wait 5 s. CC_TIMEOUT when even that did not end it. */
int cc_terminate(int pidfd, int grace_ms, struct cc_err *err);

/* Reap a child of ours that has ended; harmless for others. */
void cc_reap(pid_t pid);
