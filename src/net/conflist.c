/* CNI network lists. See conflist.h. */
#include "net/conflist.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"

#define FILE_BYTES_MAX (1u << 20)
#define PLUGINS_MAX    64
#define FILES_MAX      1024

#define OLDEST_VERSION "0.1.0"

void conflist_clear(struct conflist *c)
{
        free(c->name);
        free(c->version);
        json_decref(c->plugins);
        *c = (struct conflist){ 0 };
}

void conflists_clear(struct conflists *l)
{
        for (size_t i = 0; i < l->len; i++)
                conflist_clear(l->v + i);
        free(l->v);
        cc_strv_free(&l->skipped);
        *l = (struct conflists){ 0 };
}

/* ---- versions ---- */

/* Three numbers of at most four digits, which fit any arithmetic. */
static bool version_parts(const char *s, unsigned ret[3])
{
        for (int i = 0; i < 3; i++) {
                int digits = 0;

                ret[i] = 0;
                for (; isdigit((unsigned char)*s) && digits < 4; s++, digits++)
                        ret[i] = ret[i] * 10 + (unsigned)(*s - '0');
                if (digits == 0 || *s != (i < 2 ? '.' : '\0'))
                        return false;
                s++;
        }
        return true;
}

bool cni_version_valid(const char *s)
{
        unsigned parts[3];

        return s && version_parts(s, parts);
}

int cni_version_compare(const char *a, const char *b)
{
        unsigned x[3] = { 0 };
        unsigned y[3] = { 0 };

        (void)version_parts(a, x);
        (void)version_parts(b, y);
        for (int i = 0; i < 3; i++)
                if (x[i] != y[i])
                        return x[i] < y[i] ? -1 : 1;
        return 0;
}

static int consider(const char *version, const char **best, struct cc_err *err)
{
        if (!cni_version_valid(version))
                return cc_fail(err, CC_INVALID, "\"%s\" is not a CNI version", version);
        if (cni_version_compare(version, CNI_VERSION) <= 0 &&
            (!*best || cni_version_compare(version, *best) > 0))
                *best = version;
        return 0;
}

/* The newest of cniVersion and cniVersions that we know. */
static int choose_version(const json_t *doc, char **ret, struct cc_err *err)
{
        const json_t *all = json_object_get(doc, "cniVersions");
        const char *one = NULL;
        const char *best = NULL;
        const json_t *item;
        size_t i;
        int r = cc_json_str(doc, "cniVersion", &one, err);

        if (r == 0 && !cc_isempty(one))
                r = consider(one, &best, err);
        if (r == 0 && all && !json_is_array(all))
                r = cc_fail(err, CC_INVALID, "field \"cniVersions\" is not a list");
        json_array_foreach (all, i, item) {
                if (r == 0 && !json_is_string(item))
                        r = cc_fail(err, CC_INVALID,
                                    "field \"cniVersions\" is not a list of "
                                    "strings");
                if (r == 0)
                        r = consider(json_string_value(item), &best, err);
        }
        if (r < 0)
                return r;
        if (!best && (!cc_isempty(one) || json_array_size(all) > 0))
                return cc_fail(err, CC_UNSUPPORTED,
                               "it needs a newer CNI version than " CNI_VERSION);
        *ret = xstrdup(best ? best : OLDEST_VERSION);
        return 0;
}

/* ---- one list ---- */

/* ^[a-zA-Z0-9][a-zA-Z0-9_.-]*$, short enough to be part of a file name. */
static bool name_valid(const char *s)
{
        size_t n = strlen(s);

        if (n == 0 || n > 128 || !isalnum((unsigned char)s[0]))
                return false;
        for (size_t i = 1; i < n; i++)
                if (!isalnum((unsigned char)s[i]) && !strchr("_.-", s[i]))
                        return false;
        return true;
}

static int check_plugin(const json_t *p, struct cc_err *err)
{
        const char *type = NULL;
        int r;

        if (!json_is_object(p))
                return cc_fail(err, CC_INVALID, "a plugin is not an object");
        r = cc_json_str(p, "type", &type, err);
        if (r < 0)
                return cc_wrap(err, "plugin");
        if (cc_isempty(type) || strchr(type, '/') || cc_streq(type, ".") || cc_streq(type, ".."))
                return cc_fail(err, CC_INVALID, "a plugin has no valid type");
        return 0;
}

