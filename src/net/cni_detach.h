/*
 * Taking apart the NICs that plugins made: DEL with what the cache remembers, TAP, index row. All
 * of it can be repeated, and none of it needs the VM's record, its conflist or its namespace.
 */
#pragma once

#include "net/cni_chain.h"
#include "net/cni_index.h"
#include "net/provider.h"

/* What operations on one VM's plugins share. */
struct cni_context {
        const struct net_env *env;
        struct cni_runtime rt;
        struct conflists lists;
        struct cni_rows rows; /* of the VM */
};

/* Network lists that cannot be read are a warning: teardown has the cache. Without a configuration
 * (env->config NULL) there are neither lists nor cache. */
int cni_context_open(const struct net_env *env, const char *vm_id, struct cni_context *ret,
                     struct cc_err *err);
void cni_context_close(struct cni_context *p); /* also the cleanup function */
#define CNI_CONTEXT CC_CLEANUP(cni_context_close)

/*
 * CNI_CONTAINERID is the VM's ID, with one exception. The plugins' address translation is one chain
 * a network and container: were several NICs of a VM one container, the first DEL would empty the
 * chain of those that stay, and fail because they still refer to it. Caller frees.
 */
char *cni_container_id(const char *vm_id, const struct conflist *list, size_t index);

/* What to make of a NIC whose list is neither cached nor configured any more: its plugins cannot be
 * asked. */
enum cni_missing { CNI_MISSING_FAILS, CNI_MISSING_WARNS };

/* DEL and TAP, both tried. The row stays. */
int cni_tear_down(struct cni_context *p, const char *vm_id, const char *netns,
                  const struct cni_row *row, enum cni_missing missing, struct cc_err *err);

/* And the row with them, if both succeeded. */
int cni_sweep(struct cni_context *p, const char *vm_id, const char *netns,
              const struct cni_row *row, enum cni_missing missing, struct cc_err *err);
