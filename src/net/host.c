/*
 * The rows of the providers that live in the module: when they serve, and how they are opened.
 * Cheap: nothing here loads a library unless the provider is used.
 */
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/str.h"
#include "net/conflist.h"
#include "net/module.h"

#define BUILTIN_NETWORK "cocoon-builtin"

static bool has_caps(void)
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
        const uint32_t need = 1u << CAP_NET_ADMIN | 1u << CAP_SYS_ADMIN;

        return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & need) == need;
}

/* May this process make namespaces and TAP devices? */
static bool may_make_nics(void)
{
        return has_caps() && access("/dev/net/tun", R_OK | W_OK) == 0;
}

/* The built-in network also turns forwarding on: a container may hold the capabilities with
 * /proc/sys read-only. */
static bool may_route(void)
{
        return access("/proc/sys/net/ipv4/ip_forward", W_OK) == 0;
}

static bool load_lists(const struct net_env *env, struct conflists *ret)
{
        return conflists_load(env->config ? env->config->cni_conf_dir : NULL, ret, NULL) == 0;
}

static void cni_offers(const struct net_env *env, struct cc_strv *ret)
{
        CONFLISTS struct conflists lists = { 0 };

        cc_strv_add(ret, BUILTIN_NETWORK);
        if (load_lists(env, &lists))
                for (size_t i = 0; i < lists.len; i++)
                        cc_strv_add(ret, lists.v[i].name);
}

/* A list of conflists is the provider's to judge, name by name: no other has lists. */
static bool cni_serves_name(const struct net_env *env, const char *network)
{
        CONFLISTS struct conflists lists = { 0 };

        return cc_streq(network, BUILTIN_NETWORK) || strchr(network, ',') ||
               (load_lists(env, &lists) && conflists_find(&lists, network));
}

static bool cni_serves_default(const struct net_env *env)
{
        CONFLISTS struct conflists lists = { 0 };

        if (!may_make_nics())
                return false;
        return may_route() || (load_lists(env, &lists) && lists.len > 0);
}

static bool bridge_serves_name(const struct net_env *env, const char *network)
{
        return false;
}

static int open_module(const struct net_module **ret, struct cc_err *err)
{
        const void *opened;
        int r = cc_module_open("net", &opened, err);

        if (r == 0)
                *ret = opened;
        return r;
}

static int load_cni(const struct net_provider **ret, struct cc_err *err)
{
        const struct net_module *m;
        int r = open_module(&m, err);

        if (r == 0)
                *ret = m->cni;
        return r;
}

static int load_bridge(const struct net_provider **ret, struct cc_err *err)
{
        const struct net_module *m;
        int r = open_module(&m, err);

        if (r == 0)
                *ret = m->bridge;
        return r;
}

extern const struct net_provider net_row_cni;
const struct net_provider net_row_cni = {
        .name = "cni",
        .caps = NET_CAP_NETNS | NET_CAP_PUBLISH,
        .offers = cni_offers,
        .serves_name = cni_serves_name,
        .serves_default = cni_serves_default,
        .may_act = has_caps,
        .load = load_cni,
};

extern const struct net_provider net_row_bridge;
const struct net_provider net_row_bridge = {
        .name = "bridge",
        .caps = NET_CAP_BRIDGE,
        .serves_name = bridge_serves_name,
        .may_act = has_caps,
        .load = load_bridge,
};