/* A boolean that libcni also takes as a string. */
static int flag(const json_t *doc, const char *key, bool *ret, struct cc_err *err)
{
        const json_t *v = json_object_get(doc, key);

        if (!v || json_is_null(v))
                return 0;
        if (json_is_boolean(v))
                *ret = json_is_true(v);
        else if (json_is_string(v) && !strcasecmp(json_string_value(v), "true"))
                *ret = true;
        else if (json_is_string(v) && !strcasecmp(json_string_value(v), "false"))
                *ret = false;
        else
                return cc_fail(err, CC_INVALID, "field \"%s\" is not a boolean", key);
        return 0;
}

static int read_json(const char *path, json_t **ret, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        size_t n = 0;
        int r = cc_read_file(path, FILE_BYTES_MAX, &text, &n, err);

        return r < 0 ? r : cc_json_parse(text, n, "it", ret, err);
}

/* Names in `dir` with one of the suffixes, sorted; a missing directory has none. */
static int list_dir(const char *dir, const char *const *suffixes, struct cc_strv *ret,
                    struct cc_err *err)
{
        CC_DIR DIR *d = opendir(dir);
        struct dirent *e;

        if (!d && (errno == ENOENT || errno == ENOTDIR))
                return 0;
        if (!d)
                return cc_fail_errno(err, errno, "open %s", dir);
        while ((e = readdir(d))) {
                for (const char *const *s = suffixes; *s; s++)
                        if (e->d_name[0] != '.' && cc_endswith(e->d_name, *s))
                                cc_strv_add(ret, e->d_name);
                if (ret->len > FILES_MAX)
                        return cc_fail(err, CC_INVALID, "%s has more than %d files", dir,
                                       FILES_MAX);
        }
        cc_strv_sort(ret);
        return 0;
}

/* The plugins of <dir>/<name>/, one a file. */
static int append_inlined(const char *dir, struct conflist *c, struct cc_err *err)
{
        static const char *const suffixes[] = { ".conf", NULL };
        CC_FREE char *sub = cc_path_join(dir, c->name);
        CC_STRV struct cc_strv files = { 0 };
        int r = list_dir(sub, suffixes, &files, err);

        for (size_t i = 0; i < files.len && r == 0; i++) {
                CC_FREE char *path = cc_path_join(sub, files.v[i]);
                CC_JSON json_t *p = NULL;

                r = read_json(path, &p, err);
                if (r == 0)
                        r = check_plugin(p, err);
                if (r < 0)
                        return cc_wrap(err, "%s/%s", c->name, files.v[i]);
                (void)json_array_append(c->plugins, p);
        }
        return r;
}

/* A single plugin, with the keys that are the list's taken out. */
static json_t *plugin_of(const json_t *doc)
{
        json_t *p = json_copy((json_t *)(uintptr_t)doc);

        (void)json_object_del(p, "cniVersions");
        return p;
}

static int build(const json_t *doc, const char *extra_dir, struct conflist *c, struct cc_err *err)
{
        const json_t *plugins = json_object_get(doc, "plugins");
        const char *name = NULL;
        bool only_inlined = false;
        json_t *p;
        size_t i;
        int r;

        if (!json_is_object(doc))
                return cc_fail(err, CC_INVALID, "it is not an object");
        r = cc_json_str(doc, "name", &name, err);
        if (r == 0 && cc_isempty(name))
                r = cc_fail(err, CC_INVALID, "it has no name");
        if (r == 0 && !name_valid(name))
                r = cc_fail(err, CC_INVALID, "\"%s\" is not a valid name", name);
        if (r == 0)
                r = choose_version(doc, &c->version, err);
        if (r == 0)
                r = flag(doc, "loadOnlyInlinedPlugins", &only_inlined, err);
        if (r < 0)
                return r;
        c->name = xstrdup(name);
        c->plugins = json_array();
        if (plugins && !json_is_array(plugins))
                return cc_fail(err, CC_INVALID, "field \"plugins\" is not a list");
        json_array_foreach (plugins, i, p)
                (void)json_array_append(c->plugins, p);
        if (!plugins && json_object_get(doc, "type"))
                (void)json_array_append_new(c->plugins, plugin_of(doc));
        else if (!only_inlined && extra_dir)
                r = append_inlined(extra_dir, c, err);
        if (r == 0 && json_array_size(c->plugins) == 0)
                r = cc_fail(err, CC_INVALID, "it has no plugins");
        if (r == 0 && json_array_size(c->plugins) > PLUGINS_MAX)
                r = cc_fail(err, CC_INVALID, "it has more than %d plugins", PLUGINS_MAX);
        json_array_foreach (c->plugins, i, p)
                if (r == 0)
                        r = check_plugin(p, err);
        return r;
}

