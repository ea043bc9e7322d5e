/*
 * Requests to Firecracker's API socket (firecracker.md §3.1): which may be repeated, what a lost
 * reply means, and the states it reports. What is requested is machine.h's.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/* A request is answered at once or, while the VMM works, late; late is not dead. */
#define FC_CALL_MS 30000

/* A question that others wait for: a VMM that takes longer is busy. */
#define FC_ASK_MS 5000

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
int fc_get_state(const struct fc_api *api, int timeout_ms, enum fc_state *ret, struct cc_err *err);

/* GET /vm/config: the machine as the VMM sees it. New reference. */
int fc_get_config(const struct fc_api *api, json_t **ret, struct cc_err *err);

/* Bring a machine back, paused; sent once, and told from the state when the reply is lost. */
int fc_snapshot_load(const struct fc_api *api, const char *body, struct cc_err *err);

/* Change the state: sent once. When the reply is lost, the state tells whether it arrived. */
int fc_instance_start(const struct fc_api *api, struct cc_err *err);
int fc_set_paused(const struct fc_api *api, bool paused, struct cc_err *err);
