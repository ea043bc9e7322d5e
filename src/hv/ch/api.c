/* Calls of the control API and what its answers mean. See api.h. */
#include "hv/ch/api.h"

#include <poll.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "hv/ch/ch.h"

#define PREFIX "/api/v1/"

/* What is quoted of an answer that should be JSON and is not. */
#define QUOTE_MAX 200

void ch_info_clear(struct ch_info *i)
{
        json_decref(i->body);
        *i = (struct ch_info){ .state = CH_UNKNOWN };
}

static int call(const char *run_dir, const char *method, const char *endpoint, const char *body,
                int timeout_ms, struct cc_http_reply *ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, CH_API_SOCK);
        CC_FREE char *target = xasprintf(PREFIX "%s", endpoint);
        int r = cc_http_unix(path, method, target, body, timeout_ms, ret, err);

        if (r < 0)
                (void)cc_wrap(err,
                              "cloud-hypervisor"); /* callers branch on r, with or without err */
        return r;
}

/* Text from a peer, made fit for one line of ours. */
static void quote(struct cc_buf *out, const char *s, size_t n)
{
        if (n > QUOTE_MAX)
                n = QUOTE_MAX;
        while (n && (s[n - 1] == '\n' || s[n - 1] == '\r' || s[n - 1] == ' '))
                n--;
        for (size_t i = 0; i < n; i++)
                cc_buf_char(out, (unsigned char)s[i] < ' ' || s[i] == 0x7f ? '?' : s[i]);
}

/* ["outermost","…","cause"], {"error":"…"} or anything. */
static char *reason(const struct cc_http_reply *reply)
{
        CC_BUF struct cc_buf out = { 0 };
        CC_JSON json_t *j = NULL;
        const char *s;

        if (reply->body.len == 0) {
                cc_buf_printf(&out, "status %d", reply->status);
                return cc_buf_take(&out);
        }
        if (cc_json_parse(reply->body.data, reply->body.len, "answer", &j, NULL) == 0) {
                for (size_t i = 0; json_is_array(j) && i < json_array_size(j); i++) {
                        s = json_string_value(json_array_get(j, i));
                        if (!s)
                                continue;
                        cc_buf_str(&out, out.len ? ": " : "");
                        quote(&out, s, strlen(s));
                }
                s = json_string_value(json_object_get(j, "error"));
                if (s)
                        quote(&out, s, strlen(s));
        }
        if (out.len == 0)
                quote(&out, reply->body.data, reply->body.len);
        return cc_buf_take(&out);
}

static int refusal(const char *endpoint, const struct cc_http_reply *reply, struct cc_err *err)
{
        CC_FREE char *why = reason(reply);
        enum cc_class class = CC_INVALID;

        if (reply->status >= 500 || reply->status == 409)
                class = reply->status == 503 ? CC_BUSY : CC_STATE;
        else if (reply->status == 404)
                class = CC_NOT_FOUND;
        else if (reply->status == 429)
                class = CC_BUSY;
        return cc_fail(err, class, "cloud-hypervisor: %s: %s", endpoint, why);
}

static int parse_body(const char *endpoint, const struct cc_http_reply *reply, json_t **ret,
                      struct cc_err *err)
{
        CC_FREE char *what = xasprintf("cloud-hypervisor: %s: answer", endpoint);

        return cc_json_parse(reply->body.data, reply->body.len, what, ret, err);
}

int ch_put(const char *run_dir, const char *endpoint, const json_t *body, int timeout_ms,
           json_t **ret, struct cc_err *err)
{
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        CC_FREE char *text = body ? cc_json_compact(body) : NULL;
        json_t *j = NULL;
        int r = call(run_dir, "PUT", endpoint, text, timeout_ms, &reply, err);

        if (r < 0)
                return r;
        if (reply.status >= 300)
                return refusal(endpoint, &reply, err);
        if (ret && reply.body.len) {
                r = parse_body(endpoint, &reply, &j, err);
                if (r < 0)
                        return r;
        }
        if (ret)
                *ret = j;
        return 0;
}

static enum ch_state state_of(const json_t *info)
{
        static const struct {
                const char *name;
                enum ch_state state;
        } rows[] = {
                { "Created", CH_CREATED },       { "Running", CH_RUNNING },
                { "Paused", CH_PAUSED },         { "Shutdown", CH_SHUTDOWN },
                { "BreakPoint", CH_BREAKPOINT },
        };
        const char *s = json_string_value(json_object_get(info, "state"));

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                if (cc_streq(s, rows[i].name))
                        return rows[i].state;
        return CH_UNKNOWN;
}