static int from_json(const json_t *doc, const char *extra_dir, struct conflist *ret,
                     struct cc_err *err)
{
        struct conflist c = { 0 };
        int r = build(doc, extra_dir, &c, err);

        if (r < 0)
                conflist_clear(&c);
        else
                *ret = c;
        return r;
}

int conflist_parse(const char *text, size_t n, const char *extra_dir, struct conflist *ret,
                   struct cc_err *err)
{
        CC_JSON json_t *doc = NULL;
        int r = cc_json_parse(text, n, "network list", &doc, err);

        return r < 0 ? r : from_json(doc, extra_dir, ret, err);
}

char *conflist_text(const struct conflist *c)
{
        CC_JSON json_t *doc =
                json_pack("{s:s, s:s, s:b, s:O}", "cniVersion", c->version, "name", c->name,
                          "loadOnlyInlinedPlugins", 1, "plugins", c->plugins);

        return cc_json_compact(doc);
}

/* ---- a directory of them ---- */

/* Values of --network that mean something else (provider.h, offers). */
static bool is_reserved(const char *name)
{
        return cc_streq(name, "cocoon-builtin") || cc_streq(name, "user");
}

static void take_file(const char *dir, const char *file, struct conflists *l)
{
        CC_FREE char *path = cc_path_join(dir, file);
        CC_JSON json_t *doc = NULL;
        struct cc_err why = CC_ERR_INIT;
        struct conflist c = { 0 };
        int r = read_json(path, &doc, &why);

        if (r == 0)
                r = from_json(doc, dir, &c, &why);
        if (r < 0) {
                cc_strv_addf(&l->skipped, "%s: %s", path, why.msg);
                return;
        }
        if (is_reserved(c.name) || conflists_find(l, c.name)) {
                cc_strv_addf(&l->skipped, "%s: %s the name \"%s\"", path,
                             is_reserved(c.name) ? "cocoon itself has" : "an earlier file has",
                             c.name);
                conflist_clear(&c);
                return;
        }
        l->v = xreallocarray(l->v, l->len + 1, sizeof(*l->v));
        l->v[l->len++] = c;
}

int conflists_load(const char *dir, struct conflists *ret, struct cc_err *err)
{
        static const char *const lists[] = { ".conflist", NULL };
        static const char *const singles[] = { ".conf", ".json", NULL };
        static const char *const *const kinds[] = { lists, singles };
        struct conflists l = { 0 };

        for (size_t k = 0; k < CC_ARRAY_LEN(kinds) && !cc_isempty(dir); k++) {
                CC_STRV struct cc_strv files = { 0 };
                int r = list_dir(dir, kinds[k], &files, err);

                if (r < 0) {
                        conflists_clear(&l);
                        return cc_wrap(err, "CNI configuration");
                }
                for (size_t i = 0; i < files.len; i++)
                        take_file(dir, files.v[i], &l);
        }
        *ret = l;
        return 0;
}

const struct conflist *conflists_find(const struct conflists *l, const char *name)
{
        for (size_t i = 0; i < l->len; i++)
                if (cc_streq(l->v[i].name, name))
                        return l->v + i;
        return NULL;
}

int conflists_not_found(const struct conflists *l, const char *name, const struct cc_strv *more,
                        struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        CC_FREE char *list = NULL;
        CC_FREE char *skipped = NULL;
        const char *close;

        for (size_t i = 0; i < l->len; i++)
                cc_strv_add(&names, l->v[i].name);
        for (size_t i = 0; more && i < more->len; i++)
                if (!cc_strv_has(&names, more->v[i]))
                        cc_strv_add(&names, more->v[i]);
        cc_strv_sort(&names);
        list = cc_strv_join(&names, ", ");
        skipped = cc_strv_join(&l->skipped, "; ");
        (void)cc_fail(err, CC_NOT_FOUND, "conflist \"%s\" not found (available: %s)%s%s", name,
                      names.len ? list : "none", *skipped ? "; left out: " : "", skipped);
        close = cc_closest(name, (const char *const *)names.v, names.len);
        if (close)
                cc_hint(err, "did you mean \"%s\"?", close);
        return -CC_NOT_FOUND;
}
