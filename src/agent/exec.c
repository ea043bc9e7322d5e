/* First frames of sessions: a command, entropy (agent.md §3, §4). */
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/base64.h"
#include "agent/session.h"
#include "base/alloc.h"
#include "base/id.h"
#include "base/json.h"

#define ENTROPY 256

static int put_string(json_t *obj, const char *key, const char *value, struct cc_err *err)
{
        if (json_object_set_new(obj, key, json_string(value)) < 0)
                return cc_fail(err, CC_USAGE, "%s is not valid UTF-8", key);
        return 0;
}

static int put_argv(json_t *frame, const char *const *argv, struct cc_err *err)
{
        json_t *list = json_array();

        json_object_set_new(frame, "argv", list);
        for (size_t i = 0; argv[i]; i++)
                if (json_array_append_new(list, json_string(argv[i])) < 0)
                        return cc_fail(err, CC_USAGE, "argument %zu is not valid UTF-8", i + 1);
        return 0;
}

static int put_env(json_t *frame, const char *const *env, struct cc_err *err)
{
        json_t *map;

        if (!env || !env[0])
                return 0;
        map = json_object();
        json_object_set_new(frame, "env", map);
        for (size_t i = 0; env[i]; i++) {
                size_t n = strcspn(env[i], "=");
                CC_FREE char *key = xstrndup(env[i], n);

                if (n == 0 || env[i][n] != '=')
                        return cc_fail(err, CC_USAGE, "--env must be KEY=VALUE, got \"%s\"",
                                       env[i]);
                if (json_object_set_new(map, key, json_string(env[i] + n + 1)) < 0)
                        return cc_fail(err, CC_USAGE, "--env %s is not valid UTF-8", key);
        }
        return 0;
}

/* An older agent would ignore the key and do something else than was asked. */
static int need(const struct agent_conn *c, bool wanted, unsigned feature, const char *what,
                struct cc_err *err)
{
        if (!wanted || (c->greeted && (c->features & feature)))
                return 0;
        return cc_fail(err, CC_UNSUPPORTED, "agent does not support %s", what);
}

static int check_features(const struct agent_conn *c, const struct agent_exec *x,
                          struct cc_err *err)
{
        int r = need(c, x->tty, AGENT_TTY, "tty", err);

        if (r == 0)
                r = need(c, x->user != NULL, AGENT_USER, "user", err);
        if (r == 0)
                r = need(c, x->cwd != NULL, AGENT_CWD, "workdir", err);
        return r;
}

static int exec_frame(struct agent_session *s, const struct agent_exec *x, struct cc_err *err)
{
        CC_JSON json_t *frame = json_pack("{s:s}", "type", "exec");
        struct winsize w = { 0 };
        int r = put_argv(frame, x->argv, err);

        if (r == 0)
                r = put_env(frame, x->env, err);
        if (r == 0 && x->user)
                r = put_string(frame, "user", x->user, err);
        if (r == 0 && x->cwd)
                r = put_string(frame, "cwd", x->cwd, err);
        if (r == 0 && x->tty) {
                json_object_set_new(frame, "tty", json_true());
                if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row && w.ws_col) {
                        json_object_set_new(frame, "rows", json_integer(w.ws_row));
                        json_object_set_new(frame, "cols", json_integer(w.ws_col));
                }
                if (!cc_isempty(x->term))
                        r = put_string(frame, "term", x->term, err);
        }
        if (r < 0)
                return r;
        s->want_raw = s->conn->greeted && (s->conn->features & AGENT_RAW);
        if (s->want_raw)
                json_object_set_new(frame, "raw", json_true());
        agent_frame_json(&s->out, frame);
        return 0;
}

int agent_exec(struct agent_conn *c, const struct agent_exec *x, struct agent_result *ret,
               struct cc_err *err)
{
        AGENT_SESSION struct agent_session s;
        int r = check_features(c, x, err);

        agent_session_init(&s, c);
        if (r == 0)
                r = exec_frame(&s, x, err);
        if (r == 0 && s.out.len > AGENT_LINE_MAX)
                r = cc_fail(err, CC_USAGE, "command line and environment are too long");
        if (r < 0)
                return r;
        agent_sink_open(&s.sinks[0], x->fd_out, NULL);
        agent_sink_open(&s.sinks[1], x->fd_err, x->err_text);
        s.fd_in = x->fd_in;
        if (x->tty)
                r = agent_session_terminal(&s, err);
        return r < 0 ? r : agent_session_run(&s, x->timeout_ms, ret, err);
}

int agent_reseed(struct agent_conn *c, bool machine_id, int64_t timeout_ms, struct cc_err *err)
{
        AGENT_SESSION struct agent_session s;
        struct agent_result result;
        unsigned char seed[ENTROPY];
        int r;

        agent_session_init(&s, c);
        s.in_done = true; /* this kind of session has no input */
        cc_random(seed, sizeof(seed));
        cc_buf_str(&s.out, "{\"type\":\"reseed\",\"data\":\"");
        cc_buf_reserve(&s.out, agent_base64_len(sizeof(seed)) + 64);
        agent_base64_encode(seed, sizeof(seed), s.out.data + s.out.len);
        s.out.len += agent_base64_len(sizeof(seed));
        cc_buf_str(&s.out, machine_id ? "\",\"regen_machine_id\":true}\n" : "\"}\n");
        explicit_bzero(seed, sizeof(seed));
        r = agent_session_run(&s, timeout_ms, &result, err);
        /* The queue's storage had the seed too. */
        if (s.out.data)
                explicit_bzero(s.out.data, s.out.cap);
        if (r == 0 && result.code != 0)
                return cc_fail(err, CC_INVALID, "agent: reseed ended with code %d", result.code);
        return r;
}
