/*
 * The control API of a Cloud Hypervisor process (cloud-hypervisor.md §3): one function a call. A
 * call that changes something is sent once, whatever becomes of its reply: a second one would turn
 * "done, but the reply was lost" into "wrong state" or worse.
 */
#pragma once

#include "base/json.h"
#include "hv/driver.h"

#define CH_API_MS    30000  /* an ordinary call */
#define CH_INFO_MS   5000   /* a question of a verb that can say "busy" */
#define CH_MEMORY_MS 600000 /* calls that write or read guest memory */

enum ch_state {
        CH_NO_VM, /* the VMM is up and has no machine (yet) */
        CH_CREATED,
        CH_RUNNING,
        CH_SHUTDOWN,
        CH_PAUSED,
        CH_BREAKPOINT,
        CH_UNKNOWN,
};

/* vm.info. */
struct ch_info {
        enum ch_state state;
        json_t *body; /* owned; NULL with CH_NO_VM */
};
void ch_info_clear(struct ch_info *i); /* also the cleanup function */
#define CH_INFO CC_CLEANUP(ch_info_clear)

/*
 * PUT `endpoint` ("vm.shutdown") with `body` (borrowed; NULL: none) once. A refusal is
 * CC_STATE (409, 500), CC_NOT_FOUND (404), CC_BUSY (429, 503) or CC_INVALID (other 4xx) with the
 * VMM's chain of causes; what else can go wrong is http.h's. *ret (may be NULL) is the reply's
 * JSON, NULL when it has none; owned.
 */
int ch_put(const char *run_dir, const char *endpoint, const json_t *body, int timeout_ms,
           json_t **ret, struct cc_err *err);

/* vm.info once. A VMM without a machine is an answer, not an error. */
int ch_get_info(const char *run_dir, int timeout_ms, struct ch_info *ret, struct cc_err *err);

/* vm.info, repeated up to three times when the connection or the server fails. */
int ch_get_info_retry(const char *run_dir, int timeout_ms, struct ch_info *ret, struct cc_err *err);

/* Does anything accept connections on the VM's API socket? Sends vmm.ping and waits up to
 * timeout_ms; a peer that accepts and says nothing is there too. */
bool ch_answers(const char *run_dir, int timeout_ms);

/* The version that the running VMM says it has, "53.0.0"; repeated like ch_get_info_retry(). Caller
 * frees. */
int ch_ping_version(const char *run_dir, char **ret, struct cc_err *err);

/* vm.pause and vm.resume; a machine that is already so is success. */
int ch_pause(const char *run_dir, struct cc_err *err);
int ch_resume(const char *run_dir, struct cc_err *err);

/* The file behind the guest's PTY console, "" when it has none. Borrowed from *info. */
const char *ch_info_pty(const struct ch_info *info, const char **ret_mode);
