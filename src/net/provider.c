/* The table of network providers, the choice among them (DESIGN §4) and --publish. See provider.h.
 */
#include "net/provider.h"

#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "hv/driver.h"
#include "net/conflist.h"

#define DEFAULT_QUEUE_SIZE 512

extern const struct net_provider net_provider_user;
extern const struct net_provider net_row_cni;
extern const struct net_provider net_row_bridge;

/* In order of preference for a VM that names no network. A new provider is one row and one file. */
static const struct net_provider *const providers[] = {
        &net_row_cni,
        &net_provider_user,
        &net_row_bridge,
};

void net_offers(const struct net_env *env, struct cc_strv *ret)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++)
                if (providers[i]->offers)
                        providers[i]->offers(env, ret);
        cc_strv_sort(ret);
}

static int ready(const struct net_provider *p, const struct net_provider **ret, struct cc_err *err)
{
        int r;

        if (!p->load) {
                *ret = p;
                return 0;
        }
        r = p->load(ret, err);
        return r < 0 ? cc_wrap(err, "network provider %s", p->name) : 0;
}

int net_provider_find(const char *name, const struct net_provider **ret, struct cc_err *err)
{
        CC_STRV struct cc_strv known = { 0 };
        CC_FREE char *list = NULL;

        if (cc_isempty(name)) {
                *ret = NULL;
                return 0;
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++) {
                if (cc_streq(providers[i]->name, name))
                        return ready(providers[i], ret, err);
                cc_strv_add(&known, providers[i]->name);
        }
        list = cc_strv_join(&known, ", ");
        return cc_fail(err, CC_UNSUPPORTED,
                       "network provider \"%s\" is not available in this build (available: %s)",
                       name, list);
}

static bool driver_fits(const struct net_provider *p, unsigned hv_caps)
{
        return !(p->caps & NET_CAP_USER) || (hv_caps & HV_CAP_USER_NET);
}

/* A name that means nothing here: most likely a conflist that is not there. */
static int not_found(const struct net_env *env, const char *network, struct cc_err *err)
{
        CONFLISTS struct conflists lists = { 0 };
        CC_STRV struct cc_strv all = { 0 };
        int r = conflists_load(env->config ? env->config->cni_conf_dir : NULL, &lists, err);

        if (r < 0)
                return r;
        net_offers(env, &all);
        return conflists_not_found(&lists, network, &all, err);
}

static int take(const struct net_provider *p, const char *flag, unsigned hv_caps,
                const struct net_provider **ret, struct cc_err *err)
{
        if (!driver_fits(p, hv_caps))
                return cc_fail(err, CC_UNSUPPORTED,
                               "%s %s: the backend has no user-mode network stack", flag, p->name);
        return ready(p, ret, err);
}

int net_provider_choose(const struct net_env *env, const char *network, const char *bridge,
                        int64_t nics, unsigned hv_caps, const struct net_provider **ret,
                        struct cc_err *err)
{
        if (!cc_isempty(bridge)) {
                for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++)
                        if (providers[i]->caps & NET_CAP_BRIDGE)
                                return take(providers[i], "--bridge", hv_caps, ret, err);
                return cc_fail(err, CC_UNSUPPORTED, "--bridge is not available in this build");
        }
        if (!cc_isempty(network)) {
                for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++)
                        if (providers[i]->serves_name(env, network))
                                return take(providers[i], "--network", hv_caps, ret, err);
                return not_found(env, network, err);
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++)
                if (driver_fits(providers[i], hv_caps) && providers[i]->serves_default &&
                    providers[i]->serves_default(env))
                        return ready(providers[i], ret, err);
        if (nics == 0) {
                *ret = NULL;
                return 0;
        }
        (void)cc_fail(err, CC_UNSUPPORTED,
                      "network provider not configured: no conflist found in %s",
                      env->config && env->config->cni_conf_dir ? env->config->cni_conf_dir : "");
        cc_hint(err, "run as root for the built-in network, use --qemu, whose user-mode network "
                     "needs no set-up, or --nics 0");
        return -CC_UNSUPPORTED;
}

