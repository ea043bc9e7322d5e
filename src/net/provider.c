/* The table of network providers, the choice among them (DESIGN §4) and --publish. See provider.h.
 */
#include "net/provider.h"

#include <ctype.h>
#include <string.h>

#include "hv/driver.h"

extern const struct net_provider net_provider_user;
extern const struct net_provider net_row_cni;
extern const struct net_provider net_row_bridge;

/* In order of preference for a VM that names no network. A new provider is one row and one file. */
static const struct net_provider *const providers[] = {
        &net_row_cni,
        &net_provider_user,
        &net_row_bridge,
};

/* "cocoon-builtin, user": what a refusal offers. Caller frees. */
static char *offers(void)
{
        CC_STRV struct cc_strv list = { 0 };

        for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++)
                if (providers[i]->offers)
                        cc_strv_add(&list, providers[i]->offers);
        return cc_strv_join(&list, ", ");
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

/* The one refusal of a network that was asked for. */
static int refuse(const char *flag, const char *value, struct cc_err *err)
{
        CC_FREE char *list = offers();

        (void)cc_fail(err, CC_UNSUPPORTED, "%s %s: no such network here (available: %s)", flag,
                      value, list);
        cc_hint(err, "leave %s out, or use --network with one of: %s", flag, list);
        return -CC_UNSUPPORTED;
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
                return refuse("--bridge", bridge, err);
        }
        if (!cc_isempty(network)) {
                for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++)
                        if (providers[i]->serves_name(env, network))
                                return take(providers[i], "--network", hv_caps, ret, err);
                return refuse("--network", network, err);
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(providers); i++)
                if (driver_fits(providers[i], hv_caps) && providers[i]->serves_default &&
                    providers[i]->serves_default(env))
                        return ready(providers[i], ret, err);
        if (nics == 0) {
                *ret = NULL;
                return 0;
        }
        (void)cc_fail(err, CC_UNSUPPORTED, "no network for this backend");
        cc_hint(err, "run as root for the built-in network, use --qemu, whose user-mode network "
                     "needs no set-up, or --nics 0");
        return -CC_UNSUPPORTED;
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
