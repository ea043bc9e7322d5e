/* ADD and DEL through a list of plugins. See cni_chain.h. */
#include "net/cni_chain.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "net/cni_exec.h"
#include "net/cni_result.h"

#define ADD_RETRIES  3
#define VERSIONS_MAX 64

/* From here on plugins are told the result of ADD when they undo it. */
#define DEL_RESULT_SINCE "0.4.0"

void cni_runtime_clear(struct cni_runtime *rt)
{
        cc_strv_free(&rt->path);
        free(rt->cache_dir);
        json_decref(rt->versions);
        *rt = (struct cni_runtime){ 0 };
}

static struct cni_call call_of(const struct cni_runtime *rt, const struct cni_attachment *a)
{
        return (struct cni_call){
                .id = a->container,
                .netns = a->netns,
                .if_name = a->if_name,
                .args = a->args,
                .path = &rt->path,
                .timeout_ms = rt->timeout_ms,
                .deadline = rt->deadline,
        };
}

static const char *type_of(const struct conflist *list, size_t i)
{
        return json_string_value(json_object_get(json_array_get(list->plugins, i), "type"));
}

/* The capabilities that the plugin declares and we supply. NULL: none. */
static json_t *runtime_config(const json_t *plugin, const json_t *caps)
{
        json_t *declared = json_object_get(plugin, "capabilities");
        json_t *out = json_object();
        const char *key;
        json_t *on;

        json_object_foreach (declared, key, on) {
                json_t *value = json_object_get(caps, key);

                if (json_is_true(on) && value)
                        (void)json_object_set(out, key, value);
        }
        if (json_object_size(out) > 0)
                return out;
        json_decref(out);
        return NULL;
}

/* What plugin i reads: its object as written, and what only the runtime knows. */
static json_t *input_of(const struct conflist *list, size_t i, const json_t *caps,
                        const json_t *prev)
{
        const json_t *plugin = json_array_get(list->plugins, i);
        json_t *config = json_copy((json_t *)(uintptr_t)plugin);
        json_t *runtime = runtime_config(plugin, caps);
        json_t *result = cni_result_for_version(prev, list->version);

        (void)json_object_del(config, "capabilities");
        (void)json_object_del(config, "prevResult");
        (void)json_object_del(config, "runtimeConfig");
        (void)json_object_set_new(config, "name", json_string(list->name));
        (void)json_object_set_new(config, "cniVersion", json_string(list->version));
        if (result)
                (void)json_object_set_new(config, "prevResult", result);
        if (runtime)
                (void)json_object_set_new(config, "runtimeConfig", runtime);
        return config;
}

/* ---- versions ---- */

static bool has_version(const json_t *versions, const char *want)
{
        const json_t *v;
        size_t i;

        json_array_foreach (versions, i, v)
                if (cc_streq(json_string_value(v), want))
                        return true;
        return false;
}

/* Ask every plugin of the list that was not asked yet. One that does not answer did not complain of
 * the version either, and restricts nothing. */
static void ask_versions(struct cni_runtime *rt, const struct conflist *list,
                         const struct cni_attachment *a)
{
        CC_JSON json_t *config = json_pack("{s:s}", "cniVersion", list->version);
        struct cni_call call = call_of(rt, a);

        if (!rt->versions)
                rt->versions = json_object();
        for (size_t i = 0; i < json_array_size(list->plugins); i++) {
                const char *type = type_of(list, i);
                CC_JSON json_t *answer = NULL;
                struct cc_err why = CC_ERR_INIT;
                json_t *versions;
                unsigned code;

                if (json_object_get(rt->versions, type))
                        continue;
                if (cni_exec(&call, "VERSION", type, config, &answer, &code, &why) < 0)
                        cc_debug("net.cni", "%s", why.msg);
                versions = json_object_get(answer, "supportedVersions");
                if (json_is_array(versions) && json_array_size(versions) <= VERSIONS_MAX)
                        (void)json_object_set(rt->versions, type, versions);
        }
}

