/* The runtime's memory. See cni_cache.h. */
#include "net/cni_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"

#define KIND     "cniCacheV1"
#define FILE_MAX (8u << 20)

void cni_cached_clear(struct cni_cached *c)
{
        conflist_clear(&c->list);
        free(c->vm_id);
        free(c->container);
        free(c->if_name);
        free(c->args);
        json_decref(c->caps);
        json_decref(c->result);
        *c = (struct cni_cached){ 0 };
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *encode(const char *s)
{
        size_t n = strlen(s);
        CC_BUF struct cc_buf out = { 0 };

        for (size_t i = 0; i < n; i += 3) {
                unsigned v = (unsigned)(unsigned char)s[i] << 16;

                if (i + 1 < n)
                        v |= (unsigned)(unsigned char)s[i + 1] << 8;
                if (i + 2 < n)
                        v |= (unsigned char)s[i + 2];
                cc_buf_char(&out, alphabet[v >> 18]);
                cc_buf_char(&out, alphabet[v >> 12 & 63]);
                cc_buf_char(&out, i + 1 < n ? alphabet[v >> 6 & 63] : '=');
                cc_buf_char(&out, i + 2 < n ? alphabet[v & 63] : '=');
        }
        return cc_buf_take(&out);
}

/* NULL if malformed. */
static char *decode(const char *s)
{
        CC_BUF struct cc_buf out = { 0 };
        unsigned v = 0;
        unsigned bits = 0;

        for (; *s && *s != '='; s++) {
                const char *p = strchr(alphabet, *s);

                if (!p)
                        return NULL;
                v = v << 6 | (unsigned)(p - alphabet);
                bits += 6;
                if (bits >= 8) {
                        bits -= 8;
                        cc_buf_char(&out, (char)(v >> bits & 255));
                }
        }
        return cc_buf_take(&out);
}

static char *path_of(const char *dir, const char *network, const char *vm_id, const char *if_name)
{
        return xasprintf("%s/%s-%s-%s", dir, network, vm_id, if_name);
}

/* "K=V;K=V" as [[K, V], …]. */
static json_t *args_json(const char *args)
{
        CC_STRV struct cc_strv items = { 0 };
        json_t *list = json_array();

        cc_split(args, ";", &items);
        for (size_t i = 0; i < items.len; i++) {
                char *eq = strchr(items.v[i], '=');

                if (eq)
                        (void)json_array_append_new(list,
                                                    json_pack("[s%, s]", items.v[i],
                                                              (size_t)(eq - items.v[i]), eq + 1));
        }
        return list;
}

static char *args_text(const json_t *list)
{
        CC_BUF struct cc_buf out = { 0 };
        const json_t *item;
        size_t i;

        json_array_foreach (list, i, item) {
                const char *k = json_string_value(json_array_get(item, 0));
                const char *v = json_string_value(json_array_get(item, 1));

                if (k && v)
                        cc_buf_printf(&out, "%s%s=%s", out.len ? ";" : "", k, v);
        }
        return cc_buf_take(&out);
}

/* Readers see the old or the new one; no sync (see the header). */
static int replace(const char *path, const char *text, struct cc_err *err)
{
        CC_FREE char *temp = xasprintf("%s.new", path);
        CC_CLOSE int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", temp);
        r = cc_write_all(fd, text, strlen(text), err);
        if (r == 0 && rename(temp, path) < 0)
                r = cc_fail_errno(err, errno, "rename to %s", path);
        if (r < 0)
                (void)unlink(temp);
        return r;
}

int cni_cache_save(const char *dir, const struct conflist *list, const struct cni_attachment *a,
                   const json_t *result, struct cc_err *err)
{
        CC_FREE char *path = path_of(dir, list->name, a->vm_id, a->if_name);
        CC_FREE char *plain = conflist_text(list);
        CC_FREE char *config = encode(plain);
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = json_object();
        int r = cc_mkdir_p(dir, 0700, err);

        if (r < 0)
                return r;
        json_object_set_new(j, "kind", json_string(KIND));
        json_object_set_new(j, "containerId", json_string(a->container));
        json_object_set_new(j, "config", json_string(config));
        json_object_set_new(j, "ifName", json_string(a->if_name));
        json_object_set_new(j, "networkName", json_string(list->name));
        json_object_set_new(j, "netns", json_string(a->netns));
        json_object_set_new(j, "cniArgs", args_json(a->args));
        if (a->caps)
                json_object_set(j, "capabilityArgs", a->caps);
        if (result)
                json_object_set(j, "result", (json_t *)(uintptr_t)result);
        text = cc_json_compact(j);
        return replace(path, text, err);
}

static json_t *object_or_null(const json_t *j, const char *key)
{
        json_t *v = json_object_get(j, key);

        return json_is_object(v) ? json_incref(v) : NULL;
}

static int from_json(const json_t *j, struct cni_cached *c, struct cc_err *err)
{
        const char *kind = "";
        const char *container = "";
        const char *if_name = "";
        const char *config = "";
        CC_FREE char *plain = NULL;
        int r;

        if ((r = cc_json_str(j, "kind", &kind, err)) < 0 ||
            (r = cc_json_str(j, "containerId", &container, err)) < 0 ||
            (r = cc_json_str(j, "ifName", &if_name, err)) < 0 ||
            (r = cc_json_str(j, "config", &config, err)) < 0)
                return r;
        if (!cc_streq(kind, KIND) || !*if_name || strchr(if_name, '/'))
                return cc_fail(err, CC_INVALID, "it is no " KIND);
        plain = decode(config);
        if (!plain)
                return cc_fail(err, CC_INVALID, "field \"config\" is not base64");
        r = conflist_parse(plain, strlen(plain), NULL, &c->list, err);
        if (r < 0)
                return r;
        c->container = xstrdup(container);
        c->vm_id = xstrndup(container, strcspn(container, "-"));
        c->if_name = xstrdup(if_name);
        c->args = args_text(json_object_get(j, "cniArgs"));
        c->caps = object_or_null(j, "capabilityArgs");
        c->result = object_or_null(j, "result");
        return 0;
}

static int read_entry(const char *path, struct cni_cached *ret, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = NULL;
        CNI_CACHED struct cni_cached c = { 0 };
        size_t n = 0;
        int r = cc_read_file(path, FILE_MAX, &text, &n, err);

        if (r < 0)
                return r;
        r = cc_json_parse(text, n, path, &j, err);
        if (r < 0)
                return r;
        r = from_json(j, &c, err);
        if (r < 0)
                return cc_wrap(err, "%s", path);
        *ret = c;
        c = (struct cni_cached){ 0 };
        return 0;
}

int cni_cache_load(const char *dir, const char *network, const char *vm_id, const char *if_name,
                   struct cni_cached *ret, struct cc_err *err)
{
        CC_FREE char *path = path_of(dir, network, vm_id, if_name);

        return read_entry(path, ret, err);
}

int cni_cache_drop(const char *dir, const char *network, const char *vm_id, const char *if_name,
                   struct cc_err *err)
{
        CC_FREE char *path = path_of(dir, network, vm_id, if_name);

        return cc_unlink(path, err);
}

/* The names first: the callback removes files. */
static int list(const char *dir, const char *vm_id, struct cc_strv *ret, struct cc_err *err)
{
        CC_FREE char *needle = xasprintf("-%s-", vm_id ? vm_id : "");
        CC_DIR DIR *d = opendir(dir);
        struct dirent *e;

        if (!d && errno == ENOENT)
                return 0;
        if (!d)
                return cc_fail_errno(err, errno, "open %s", dir);
        while ((e = readdir(d)))
                if (e->d_name[0] != '.' && !cc_endswith(e->d_name, ".new") &&
                    (!vm_id || strstr(e->d_name, needle)))
                        cc_strv_add(ret, e->d_name);
        cc_strv_sort(ret);
        return 0;
}

int cni_cache_each(const char *dir, const char *vm_id, cni_cache_fn fn, void *ctx,
                   struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        int r = list(dir, vm_id, &names, err);

        for (size_t i = 0; i < names.len && r == 0; i++) {
                CC_FREE char *path = cc_path_join(dir, names.v[i]);
                CNI_CACHED struct cni_cached c = { 0 };
                struct cc_err why = CC_ERR_INIT;

                if (read_entry(path, &c, &why) < 0)
                        cc_debug("net.cni", "%s", why.msg);
                else if (!vm_id || cc_streq(c.vm_id, vm_id))
                        r = fn(ctx, &c, err);
        }
        return r;
}
