/*
 * ADD and DEL of one interface through all plugins of a list (network.md §4): order, results passed
 * on, versions, the cache. One operation on an interface at a time is the caller's affair (the VM's
 * lock).
 */
#pragma once

#include "net/cni_cache.h"

struct cni_runtime {
        struct cc_strv path; /* directories of plugins */
        char *cache_dir;
        int timeout_ms;   /* of one plugin */
        int64_t deadline; /* of everything, cc_monotonic(); 0: none */
        json_t *versions; /* {plugin: [versions]} as far as they had to be asked for */
};
void cni_runtime_clear(struct cni_runtime *rt); /* also the cleanup function */
#define CNI_RUNTIME CC_CLEANUP(cni_runtime_clear)

/* Are all plugins of the list installed, and those they name for address management? Asked before
 * the first ADD: a plugin that is missing could not undo anything either. */
int cni_check(const struct cni_runtime *rt, const struct conflist *list, struct cc_err *err);

/*
 * ADD: *ret is the last plugin's result (owned). A list that is too new for its plugins is spoken
 * in the newest version all of them know. On failure some plugins may have done their part: a
 * cni_del() must follow, for which the cache has the list.
 */
int cni_add(struct cni_runtime *rt, const struct conflist *list, const struct cni_attachment *a,
            json_t **ret, struct cc_err *err);

/*
 * DEL, in reverse order, with the `result` of ADD (may be NULL). The cache entry goes when all
 * plugins succeeded; the first failure stops. Repeatable.
 */
int cni_del(struct cni_runtime *rt, const struct conflist *list, const struct cni_attachment *a,
            const json_t *result, struct cc_err *err);
