/*
 * The QMP client (qemu.md §5): connect, negotiate, one command at a time, close. A monitor serves
 * one client; a second one connects but hears nothing, hence the greeting timeout. Of events only
 * how many of a name arrived is kept: who waits for one asks afterwards what is the case.
 */
#pragma once

#include "base/json.h"

#define QMP_GREETING_MS 5000
#define QMP_COMMAND_MS  10000

struct qmp;

/*
 * Connect and negotiate. `watch` is a descriptor that becomes readable when the peer has died (a
 * pidfd), or -1. Errors: TIMEOUT `qemu: control socket busy`, NETWORK when there is no such peer
 * or it is gone, CANCELED on a signal, INVALID when it does not speak QMP.
 */
int qmp_connect(const char *path, int watch, int greeting_ms, struct qmp **ret, struct cc_err *err);

/* Same over a connected stream socket, which the client owns from now on, also on failure. */
int qmp_open(int fd, int watch, int greeting_ms, struct qmp **ret, struct cc_err *err);

/*
 * Run a command; `args` is consumed (NULL none). *ret (may be NULL) gets a new reference to the
 * "return" value. A refusal by QEMU is CC_STATE (NOT_FOUND for DeviceNotFound) with its text and
 * leaves the connection usable; any other failure ends it, and all later commands fail at once.
 */
int qmp_command(struct qmp *q, const char *name, json_t *args, int timeout_ms, json_t **ret,
                struct cc_err *err);

/* Hand a descriptor over (borrowed): QEMU knows it by `name` until a command takes it. */
int qmp_getfd(struct qmp *q, int fd, const char *name, struct cc_err *err);

/* Wait until an event of this name has arrived since the last such wait. TIMEOUT (no text) when
 * none came in time; the connection stays usable then. Other failures as for commands. */
int qmp_wait_event(struct qmp *q, const char *name, int timeout_ms, struct cc_err *err);

void qmp_close(struct qmp *q);   /* NULL is fine */
void qmp_closep(struct qmp **q); /* cleanup function */
#define QMP CC_CLEANUP(qmp_closep)