/* The newest version, at most the list's, that all plugins asked so far know; NULL if none. */
static const char *common_version(const struct cni_runtime *rt, const struct conflist *list)
{
        const json_t *first = NULL;
        const char *best = NULL;
        const json_t *v;
        size_t n;

        for (size_t i = 0; i < json_array_size(list->plugins) && !first; i++)
                first = json_object_get(rt->versions, type_of(list, i));
        if (!first)
                return list->version;
        json_array_foreach (first, n, v) {
                const char *s = json_string_value(v);
                bool all = true;

                if (!cni_version_valid(s) || cni_version_compare(s, list->version) > 0 ||
                    (best && cni_version_compare(s, best) <= 0))
                        continue;
                for (size_t i = 0; i < json_array_size(list->plugins); i++) {
                        const json_t *known = json_object_get(rt->versions, type_of(list, i));

                        all = all && (!known || has_version(known, s));
                }
                if (all)
                        best = s;
        }
        return best;
}

/* After "incompatible version": *ret is an older one to try, borrowed. False: nothing to try. */
static bool older_version(struct cni_runtime *rt, const struct conflist *list,
                          const struct cni_attachment *a, const char **ret)
{
        const char *version;

        ask_versions(rt, list, a);
        version = common_version(rt, list);
        if (!version || cc_streq(version, list->version))
                return false;
        cc_debug("net.cni", "network %s: speaking version %s instead of %s", list->name, version,
                 list->version);
        *ret = version;
        return true;
}

/* ---- the operations ---- */

/* One plugin, again while it asks for that. */
static int add_plugin(const struct cni_call *call, const char *type, const json_t *config,
                      json_t **ret, unsigned *ret_code, struct cc_err *err)
{
        for (int tries = 0;; tries++) {
                struct cc_err why = CC_ERR_INIT;
                int r = cni_exec(call, "ADD", type, config, ret, ret_code, &why);

                if (r == 0)
                        return 0;
                if (*ret_code != CNI_CODE_TRY_AGAIN || tries == ADD_RETRIES)
                        return cc_err_copy(err, &why);
                r = cni_pause(err);
                if (r < 0)
                        return r;
        }
}

/* A result that we cannot read would make the other plugins fail as well, when they undo. */
static int check_result(const json_t *result, const char *type, const char *if_name,
                        struct cc_err *err)
{
        CNI_RESULT struct cni_result r = { 0 };

        if (cni_result_parse(result, if_name, &r, err) < 0)
                return cc_wrap(err, "plugin type=\"%s\" failed (add)", type);
        return 0;
}

