/* One run of one CNI plugin. See cni_exec.h. */
#include "net/cni_exec.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/timeutil.h"

#define OUTPUT_MAX (1u << 20)
#define QUOTE_MAX  1000
#define BUSY_TRIES 5

extern char **environ;

/* Plugins run iptables and the like, which a service's PATH may lack. */
#define SBIN "/usr/local/sbin:/usr/sbin:/sbin"

static void make_env(const struct cni_call *call, const char *command, struct cc_strv *ret)
{
        CC_FREE char *dirs = cc_strv_join(call->path, ":");
        const char *path = getenv("PATH");

        for (char **e = environ; *e; e++)
                if (!cc_startswith(*e, "CNI_") && !cc_startswith(*e, "PATH="))
                        cc_strv_add(ret, *e);
        cc_strv_addf(ret, "PATH=%s%s" SBIN, path ? path : "/usr/local/bin:/usr/bin:/bin",
                     cc_isempty(path) && path ? "" : ":");
        cc_strv_addf(ret, "CNI_COMMAND=%s", command);
        cc_strv_addf(ret, "CNI_CONTAINERID=%s", call->id);
        cc_strv_addf(ret, "CNI_NETNS=%s", call->netns);
        cc_strv_addf(ret, "CNI_IFNAME=%s", call->if_name);
        cc_strv_addf(ret, "CNI_ARGS=%s", call->args);
        cc_strv_addf(ret, "CNI_PATH=%s", dirs);
}

int cni_pause(struct cc_err *err)
{
        int64_t end = cc_monotonic() + CC_NSEC_PER_SEC;
        struct pollfd stop = { .events = POLLIN };

        for (;;) {
                int64_t left = (end - cc_monotonic()) / CC_NSEC_PER_MSEC;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (left <= 0)
                        return 0;
                stop.fd = cc_interrupt_wait_fd();
                (void)poll(&stop, 1, (int)left);
        }
}

/* What is left of the time, in ms; -CC_TIMEOUT when nothing is. */
static int time_left(const struct cni_call *call, int *ret, struct cc_err *err)
{
        int64_t left;

        *ret = call->timeout_ms;
        if (!call->deadline)
                return 0;
        left = (call->deadline - cc_monotonic()) / CC_NSEC_PER_MSEC;
        if (left <= 0)
                return cc_fail(err, CC_TIMEOUT, "no time left to run it");
        if (left < INT_MAX && (*ret <= 0 || left < *ret))
                *ret = (int)left;
        return 0;
}

/* A plugin that is being replaced (text busy) is tried again. */
static int run(const struct cni_call *call, const char *file, const char *command,
               const char *input, struct cc_run_result *ret, struct cc_err *err)
{
        const char *const argv[] = { file, NULL };
        CC_STRV struct cc_strv env = { 0 };

        make_env(call, command, &env);
        for (int i = 1;; i++) {
                struct cc_err why = CC_ERR_INIT;
                int ms = 0;
                int r = time_left(call, &ms, err);

                if (r < 0)
                        return r;
                r = cc_run_env(argv, (const char *const *)env.v, input, strlen(input), OUTPUT_MAX,
                               ms, ret, &why);
                if (r == 0)
                        return 0;
                if (why.sys != ETXTBSY || i == BUSY_TRIES)
                        return cc_err_copy(err, &why);
                r = cni_pause(err);
                if (r < 0)
                        return r;
        }
}

/* Foreign text as part of one line of ours. Caller frees. */
static char *quote(const char *text)
{
        size_t n = strnlen(text, QUOTE_MAX);
        char *s = xstrndup(text, n);

        for (char *p = s; *p; p++)
                if (iscntrl((unsigned char)*p))
                        *p = ' ';
        while (n && s[n - 1] == ' ')
                s[--n] = '\0';
        return s;
}

