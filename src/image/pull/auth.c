/* Challenges, tokens and replay. See auth.h. */
#include "image/pull/auth.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/json.h"

enum { TOKEN_ANSWER_MAX = 1 << 20 };

void challenge_clear(struct challenge *c)
{
        free(c->realm);
        free(c->service);
        free(c->scope);
        memset(c, 0, sizeof(*c));
}

/* name=token or name="quoted \" string"; returns the position behind it, or NULL. */
static const char *parse_param(const char *p, char **ret_name, char **ret_value)
{
        CC_BUF struct cc_buf value = { 0 };
        size_t n = strcspn(p, "= ,");

        if (n == 0 || p[n] != '=')
                return NULL;
        *ret_name = xstrndup(p, n);
        p += n + 1;
        if (*p == '"') {
                for (p++; *p && *p != '"'; p++) {
                        if (*p == '\\' && p[1])
                                p++;
                        cc_buf_char(&value, *p);
                }
                if (*p == '"')
                        p++;
        } else {
                n = strcspn(p, ", ");
                cc_buf_add(&value, p, n);
                p += n;
        }
        *ret_value = cc_buf_take(&value);
        return p;
}

int challenge_parse(const char *header, struct challenge *ret, struct cc_err *err)
{
        struct challenge c = { 0 };
        const char *p;

        if (strncasecmp(header, "Basic", 5) == 0 && (!header[5] || header[5] == ' ')) {
                *ret = c;
                return 0;
        }
        if (strncasecmp(header, "Bearer ", 7) != 0)
                return cc_fail(err, CC_AUTH,
                               "the registry asks for an unknown authentication "
                               "scheme");
        c.bearer = true;
        p = header + 7;
        while (p) {
                CC_FREE char *name = NULL;
                CC_FREE char *value = NULL;

                p += strspn(p, ", \t");
                p = *p ? parse_param(p, &name, &value) : NULL;
                if (!p)
                        break;
                if (strcasecmp(name, "realm") == 0)
                        cc_strset(&c.realm, value);
                else if (strcasecmp(name, "service") == 0)
                        cc_strset(&c.service, value);
                else if (strcasecmp(name, "scope") == 0)
                        cc_strset(&c.scope, value);
        }
        if (cc_isempty(c.realm)) {
                challenge_clear(&c);
                return cc_fail(err, CC_AUTH, "the registry's Bearer challenge names no realm");
        }
        *ret = c;
        return 0;
}

int auth_check_realm(const struct reference *ref, const char *realm, struct cc_err *err)
{
        CC_FREE char *host = http_host_of(realm);
        bool https = strncasecmp(realm, "https://", 8) == 0;

        if (!https && !(ref->plain && strncasecmp(realm, "http://", 7) == 0))
                return cc_fail(err, CC_AUTH, "registry %s: the token service is not https",
                               ref->registry);
        /* user@host would hide the real host from the check below. */
        if (!*host || strchr(host, '@'))
                return cc_fail(err, CC_AUTH, "registry %s: invalid token service address",
                               ref->registry);
        if (!ref->plain && reference_host_is_internal(host))
                return cc_fail(err, CC_AUTH,
                               "registry %s: the token service has a private address (%s)",
                               ref->registry, host);
        return 0;
}

void registry_zero(struct registry *g)
{
        memset(g, 0, sizeof(*g));
        (void)pthread_mutex_init(&g->lock, NULL);
}

int registry_init(struct registry *g, const struct reference *ref, struct cc_err *err)
{
        g->ref = ref;
        return credentials_find(ref->registry, ref->repository, &g->cred, err);
}

static void wipe(char **s)
{
        if (*s)
                OPENSSL_cleanse(*s, strlen(*s));
        free(*s);
        *s = NULL;
}

void registry_free(struct registry *g)
{
        credentials_clear(&g->cred);
        wipe(&g->bearer);
        wipe(&g->basic);
        (void)pthread_mutex_destroy(&g->lock);
}

static char *basic_of(const struct credentials *c)
{
        return c->username ? xasprintf("%s:%s", c->username, c->password) : NULL;
}

static void add_param(struct cc_buf *b, const char *name, const char *value)
{
        CC_FREE char *escaped = value ? http_escape(value) : NULL;

        if (escaped)
                cc_buf_printf(b, "%s%s=%s", b->len ? "&" : "", name, escaped);
}