/* *ret_done counts the plugins that were run. The cache knows the last result at any time. */
static int add_all(struct cni_runtime *rt, const struct conflist *list,
                   const struct cni_attachment *a, json_t **ret, size_t *ret_done,
                   unsigned *ret_code, struct cc_err *err)
{
        struct cni_call call = call_of(rt, a);
        CC_JSON json_t *prev = NULL;

        for (size_t i = 0; i < json_array_size(list->plugins); i++) {
                CC_JSON json_t *config = input_of(list, i, a->caps, prev);
                CC_JSON json_t *result = NULL;
                int r;

                *ret_done = i;
                r = add_plugin(&call, type_of(list, i), config, &result, ret_code, err);
                if (r == 0)
                        r = check_result(result, type_of(list, i), a->if_name, err);
                if (r < 0)
                        return r;
                if (!json_object_get(result, "cniVersion"))
                        (void)json_object_set_new(result, "cniVersion", json_string(list->version));
                json_decref(prev);
                prev = TAKE_PTR(result);
                /* Whatever happens next: some plugins undo only what they are told of. */
                r = cni_cache_save(rt->cache_dir, list, a, prev, err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(prev);
        return 0;
}

static int del_all(struct cni_runtime *rt, const struct conflist *list,
                   const struct cni_attachment *a, const json_t *result, unsigned *ret_code,
                   struct cc_err *err)
{
        bool tell = cni_version_compare(list->version, DEL_RESULT_SINCE) >= 0;
        struct cni_call call = call_of(rt, a);

        for (size_t i = json_array_size(list->plugins); i-- > 0;) {
                CC_JSON json_t *config = input_of(list, i, a->caps, tell ? result : NULL);
                CC_JSON json_t *nothing = NULL;
                struct cc_err why = CC_ERR_INIT;
                int r = cni_exec(&call, "DEL", type_of(list, i), config, &nothing, ret_code, &why);

                if (r < 0 && *ret_code != CNI_CODE_UNKNOWN_CONTAINER)
                        return cc_err_copy(err, &why);
        }
        return 0;
}

int cni_check(const struct cni_runtime *rt, const struct conflist *list, struct cc_err *err)
{
        const json_t *plugin;
        size_t i;

        json_array_foreach (list->plugins, i, plugin) {
                const char *ipam =
                        json_string_value(json_object_get(json_object_get(plugin, "ipam"), "type"));
                const char *types[] = { type_of(list, i), ipam };

                for (size_t k = 0; k < CC_ARRAY_LEN(types); k++) {
                        if (cc_isempty(types[k]) || strchr(types[k], '/') ||
                            cni_plugin_exists(&rt->path, types[k]))
                                continue;
                        (void)cni_plugin_missing(&rt->path, err);
                        return cc_wrap(err, "plugin type=\"%s\"", types[k]);
                }
        }
        return 0;
}

int cni_add(struct cni_runtime *rt, const struct conflist *list, const struct cni_attachment *a,
            json_t **ret, struct cc_err *err)
{
        struct conflist use = *list; /* strings and plugins borrowed */
        const char *version = common_version(rt, list);
        struct cc_err why = CC_ERR_INIT;
        json_t *result = NULL;
        unsigned code = CNI_CODE_NONE;
        size_t done = 0;
        int r;

        if (version)
                use.version = (char *)(uintptr_t)version;
        r = cni_cache_save(rt->cache_dir, &use, a, NULL, err);
        if (r < 0)
                return cc_wrap(err, "cni add %s/%s", a->vm_id, a->if_name);
        r = add_all(rt, &use, a, &result, &done, &code, &why);
        if (r < 0 && code == CNI_CODE_VERSION && older_version(rt, &use, a, &version)) {
                struct cc_err undo = CC_ERR_INIT;

                use.version = (char *)(uintptr_t)version;
                /* Plugins in front of the one that refused have done their part. */
                if (done > 0 && del_all(rt, &use, a, NULL, &code, &undo) < 0)
                        cc_warn("net.cni", "cni del %s/%s: %s", a->vm_id, a->if_name, undo.msg);
                why = (struct cc_err)CC_ERR_INIT;
                r = cni_cache_save(rt->cache_dir, &use, a, NULL, &why);
                if (r == 0)
                        r = add_all(rt, &use, a, &result, &done, &code, &why);
        }
        if (r < 0) {
                (void)cc_wrap(&why, "cni add %s/%s", a->vm_id, a->if_name);
                return cc_err_copy(err, &why);
        }
        *ret = result;
        return 0;
}

int cni_del(struct cni_runtime *rt, const struct conflist *list, const struct cni_attachment *a,
            const json_t *result, struct cc_err *err)
{
        struct conflist use = *list;
        struct cc_err why = CC_ERR_INIT;
        const char *version;
        unsigned code = CNI_CODE_NONE;
        int r = del_all(rt, &use, a, result, &code, &why);

        if (r < 0 && code == CNI_CODE_VERSION && older_version(rt, &use, a, &version)) {
                use.version = (char *)(uintptr_t)version;
                why = (struct cc_err)CC_ERR_INIT;
                r = del_all(rt, &use, a, result, &code, &why);
        }
        if (r == 0)
                r = cni_cache_drop(rt->cache_dir, list->name, a->vm_id, a->if_name, &why);
        if (r < 0) {
                (void)cc_wrap(&why, "cni del %s/%s", a->vm_id, a->if_name);
                return cc_err_copy(err, &why);
        }
        return 0;
}
