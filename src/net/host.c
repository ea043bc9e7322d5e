/*
 * The rows of the providers that live in the module: when they serve, and how they are opened.
 * Cheap: nothing here loads a library unless the provider is used.
 */
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/str.h"
#include "net/module.h"

#define BUILTIN_NETWORK "cocoon-builtin"

/* May this process make namespaces and network devices and turn forwarding on? A container may hold
 * the capabilities with /proc/sys read-only. */
static bool may_change_host(void)
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
        const uint32_t need = 1u << CAP_NET_ADMIN | 1u << CAP_SYS_ADMIN;

        return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & need) == need &&
               access("/dev/net/tun", R_OK | W_OK) == 0 &&
               access("/proc/sys/net/ipv4/ip_forward", W_OK) == 0;
}

static bool cni_serves_name(const struct net_env *env, const char *network)
{
        return cc_streq(network, BUILTIN_NETWORK);
}

static bool cni_serves_default(const struct net_env *env)
{
        return may_change_host();
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
        .offers = BUILTIN_NETWORK,
        .caps = NET_CAP_NETNS | NET_CAP_PUBLISH,
        .serves_name = cni_serves_name,
        .serves_default = cni_serves_default,
        .load = load_cni,
};

extern const struct net_provider net_row_bridge;
const struct net_provider net_row_bridge = {
        .name = "bridge",
        .caps = NET_CAP_BRIDGE,
        .serves_name = bridge_serves_name,
        .load = load_bridge,
};
