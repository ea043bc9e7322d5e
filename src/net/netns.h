/*
 * Named network namespaces (network.md §3): making, checking and deleting the file that names one,
 * and descriptors that act inside one while the process stays outside. Names are VM IDs.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/str.h"
#include "net/rtnl.h"

#define NETNS_DIR "/var/run/netns"

/* NETNS_DIR/cocoon-<vm id>. Caller frees. */
char *netns_path(const char *vm_id);

/* True if `path` is a namespace, not merely a file. */
bool netns_exists(const char *path);

/* Make the namespace `path` unless it exists; a plain file there (left by a reboot) is reused.
 * ret_created (may be NULL) tells whether this call made it. `lo` stays down. */
int netns_create(const char *path, bool *ret_created, struct cc_err *err);

/* Give the namespace of the process `pid` the name `path`, which is not a namespace yet. CC_STATE
 * when that process lives in our own. */
int netns_rebind(const char *path, pid_t pid, struct cc_err *err);

/* The names in NETNS_DIR; a missing directory has none. */
int netns_list(struct cc_strv *ret, struct cc_err *err);

/* Does a process live in the namespace `path`? */
int netns_inhabited(const char *path, bool *ret, struct cc_err *err);

/* Remove the name; absent is fine. The namespace itself lives until its last process ended. */
int netns_delete(const char *path, struct cc_err *err);

/* Descriptors opened inside a namespace. */
struct netns_fds {
        int ns;
        int tun;            /* -1 unless asked for */
        struct nl_sock *sk; /* route socket */
};
#define NETNS_FDS_INIT                                                                             \
        {                                                                                          \
                .ns = -1, .tun = -1                                                                \
        }

/* Open them. `path` NULL or "": the caller's own namespace (ns stays -1). CC_NOT_FOUND when there
 * is no such namespace. The thread visits the namespace; if it cannot return, the process aborts.
 */
int netns_open(const char *path, bool tun, struct netns_fds *ret, struct cc_err *err);
void netns_close(struct netns_fds *f); /* also the cleanup function */
#define NETNS_FDS CC_CLEANUP(netns_close)