/* "VM is not created": 404 since v53, 500 before; but 404 has other reasons elsewhere, not here. */
static bool says_no_vm(const struct cc_http_reply *reply)
{
        if (reply->status == 404)
                return true;
        return reply->status == 500 && reply->body.len &&
               strcasestr(reply->body.data, "not created");
}

int ch_get_info(const char *run_dir, int timeout_ms, struct ch_info *ret, struct cc_err *err)
{
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        CC_JSON json_t *body = NULL;
        int r = call(run_dir, "GET", "vm.info", NULL, timeout_ms, &reply, err);

        if (r < 0)
                return r;
        if (says_no_vm(&reply)) {
                *ret = (struct ch_info){ .state = CH_NO_VM };
                return 0;
        }
        if (reply.status != 200)
                return refusal("vm.info", &reply, err);
        r = parse_body("vm.info", &reply, &body, err);
        if (r < 0)
                return r;
        if (!json_is_object(body))
                return cc_fail(err, CC_INVALID,
                               "cloud-hypervisor: vm.info: the answer is no object");
        ret->state = state_of(body);
        ret->body = TAKE_PTR(body);
        return 0;
}

/* A question that went wrong with `r`: true after a pause when it may be asked again. *err is the
 * caller's to report otherwise. */
static bool ask_again(size_t attempt, int r)
{
        static const int pause_ms[] = { 100, 200, 400 };
        struct pollfd stop = { .fd = cc_interrupt_wait_fd(), .events = POLLIN };

        if (attempt >= CC_ARRAY_LEN(pause_ms) ||
            (r != -CC_IO && r != -CC_UNAVAILABLE && r != -CC_STATE && r != -CC_BUSY))
                return false;
        (void)poll(&stop, 1, pause_ms[attempt]);
        return !cc_interrupted();
}

int ch_get_info_retry(const char *run_dir, int timeout_ms, struct ch_info *ret, struct cc_err *err)
{
        for (size_t i = 0;; i++) {
                struct cc_err why = CC_ERR_INIT;
                int r = ch_get_info(run_dir, timeout_ms, ret, &why);

                if (r == 0)
                        return 0;
                if (!ask_again(i, r))
                        return cc_err_copy(err, &why);
        }
}

static int ping(const char *run_dir, json_t **ret, struct cc_err *err)
{
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        int r = call(run_dir, "GET", "vmm.ping", NULL, CH_INFO_MS, &reply, err);

        if (r < 0)
                return r;
        return reply.status == 200 ? parse_body("vmm.ping", &reply, ret, err)
                                   : refusal("vmm.ping", &reply, err);
}

int ch_ping_version(const char *run_dir, char **ret, struct cc_err *err)
{
        CC_JSON json_t *body = NULL;
        const char *version;

        for (size_t i = 0; !body; i++) {
                struct cc_err why = CC_ERR_INIT;
                int r = ping(run_dir, &body, &why);

                if (r < 0 && !ask_again(i, r))
                        return cc_err_copy(err, &why);
        }
        version = json_string_value(json_object_get(body, "version"));
        if (!version)
                return cc_fail(err, CC_INVALID, "cloud-hypervisor: vmm.ping: no version");
        *ret = xstrdup(version);
        return 0;
}

bool ch_answers(const char *run_dir, int timeout_ms)
{
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        int r = call(run_dir, "GET", "vmm.ping", NULL, timeout_ms, &reply, NULL);

        return r != -CC_UNAVAILABLE;
}

/* A transition into the state that the machine has is what was wanted. */
static int transition(const char *run_dir, const char *endpoint, const char *already,
                      struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r = ch_put(run_dir, endpoint, NULL, CH_API_MS, NULL, &why);

        if (r == -CC_STATE && strstr(why.msg, already)) {
                cc_debug("ch.api", "%s", why.msg);
                return 0;
        }
        return r < 0 ? cc_err_copy(err, &why) : 0;
}

int ch_pause(const char *run_dir, struct cc_err *err)
{
        return transition(run_dir, "vm.pause", "InvalidStateTransition(Paused, Paused)", err);
}

int ch_resume(const char *run_dir, struct cc_err *err)
{
        return transition(run_dir, "vm.resume", "InvalidStateTransition(Running, Running)", err);
}

const char *ch_info_pty(const struct ch_info *info, const char **ret_mode)
{
        const json_t *config = json_object_get(info->body, "config");
        const json_t *console = json_object_get(config, "console");
        const char *file = json_string_value(json_object_get(console, "file"));
        const char *mode = json_string_value(json_object_get(console, "mode"));

        if (ret_mode)
                *ret_mode = mode ? mode : "";
        return file ? file : "";
}
