/*
 * What every driver's launch needs: control sockets that exist before the VMM does, guest memory,
 * the log, the process itself, and the way back when a step fails. Nothing here knows a VMM's
 * options.
 */
#pragma once

#include "base/proc.h"
#include "hv/driver.h"

/* Longest AF_UNIX path that sun_path holds with its NUL (state.md §1). */
#define HV_SOCKET_PATH_MAX 107

/* Refuse a run dir in which socket `name` would have a path the kernel cannot bind. */
int hv_socket_path_check(const char *run_dir, const char *name, struct cc_err *err);

/* Listening stream socket <run_dir>/<name>, mode 0600 from birth, replacing a stale one. The caller
 * knows that no live VMM owns it. *ret is owned. */
int hv_listen_unix(const char *run_dir, const char *name, int *ret, struct cc_err *err);

/* A connection to the stream socket <run_dir>/<name>, nonblocking. *ret is owned. */
int hv_connect_unix(const char *run_dir, const char *name, int *ret, struct cc_err *err);

/* memfd "cocoon-ram" of `size` bytes, 2 MiB pages with `huge`. *ret is owned. */
int hv_guest_memory(int64_t size, bool huge, int *ret, struct cc_err *err);

/*
 * The queues of TAP device `name`, opened inside `netns` ("" or NULL: the caller's): `pairs`
 * descriptors (IFF_VNET_HDR, multi-queue iff the device was made so) into ret[]. The device must
 * exist. The calling thread visits the namespace and returns; the process aborts if it cannot.
 */
int hv_tap_open(const char *netns, const char *name, size_t pairs, int *ret, struct cc_err *err);

/* Check that the TAP devices exist inside `netns`, for VMMs that open them by name and make those
 * that are missing, which nothing would be connected to. */
int hv_taps_check(const char *netns, const char *const *names, size_t n, struct cc_err *err);
/* Same for a device that is made by this call and vanishes with its last descriptor. */
int hv_tap_make(const char *netns, const char *name, size_t pairs, int *ret, struct cc_err *err);

/* A VMM about to be started. All strings are borrowed. */
struct hv_launch {
        const char *title; /* for messages: "launch <title>: ..." */
        const char *run_dir, *log_dir;
        const char *log_name, *pid_name;
        const char *const *argv;
        const struct cc_fd_map *fds;
        size_t n_fds;
        const char *netns;           /* "" or NULL: the caller's */
        const struct cc_bind *binds; /* files redirected in a mount namespace of its own */
        size_t n_binds;
        const int *tty;        /* terminal for stdin and stdout; NULL: /dev/null and the log */
        const char *failpoint; /* passed once the process exists; NULL: "start.T3" */
};

/* Truncate the log, write <run_dir>/cmdline, start the process in its own session with stdout and
 * stderr on the log (stdout on `tty` if given, which never becomes a controlling terminal), no
 * descriptor of ours but `fds`, and a umask that keeps what it makes to its owner. On failure
 * nothing is left. */
int hv_launch(const struct hv_launch *l, struct vm_proc *ret, struct cc_err *err);

/* The last line of <log_dir>/<name> that holds more than blanks, "" if there is none; what is no
 * printable ASCII becomes '?'. Caller frees. */
char *hv_last_words(const char *log_dir, const char *name);

/* The error of a VMM that died during launch: `launch <title>: <last non-empty log line>`. */
int hv_launch_died(const struct hv_launch *l, struct cc_err *err);

/* The way back: SIGKILL, wait, reap. No-op for an empty handle; *proc is empty afterwards. Not
 * cancelable. */
void hv_abort(struct vm_proc *proc);

/* Write a small file that the next launch rewrites anyway: 0600, not synced (a boot does not wait
 * for the disk). */
int hv_write_file(const char *dir, const char *name, const char *text, struct cc_err *err);

/* Remove `names` (NULL-terminated) below dir; absent is fine. The first failure is reported after
 * all were tried. */
int hv_remove_files(const char *dir, const char *const *names, struct cc_err *err);
