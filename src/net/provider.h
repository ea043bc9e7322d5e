/*
 * Network providers (network.md §2): one const struct each, in the table of provider.c. The host
 * side of a VM's NICs; the driver only sees the resulting NIC records.
 */
#pragma once

#include "base/timeutil.h"
#include "config/config.h"
#include "meta/meta.h"
#include "model/vm.h"

/* Capabilities of a provider. */
enum {
        NET_CAP_NETNS = 1 << 0,   /* VMs live in a namespace of their own */
        NET_CAP_PUBLISH = 1 << 1, /* --publish works */
        NET_CAP_USER = 1 << 2,    /* needs a driver with a user-mode stack (HV_CAP_USER_NET) */
        NET_CAP_BRIDGE = 1 << 3,  /* what --bridge means */
};

struct net_env {
        const struct config *config;
        struct meta *meta;
        int64_t deadline; /* cc_monotonic(): no plugin runs longer; 0: none */
};

/* The network's share of an undo that nobody can interrupt (network.md §2): what net_env.deadline
 * is set to, from now. */
#define NET_ROLLBACK_NS (30 * CC_NSEC_PER_SEC)

struct net_spec {
        size_t index;               /* NIC index */
        int64_t num_queues;         /* 0: derive from the VM's vCPUs */
        const struct nic *existing; /* the recorded NIC when recovering, else NULL */
};

/* One finding about NIC `index`. */
typedef void (*net_say_fn)(void *ctx, size_t index, bool well, const char *text);

struct net_provider {
        const char *name; /* written to net_backend */
        unsigned caps;

        /* Append the values of --network that mean it, for messages and completion. NULL: none. */
        void (*offers)(const struct net_env *env, struct cc_strv *ret);
        /* How a new VM comes to this provider. True if `--network <network>` means it. */
        bool (*serves_name)(const struct net_env *env, const char *network);
        /* True if it can serve a VM that names no network; rows are asked in table order. NULL:
         * only by name. */
        bool (*serves_default)(const struct net_env *env);

        /* May this process act on what the provider made? NULL: always. */
        bool (*may_act)(void);
        /* A row of the table whose operations are in the module: opens it. NULL: they are here. */
        int (*load)(const struct net_provider **ret, struct cc_err *err);

        /* All required. `vm` is the caller's working copy: prepare fills net_backend, netns_path,
         * net_bridge_dev and config.network, also for a VM without NICs. */
        int (*prepare)(const struct net_env *env, struct vm_record *vm, struct cc_err *err);
        /* All or nothing; appends n NIC records to *ret in spec order. */
        int (*add)(const struct net_env *env, struct vm_record *vm, const struct net_spec *specs,
                   size_t n, struct record_array *ret, struct cc_err *err);
        int (*remove)(const struct net_env *env, const struct vm_record *vm, const size_t *indices,
                      size_t n, struct cc_err *err);
        /* Everything of that VM; idempotent; works for a half-made one. */
        int (*delete)(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);
        /* 0 when the plumbing of every recorded NIC exists, -CC_NOT_FOUND when it must be rebuilt.
         */
        int (*verify)(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);
        /* Rebuild what verify missed, with the recorded MAC and IP (network.md §9). */
        int (*recover)(const struct net_env *env, struct vm_record *vm, struct cc_err *err);
        int (*quiesce)(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);
        int (*unquiesce)(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);

        /* Optional. Plumbing at or above the recorded number of NICs, which a killed or failed
         * resize left: removed as far as it can be. The machine must not use it. */
        int (*reclaim)(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);
        /* Optional. Give the host's end of NIC `index` another MAC. NULL: the host has none. */
        int (*set_mac)(const struct net_env *env, const struct vm_record *vm, size_t index,
                       const char *mac, struct cc_err *err);
        /* Optional. What the host has for each recorded NIC, one line per thing; `live`: the VM
         * runs. An error only when nothing can be told. */
        int (*inspect)(const struct net_env *env, const struct vm_record *vm, bool live,
                       net_say_fn say, void *ctx, struct cc_err *err);
        /* Optional. Append the IDs of VMs, whole or their first 8 characters, that things of this
         * provider on the host are named after; whether the VMs exist is for the caller to know. */
        int (*orphans)(const struct net_env *env, struct cc_strv *ret, struct cc_err *err);
};

/* By recorded name; NULL for "" (no network). Unknown: CC_UNSUPPORTED. */
int net_provider_find(const char *name, const struct net_provider **ret, struct cc_err *err);

/* Every provider that this process may act on and that is installed, until fn fails. */
int net_provider_each(int (*fn)(void *ctx, const struct net_provider *p, struct cc_err *err),
                      void *ctx, struct cc_err *err);

/*
 * Choose for a new VM (DESIGN §4). `network` and `bridge` as given by flags ("" none), hv_caps the
 * driver's capabilities. *ret may be NULL when nics is 0 and no provider serves.
 */
int net_provider_choose(const struct net_env *env, const char *network, const char *bridge,
                        int64_t nics, unsigned hv_caps, const struct net_provider **ret,
                        struct cc_err *err);

/* What --network may be here, sorted. Caller frees. */
void net_offers(const struct net_env *env, struct cc_strv *ret);

/*
 * Everything that any provider made for the VM, whatever its record says (network.md §2, rm): the
 * recorded provider must succeed, the others as far as this process may use them.
 */
int net_delete_all(const struct net_env *env, const struct vm_record *vm, struct cc_err *err);

/* NIC `index` has another MAC than recorded, as in a restored snapshot: host and record take it
 * (network.md §9). The caller commits the record. */
int net_adopt_mac(const struct net_env *env, struct vm_record *vm, size_t index, const char *mac,
                  struct cc_err *err);

/* For providers: queues, queue size and backend of a new NIC (network.md §1). */
void net_nic_init(struct nic *nic, const struct vm_record *vm, const struct net_spec *spec,
                  const char *backend);

/* Parse and check one --publish value "HOST:GUEST" (ports 1-65535). */
int net_publish_parse(const char *s, uint16_t *ret_host, uint16_t *ret_guest, struct cc_err *err);