/* What the token is for: the challenge's scope first, ours if it is another one. */
static void add_scopes(struct cc_buf *b, const struct registry *g, const struct challenge *c)
{
        CC_FREE char *own = xasprintf("repository:%s:pull", g->ref->repository);

        add_param(b, "scope", c->scope);
        if (!cc_streq(own, c->scope))
                add_param(b, "scope", own);
}

/* POST with the identity token; *ret_absent when the service has no such endpoint. */
static int exchange_identity(struct registry *g, struct http *h, const struct challenge *c,
                             struct http_response *ret, bool *ret_absent, struct cc_err *err)
{
        CC_BUF struct cc_buf form = { 0 };
        CC_BUF struct cc_buf scope = { 0 };
        struct http_request rq = { .url = c->realm, .max = TOKEN_ANSWER_MAX };
        int r;

        rq.allow_http = g->ref->plain;
        add_param(&form, "grant_type", "refresh_token");
        add_param(&form, "service", c->service);
        add_param(&form, "client_id", "cocoon");
        if (c->scope)
                cc_buf_printf(&scope, "%s", c->scope);
        else
                cc_buf_printf(&scope, "repository:%s:pull", g->ref->repository);
        add_param(&form, "scope", scope.data);
        add_param(&form, "refresh_token", g->cred.identity_token);
        rq.form = form.data;
        r = http_get(h, &rq, ret, err);
        OPENSSL_cleanse(form.data, form.len);
        if (r == 0)
                *ret_absent = ret->status == 404 || ret->status == 405;
        return r;
}

static int get_token(struct registry *g, struct http *h, const struct challenge *c,
                     struct http_response *ret, struct cc_err *err)
{
        CC_BUF struct cc_buf query = { 0 };
        CC_FREE char *url = NULL;
        CC_FREE char *basic = basic_of(&g->cred);
        struct http_request rq = { .basic = basic, .max = TOKEN_ANSWER_MAX };

        add_param(&query, "service", c->service);
        add_scopes(&query, g, c);
        url = xasprintf("%s%s%s", c->realm, strchr(c->realm, '?') ? "&" : "?", query.data);
        rq.url = url;
        rq.allow_http = g->ref->plain;
        return http_get(h, &rq, ret, err);
}

static int take_token(struct registry *g, const struct http_response *answer, struct cc_err *err)
{
        CC_JSON json_t *json = NULL;
        const char *token = NULL;
        const char *refresh = NULL;
        int r;

        if (answer->status == 401 || answer->status == 403) {
                r = cc_fail(err, CC_AUTH, "registry %s refuses the stored credentials",
                            g->ref->registry);
                cc_hint(err, "log in with docker login, or correct the credentials file");
                return r;
        }
        if (answer->status != 200)
                return cc_fail(err, CC_AUTH, "the token service of %s answers with status %ld",
                               g->ref->registry, answer->status);
        r = cc_json_parse(answer->body.data ? answer->body.data : "", answer->body.len,
                          "token answer", &json, err);
        if (r == 0)
                r = cc_json_str(json, "token", &token, err);
        if (r == 0 && cc_isempty(token))
                r = cc_json_str(json, "access_token", &token, err);
        if (r == 0)
                r = cc_json_str(json, "refresh_token", &refresh, err);
        if (r < 0)
                return r;
        /* A control character in it would end up in a request header. */
        for (const char *p = token; p && *p; p++)
                if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
                        token = NULL;
        if (cc_isempty(token))
                return cc_fail(err, CC_AUTH, "the token service of %s sent no usable token",
                               g->ref->registry);
        wipe(&g->bearer);
        g->bearer = xstrdup(token);
        if (!cc_isempty(refresh)) {
                wipe(&g->cred.identity_token);
                g->cred.identity_token = xstrdup(refresh);
        }
        return 0;
}