/* Row i with its operations; NULL when this process may not act on it or it is not installed. */
static const struct net_provider *usable(size_t i)
{
        const struct net_provider *p = NULL;
        struct cc_err why = CC_ERR_INIT;

        if (providers[i]->may_act && !providers[i]->may_act())
                return NULL;
        if (ready(providers[i], &p, &why) < 0)
                cc_debug("net", "%s", why.msg);
        return p;
}

int net_provider_each(int (*fn)(void *ctx, const struct net_provider *p, struct cc_err *err),
                      void *ctx, struct cc_err *err)
{
        int r = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(providers) && r == 0; i++) {
                const struct net_provider *p = usable(i);

                if (p)
                        r = fn(ctx, p, err);
        }
        return r;
}

int net_delete_all(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        const char *recorded = vm_net_backend(vm);
        const struct net_provider *own = NULL;
        struct cc_err all = CC_ERR_INIT;
        int r = net_provider_find(recorded, &own, &all);

        if (r == 0 && own)
                (void)own->delete (env, vm, &all);
        for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++) {
                const struct net_provider *p = usable(i);
                struct cc_err one = CC_ERR_INIT;

                if (p && !cc_streq(p->name, recorded) && p->delete (env, vm, &one) < 0)
                        cc_join(&all, &one);
        }
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

int net_adopt_mac(const struct net_env *env, struct vm_record *vm, size_t index, const char *mac,
                  struct cc_err *err)
{
        const struct net_provider *p = NULL;
        struct nic *nic = index < vm->network_configs.len ? vm_nic(vm, index) : NULL;
        int r;

        if (!nic)
                return cc_fail(err, CC_INVALID, "vm %s has no NIC %zu", vm->id, index);
        if (nic->mac && !strcasecmp(nic->mac, mac))
                return 0;
        r = net_provider_find(vm_net_backend(vm), &p, err);
        if (r == 0 && p && p->set_mac)
                r = p->set_mac(env, vm, index, mac, err);
        if (r < 0)
                return cc_wrap(err, "vm %s: MAC of NIC %zu", vm->id, index);
        cc_strset(&nic->mac, mac);
        for (char *c = nic->mac; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        return 0;
}

void net_nic_init(struct nic *nic, const struct vm_record *vm, const struct net_spec *spec,
                  const char *backend)
{
        int64_t cpus = vm->config.cpu > 0 ? vm->config.cpu : 1;

        nic->num_queues = spec->num_queues > 0 ? spec->num_queues : 2 * cpus;
        nic->queue_size = vm->config.queue_size > 0 ? vm->config.queue_size : DEFAULT_QUEUE_SIZE;
        nic->backend = xstrdup(backend);
}

/* A decimal port that fills exactly n characters. */
static bool port(const char *s, size_t n, uint16_t *ret)
{
        unsigned v = 0;

        if (n == 0 || n > 5)
                return false;
        for (size_t i = 0; i < n; i++) {
                if (!isdigit((unsigned char)s[i]))
                        return false;
                v = v * 10 + (unsigned)(s[i] - '0');
        }
        if (v < 1 || v > UINT16_MAX)
                return false;
        *ret = (uint16_t)v;
        return true;
}

int net_publish_parse(const char *s, uint16_t *ret_host, uint16_t *ret_guest, struct cc_err *err)
{
        const char *colon = strchr(s, ':');
        uint16_t host;
        uint16_t guest;

        if (!colon || !port(s, (size_t)(colon - s), &host) ||
            !port(colon + 1, strlen(colon + 1), &guest))
                return cc_fail(err, CC_USAGE, "--publish \"%s\" is not HOST:GUEST (ports 1-65535)",
                               s);
        *ret_host = host;
        *ret_guest = guest;
        return 0;
}
