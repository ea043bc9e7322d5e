/*
 * What the runtime remembers of every attachment (network.md §4): list, arguments and result of an
 * ADD, so that its DEL needs neither the conflist nor luck. One file each,
 * <root>/cni/cache/results/<network>-<vm id>-<interface>, written before ADD and after each of its
 * plugins. It must survive us, not the machine: what a power failure takes with it are rules and
 * devices as well, and a lease is released without a result.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "net/conflist.h"

/* One attachment: a VM's interface on a network. Strings are borrowed. */
struct cni_attachment {
        const char *vm_id, *if_name;
        const char *container; /* CNI_CONTAINERID: the VM's ID, or that with a suffix */
        const char *netns;     /* path */
        const char *args;      /* "K=V;K=V", may be "" */
        json_t *caps;          /* {capability: value} that we can supply; may be NULL */
};

struct cni_cached {
        struct conflist list;
        char *vm_id, *container, *if_name, *args;
        json_t *caps;   /* object or NULL */
        json_t *result; /* of the last plugin that succeeded, or NULL */
};
void cni_cached_clear(struct cni_cached *c); /* also the cleanup function */
#define CNI_CACHED CC_CLEANUP(cni_cached_clear)

/* `dir` is made if it is missing. `result` may be NULL. */
int cni_cache_save(const char *dir, const struct conflist *list, const struct cni_attachment *a,
                   const json_t *result, struct cc_err *err);

/* NOT_FOUND when there is none; CC_INVALID when the file is damaged. */
int cni_cache_load(const char *dir, const char *network, const char *vm_id, const char *if_name,
                   struct cni_cached *ret, struct cc_err *err);

/* Absent is fine. */
int cni_cache_drop(const char *dir, const char *network, const char *vm_id, const char *if_name,
                   struct cc_err *err);

/* Every readable entry, of one VM or (vm_id NULL) of all; damaged files are passed over. A missing
 * directory has none. */
typedef int (*cni_cache_fn)(void *ctx, const struct cni_cached *c, struct cc_err *err);
int cni_cache_each(const char *dir, const char *vm_id, cni_cache_fn fn, void *ctx,
                   struct cc_err *err);