/* The text of a failure: the error object on stdout, else whatever was printed. */
static char *explain(const struct cc_run_result *out, unsigned *ret_code)
{
        const char *text = out->out.len ? out->out.data : "";
        CC_JSON json_t *e = NULL;
        const char *msg = NULL;
        const char *details = NULL;
        int64_t code = 0;

        while (isspace((unsigned char)*text))
                text++;
        if (!*text) {
                CC_FREE char *said = quote(out->err.len ? out->err.data : "");

                return *said ? TAKE_PTR(said) : xstrdup("failed with no error message");
        }
        if (cc_json_parse(text, strlen(text), "error", &e, NULL) < 0 || !json_is_object(e) ||
            cc_json_str(e, "msg", &msg, NULL) < 0 || cc_json_str(e, "details", &details, NULL) < 0)
                return quote(text);
        if (cc_json_int(e, "code", &code, NULL) == 0 && code > 0 && code <= INT_MAX)
                *ret_code = (unsigned)code;
        if (cc_isempty(msg) && cc_isempty(details))
                return xasprintf("error code %lld without a message", (long long)code);
        if (!cc_isempty(msg) && !cc_isempty(details)) {
                CC_FREE char *both = xasprintf("%s; %s", msg, details);

                return quote(both);
        }
        return quote(cc_isempty(msg) ? details : msg);
}

static int answer(const struct cc_run_result *out, const char *command, json_t **ret,
                  struct cc_err *err)
{
        const char *text = out->out.len ? out->out.data : "";
        bool needed = cc_streq(command, "ADD") || cc_streq(command, "VERSION");
        CC_JSON json_t *j = NULL;

        while (isspace((unsigned char)*text))
                text++;
        if (!needed) {
                *ret = json_object();
                return 0;
        }
        if (!*text)
                return cc_fail(err, CC_INVALID, "it printed no result");
        if (cc_json_parse(text, strlen(text), "its result", &j, NULL) < 0 ||
            (!json_is_object(j) && !json_is_null(j))) {
                CC_FREE char *said = quote(text);

                return cc_fail(err, CC_INVALID, "it printed no valid result: %s", said);
        }
        *ret = json_is_object(j) ? TAKE_PTR(j) : json_object();
        return 0;
}

int cni_plugin_missing(const struct cc_strv *path, struct cc_err *err)
{
        CC_FREE char *dirs = cc_strv_join(path, ":");

        (void)cc_fail(err, CC_UNAVAILABLE, "no such plugin in %s", dirs);
        cc_hint(err, "install the plugin (Debian: containernetworking-plugins) or set cni_bin_dir");
        return -CC_UNAVAILABLE;
}

static int failed(const char *type, const char *command, struct cc_err *err)
{
        char verb[16];
        size_t i = 0;

        for (; command[i] && i + 1 < sizeof(verb); i++)
                verb[i] = (char)tolower((unsigned char)command[i]);
        verb[i] = '\0';
        return cc_wrap(err, "plugin type=\"%s\" failed (%s)", type, verb);
}

int cni_exec(const struct cni_call *call, const char *command, const char *type,
             const json_t *config, json_t **ret, unsigned *ret_code, struct cc_err *err)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result out = { 0 };
        CC_FREE char *file = cni_plugin_find(call->path, type);
        CC_FREE char *input = cc_json_compact(config);
        struct cc_err why = CC_ERR_INIT;
        int r = 0;

        *ret_code = CNI_CODE_NONE;
        if (!file) {
                r = cni_plugin_missing(call->path, &why);
        } else {
                r = run(call, file, command, input, &out, &why);
                if (r == 0 && out.status != 0) {
                        CC_FREE char *said = NULL;

                        *ret_code = CNI_CODE_GENERIC;
                        said = explain(&out, ret_code);
                        (void)cc_fail(&why, CC_IO, "%s", said);
                }
                if (r == 0 && out.status == 0)
                        r = answer(&out, command, ret, &why);
        }
        if (why.class == CC_OK)
                return 0;
        (void)failed(type, command, &why);
        return cc_err_copy(err, &why);
}
