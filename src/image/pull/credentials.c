/* Reading credential files and asking credential helpers. See credentials.h. */
#include "image/pull/credentials.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"

#define HUB_REGISTRY "index.docker.io"
#define HUB_KEY      "https://index.docker.io/v1/"

enum { FILE_MAX = 1 << 20, HELPER_MAX = 64 * 1024, HELPER_TIMEOUT_MS = 30 * 1000 };

static void wipe(char **s)
{
        if (*s)
                OPENSSL_cleanse(*s, strlen(*s));
        free(*s);
        *s = NULL;
}

void credentials_clear(struct credentials *c)
{
        wipe(&c->username);
        wipe(&c->password);
        wipe(&c->identity_token);
        wipe(&c->registry_token);
}

static bool found(const struct credentials *c)
{
        return c->username || c->identity_token || c->registry_token;
}

/* The first file that exists, parsed; *ret NULL when there is none. */
static int load_file(json_t **ret, char **ret_path, struct cc_err *err)
{
        const char *docker = getenv("DOCKER_CONFIG");
        const char *home = getenv("HOME");
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        CC_STRV struct cc_strv paths = { 0 };
        const char *path;

        if (!cc_isempty(docker))
                cc_strv_addf(&paths, "%s/config.json", docker);
        if (!cc_isempty(home))
                cc_strv_addf(&paths, "%s/.docker/config.json", home);
        if (!cc_isempty(runtime))
                cc_strv_addf(&paths, "%s/containers/auth.json", runtime);
        cc_strv_foreach (&paths, i, path) {
                CC_FREE char *text = NULL;
                size_t n;
                int r;

                if (!cc_exists(path))
                        continue;
                r = cc_read_file(path, FILE_MAX, &text, &n, err);
                if (r == 0)
                        r = cc_json_parse(text, n, path, ret, err);
                if (r < 0)
                        return cc_wrap(err, "registry credentials");
                *ret_path = xstrdup(path);
                return 0;
        }
        *ret = NULL;
        return 0;
}

/* "auth": base64 of user:password. */
static int decode_auth(const char *text, struct credentials *c, struct cc_err *err)
{
        size_t n = strlen(text);
        CC_FREE unsigned char *plain = xmalloc(n + 4);
        char *colon;
        int len = n % 4 == 0 && n < 64 * 1024
                          ? EVP_DecodeBlock(plain, (const unsigned char *)text, (int)n)
                          : -1;

        if (len >= 0) {
                /* EVP_DecodeBlock counts the bytes that padding stands for. */
                for (size_t i = n; i > 0 && text[i - 1] == '=' && len > 0; i--)
                        len--;
                plain[len] = '\0';
        }
        colon = len >= 0 ? strchr((char *)plain, ':') : NULL;
        if (!colon)
                return cc_fail(err, CC_INVALID,
                               "registry credentials: \"auth\" is not the base64 "
                               "of user:password");
        c->username = xstrndup((char *)plain, (size_t)(colon - (char *)plain));
        c->password = xstrdup(colon + 1);
        OPENSSL_cleanse(plain, (size_t)len);
        return 0;
}

static int from_entry(const json_t *entry, struct credentials *c, struct cc_err *err)
{
        const char *auth = NULL;
        const char *user = NULL;
        const char *password = NULL;
        const char *identity = NULL;
        const char *registry = NULL;
        int r = cc_json_str(entry, "auth", &auth, err);

        if (r == 0)
                r = cc_json_str(entry, "username", &user, err);
        if (r == 0)
                r = cc_json_str(entry, "password", &password, err);
        if (r == 0)
                r = cc_json_str(entry, "identitytoken", &identity, err);
        if (r == 0)
                r = cc_json_str(entry, "registrytoken", &registry, err);
        if (r < 0)
                return cc_wrap(err, "registry credentials");
        if (!cc_isempty(identity))
                c->identity_token = xstrdup(identity);
        if (!cc_isempty(registry))
                c->registry_token = xstrdup(registry);
        if (!cc_isempty(auth))
                return decode_auth(auth, c, err);
        if (!cc_isempty(user)) {
                c->username = xstrdup(user);
                c->password = xstrdup(password ? password : "");
        }
        return 0;
}

