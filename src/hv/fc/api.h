/*
 * Requests to Firecracker's API socket (firecracker.md §3.1): which may be repeated, what a lost
 * reply means, and the states it reports. What is requested is machine.h's.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/* A request is answered at once or, while the VMM works, late; late is not dead. */
#define FC_CALL_MS 30000

/* Loading or writing guest memory. */
#define FC_MEMORY_MS 600000

/* Longest body Firecracker takes. */
#define FC_BODY_MAX 51200

/* Bodies of PUT /actions. */
#define FC_INSTANCE_START "{\"action_type\":\"InstanceStart\"}"
#define FC_CTRL_ALT_DEL   "{\"action_type\":\"SendCtrlAltDel\"}"

struct fc_api {
        const char *run_dir;
        int pidfd; /* of the VMM: its death ends every wait; -1: unknown */
};

enum fc_state { FC_NOT_STARTED, FC_RUNNING, FC_PAUSED };

/*
 * One request. `repeat`: it sets what it sets, so a broken connection, a 429 or a 5xx is tried
 * again, three times; never anything else. ret_body (may be NULL) gets the reply's body.
 *
 *      CC_UNAVAILABLE  nobody accepts connections, or the process has ended
 *      CC_STATE        refused (4xx); the text is Firecracker's fault_message
 *      CC_CANCELED     interrupted
 *      else            no usable reply: a request that is not repeatable may have been executed
 */
int fc_call(const struct fc_api *api, const char *method, const char *target, const char *body,
            int timeout_ms, bool repeat, struct cc_buf *ret_body, struct cc_err *err);

/* True when an error of fc_call() leaves open whether the request was executed. */
bool fc_reply_lost(int r);

/* GET /. */
int fc_get_state(const struct fc_api *api, enum fc_state *ret, struct cc_err *err);

/* Change the state: sent once. When the reply is lost, the state tells whether it arrived. */
int fc_instance_start(const struct fc_api *api, struct cc_err *err);
int fc_set_paused(const struct fc_api *api, bool paused, struct cc_err *err);