/* Under the lock. */
static int authenticate(struct registry *g, struct http *h, const char *header, struct cc_err *err)
{
        CC_CLEANUP(challenge_clear) struct challenge c = { 0 };
        HTTP_RESPONSE struct http_response answer = { 0 };
        bool absent = true;
        int r;

        if (!header)
                return cc_fail(err, CC_AUTH,
                               "registry %s refuses access without saying how to authenticate",
                               g->ref->registry);
        r = challenge_parse(header, &c, err);
        if (r < 0)
                return r;
        if (!c.bearer) {
                wipe(&g->bearer);
                wipe(&g->basic);
                g->basic = basic_of(&g->cred);
                if (g->basic)
                        return 0;
                r = cc_fail(err, CC_AUTH, "registry %s needs a user and a password",
                            g->ref->registry);
                cc_hint(err, "log in with docker login");
                return r;
        }
        if (g->cred.registry_token && !cc_streq(g->bearer, g->cred.registry_token)) {
                wipe(&g->bearer);
                g->bearer = xstrdup(g->cred.registry_token);
                return 0;
        }
        r = auth_check_realm(g->ref, c.realm, err);
        if (r < 0)
                return r;
        if (g->cred.identity_token) {
                r = exchange_identity(g, h, &c, &answer, &absent, err);
                if (r < 0)
                        return cc_wrap(err, "token service of %s", g->ref->registry);
        }
        if (absent) {
                http_response_clear(&answer);
                r = get_token(g, h, &c, &answer, err);
                if (r < 0)
                        return cc_wrap(err, "token service of %s", g->ref->registry);
        }
        return take_token(g, &answer, err);
}

/* The registry's own words, if it sent the JSON error body of the distribution protocol. */
static char *registry_message(const struct http_response *r)
{
        CC_JSON json_t *json = NULL;
        const char *text;
        char *shown;

        if (!r->body.data || cc_json_parse(r->body.data, r->body.len, "error", &json, NULL) < 0)
                return xstrdup("");
        text = json_string_value(
                json_object_get(json_array_get(json_object_get(json, "errors"), 0), "message"));
        if (cc_isempty(text))
                return xstrdup("");
        shown = xasprintf(": %.200s", text);
        for (char *p = shown; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = ' ';
        return shown;
}

static int status_error(const struct registry *g, const char *what, const struct http_response *r,
                        struct cc_err *err)
{
        CC_FREE char *text = registry_message(r);
        enum cc_class class = CC_NETWORK;

        if (r->status == 401 || r->status == 403)
                class = CC_AUTH;
        else if (r->status == 404)
                class = CC_NOT_FOUND;
        return cc_fail(err, class, "%s: registry %s answers with status %ld%s", what,
                       g->ref->registry, r->status, text);
}

int registry_send(struct registry *g, struct http *h, struct http_request *rq, bool retry,
                  const char *what, struct http_response *ret, long *ret_status,
                  int64_t *ret_retry_after, struct cc_err *err)
{
        for (int round = 0;; round++) {
                HTTP_RESPONSE struct http_response r = { 0 };
                CC_FREE char *bearer = NULL;
                CC_FREE char *basic = NULL;
                unsigned generation;
                int res;

                (void)pthread_mutex_lock(&g->lock);
                bearer = xstrdup0(g->bearer);
                basic = xstrdup0(g->basic);
                generation = g->generation;
                (void)pthread_mutex_unlock(&g->lock);
                rq->bearer = bearer;
                rq->basic = basic;
                rq->allow_http = g->ref->plain;
                res = retry ? http_get(h, rq, &r, err) : http_once(h, rq, &r, err);
                rq->bearer = rq->basic = NULL;
                if (res < 0)
                        return cc_wrap(err, "%s", what);
                if (r.status == 401 && round == 0) {
                        (void)pthread_mutex_lock(&g->lock);
                        /* Another worker may have got a new token meanwhile: just replay. */
                        if (generation == g->generation) {
                                res = authenticate(g, h, r.challenge, err);
                                g->generation += res == 0 ? 1 : 0;
                        }
                        (void)pthread_mutex_unlock(&g->lock);
                        if (res < 0)
                                return res;
                        continue;
                }
                if (ret_status)
                        *ret_status = r.status;
                if (ret_retry_after)
                        *ret_retry_after = r.retry_after;
                if (r.status < 200 || r.status >= 300)
                        return status_error(g, what, &r, err);
                *ret = r;
                memset(&r, 0, sizeof(r));
                return 0;
        }
}