static bool helper_name_valid(const char *s)
{
        return *s && s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                 "._-")] == '\0';
}

static int from_helper(const char *name, const char *server, struct credentials *c,
                       struct cc_err *err)
{
        CC_FREE char *program = xasprintf("docker-credential-%s", name);
        const char *argv[] = { program, "get", NULL };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result run = { 0 };
        CC_JSON json_t *answer = NULL;
        const char *user = NULL;
        const char *secret = NULL;
        int r;

        if (!helper_name_valid(name))
                return cc_fail(err, CC_INVALID, "registry credentials: invalid helper name \"%s\"",
                               name);
        r = cc_run(argv, server, strlen(server), HELPER_MAX, HELPER_TIMEOUT_MS, &run, err);
        if (r < 0)
                return cc_wrap(err, "registry credentials");
        if (run.status != 0) {
                if (run.out.data && strstr(run.out.data, "not found"))
                        return 0;
                return cc_fail(err, CC_AUTH, "%s failed with status %d", program, run.status);
        }
        r = cc_json_parse(run.out.data ? run.out.data : "", run.out.len, program, &answer, err);
        if (r == 0)
                r = cc_json_str(answer, "Username", &user, err);
        if (r == 0)
                r = cc_json_str(answer, "Secret", &secret, err);
        if (run.out.data)
                OPENSSL_cleanse(run.out.data, run.out.len);
        if (r < 0)
                return cc_wrap(err, "%s", program);
        if (cc_isempty(secret))
                return 0;
        if (cc_streq(user, "<token>")) {
                c->identity_token = xstrdup(secret);
        } else if (!cc_isempty(user)) {
                c->username = xstrdup(user);
                c->password = xstrdup(secret);
        }
        return 0;
}

static int ask_helpers(const json_t *file, const char *registry, struct credentials *c,
                       struct cc_err *err)
{
        const char *server = cc_streq(registry, HUB_REGISTRY) ? HUB_KEY : registry;
        const json_t *map = json_object_get(file, "credHelpers");
        const char *name = json_string_value(json_object_get(map, server));
        const char *store = json_string_value(json_object_get(file, "credsStore"));
        int r;

        if (!name)
                name = json_string_value(json_object_get(map, registry));
        if (!cc_isempty(name)) {
                r = from_helper(name, server, c, err);
                if (r < 0 || found(c))
                        return r;
        }
        return cc_isempty(store) ? 0 : from_helper(store, server, c, err);
}

/* Full repository first, then its parents, then the host. */
static const json_t *find_entry(const json_t *auths, const char *registry, const char *repository)
{
        CC_FREE char *key = xasprintf("%s/%s", registry, repository);
        const json_t *entry;

        for (;;) {
                char *slash;

                entry = json_object_get(auths, key);
                slash = strrchr(key, '/');
                if (entry || !slash)
                        break;
                *slash = '\0';
        }
        if (!entry && cc_streq(registry, HUB_REGISTRY)) {
                entry = json_object_get(auths, HUB_KEY);
                if (!entry)
                        entry = json_object_get(auths, "docker.io");
        }
        return entry;
}

int credentials_find(const char *registry, const char *repository, struct credentials *ret,
                     struct cc_err *err)
{
        struct credentials c = { 0 };
        CC_JSON json_t *file = NULL;
        CC_FREE char *path = NULL;
        const json_t *entry;
        int r = load_file(&file, &path, err);

        if (r < 0)
                return r;
        *ret = c;
        if (!file)
                return 0;
        r = ask_helpers(file, registry, &c, err);
        if (r == 0 && !found(&c)) {
                entry = find_entry(json_object_get(file, "auths"), registry, repository);
                if (entry)
                        r = from_entry(entry, &c, err);
        }
        if (r < 0) {
                credentials_clear(&c);
                return r;
        }
        *ret = c;
        return 0;
}
