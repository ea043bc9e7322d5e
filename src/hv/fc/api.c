/* The client of Firecracker's API. See api.h. */
#include "hv/fc/api.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/proc.h"
#include "hv/fc/fc.h"

static const int pauses_ms[] = { 100, 200, 400 };

/* Longest text of a refusal that we show. */
#define MAX_FAULT 1000

/* The VMM's own words, or the status: what it sends is not trusted to be one printable line. */
static int refused(const char *method, const char *target, const struct cc_http_reply *reply,
                   struct cc_err *err)
{
        enum cc_class class = reply->status >= 500 || reply->status == 429 ? CC_BUSY : CC_STATE;
        CC_JSON json_t *j = NULL;
        const char *text = NULL;
        char fault[MAX_FAULT + 1];
        size_t n;

        if (reply->body.len &&
            cc_json_parse(reply->body.data, reply->body.len, "reply", &j, NULL) == 0) {
                text = json_string_value(json_object_get(j, "fault_message"));
                if (!text)
                        text = json_string_value(json_object_get(j, "error"));
        }
        if (!text || !*text)
                return cc_fail(err, class, "%s %s: HTTP status %d", method, target, reply->status);
        n = strnlen(text, MAX_FAULT);
        for (size_t i = 0; i < n; i++)
                fault[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : ' ';
        fault[n] = '\0';
        return cc_fail(err, class, "%s %s: %s", method, target, fault);
}

static int attempt(const char *socket_path, const char *method, const char *target,
                   const char *body, int timeout_ms, struct cc_buf *ret_body, struct cc_err *err)
{
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        int r = cc_http_unix(socket_path, method, target, body, timeout_ms, &reply, err);

        if (r < 0)
                return r;
        if (reply.status >= 300 || reply.status < 200)
                return refused(method, target, &reply, err);
        if (ret_body) {
                *ret_body = reply.body;
                reply.body = (struct cc_buf){ 0 };
        }
        return 0;
}

static bool worth_repeating(int r)
{
        return r == -CC_UNAVAILABLE || r == -CC_IO || r == -CC_BUSY;
}

bool fc_reply_lost(int r)
{
        return r < 0 && r != -CC_UNAVAILABLE && r != -CC_STATE && r != -CC_CANCELED;
}

int fc_call(const struct fc_api *api, const char *method, const char *target, const char *body,
            int timeout_ms, bool repeat, struct cc_buf *ret_body, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(api->run_dir, FC_API_SOCK);

        if (body && strlen(body) > FC_BODY_MAX)
                return cc_fail(err, CC_INVALID, "%s %s: the request has %zu bytes, at most %d fit",
                               method, target, strlen(body), FC_BODY_MAX);
        for (size_t i = 0;; i++) {
                struct cc_err why = CC_ERR_INIT;
                int r = attempt(path, method, target, body, timeout_ms, ret_body, &why);

                if (r == 0)
                        return 0;
                if (!repeat || !worth_repeating(r) || i == CC_ARRAY_LEN(pauses_ms))
                        return cc_err_copy(err, &why);
                if (api->pidfd < 0)
                        return cc_err_copy(err, &why);
                r = cc_pidfd_wait(api->pidfd, pauses_ms[i]);
                if (r == 1)
                        return cc_fail(err, CC_UNAVAILABLE, "%s %s: the process has ended", method,
                                       target);
                if (r < 0)
                        return cc_fail(err, CC_CANCELED, "interrupted");
        }
}

int fc_get_state(const struct fc_api *api, int timeout_ms, enum fc_state *ret, struct cc_err *err)
{
        static const char *const names[] = {
                [FC_NOT_STARTED] = "Not started",
                [FC_RUNNING] = "Running",
                [FC_PAUSED] = "Paused",
        };
        CC_BUF struct cc_buf body = { 0 };
        CC_JSON json_t *j = NULL;
        const char *state;
        int r = fc_call(api, "GET", "/", NULL, timeout_ms, false, &body, err);

        if (r == 0)
                r = cc_json_parse(body.data ? body.data : "", body.len, "GET /", &j, err);
        if (r < 0)
                return r;
        state = json_string_value(json_object_get(j, "state"));
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                if (cc_streq(state, names[i])) {
                        *ret = (enum fc_state)i;
                        return 0;
                }
        return cc_fail(err, CC_INVALID, "GET /: the reply names no known state");
}

int fc_get_config(const struct fc_api *api, json_t **ret, struct cc_err *err)
{
        CC_BUF struct cc_buf body = { 0 };
        int r = fc_call(api, "GET", "/vm/config", NULL, FC_CALL_MS, false, &body, err);

        return r < 0 ? r
                     : cc_json_parse(body.data ? body.data : "", body.len, "GET /vm/config", ret,
                                     err);
}

static int change_state(const struct fc_api *api, const char *method, const char *target,
                        const char *body, int timeout_ms, enum fc_state wanted, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        enum fc_state state;
        int r = fc_call(api, method, target, body, timeout_ms, false, NULL, &why);

        if (r == 0)
                return 0;
        if (fc_reply_lost(r) && fc_get_state(api, FC_CALL_MS, &state, NULL) == 0 && state == wanted)
                return 0;
        return cc_err_copy(err, &why);
}

int fc_instance_start(const struct fc_api *api, struct cc_err *err)
{
        return change_state(api, "PUT", "/actions", FC_INSTANCE_START, FC_CALL_MS, FC_RUNNING, err);
}

int fc_set_paused(const struct fc_api *api, bool paused, struct cc_err *err)
{
        return change_state(api, "PATCH", "/vm",
                            paused ? "{\"state\":\"Paused\"}" : "{\"state\":\"Resumed\"}",
                            FC_CALL_MS, paused ? FC_PAUSED : FC_RUNNING, err);
}

int fc_snapshot_load(const struct fc_api *api, const char *body, struct cc_err *err)
{
        return change_state(api, "PUT", "/snapshot/load", body, FC_MEMORY_MS, FC_PAUSED, err);
}
