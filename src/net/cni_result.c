/* Results of CNI plugins. See cni_result.h. */
#include "net/cni_result.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "net/conflist.h"

/* What a real interface never has more of. */
#define ADDRESSES_MAX 64

void cni_result_clear(struct cni_result *r)
{
        free(r->addresses);
        cc_strv_free(&r->dns);
        *r = (struct cni_result){ 0 };
}

static bool parse_ip(const char *s, struct cni_address *ret)
{
        ret->v6 = strchr(s, ':') != NULL;
        return inet_pton(ret->v6 ? AF_INET6 : AF_INET, s, ret->ip) == 1;
}

static void append(struct cni_result *r, const struct cni_address *a)
{
        r->addresses = xreallocarray(r->addresses, r->n + 1, sizeof(*a));
        r->addresses[r->n++] = *a;
}

bool cni_result_add(struct cni_result *r, const char *ip, int64_t prefix)
{
        struct cni_address a = { .prefix = (unsigned)prefix };

        if (!ip || !parse_ip(ip, &a) || prefix < 0 || prefix > (a.v6 ? 128 : 32))
                return false;
        append(r, &a);
        return true;
}

/* "10.0.0.2/24". The address as printed goes to text. */
static int parse_cidr(const char *s, struct cni_address *ret, char text[INET6_ADDRSTRLEN],
                      struct cc_err *err)
{
        const char *slash = s ? strchr(s, '/') : NULL;
        char *end = NULL;
        long prefix = -1;

        if (slash && slash - s < INET6_ADDRSTRLEN && slash[1] >= '0' && slash[1] <= '9') {
                memcpy(text, s, (size_t)(slash - s));
                text[slash - s] = '\0';
                prefix = strtol(slash + 1, &end, 10);
        }
        if (!end || *end || !parse_ip(text, ret) || prefix > (ret->v6 ? 128 : 32))
                return cc_fail(err, CC_INVALID, "its result has an invalid address");
        ret->prefix = (unsigned)prefix;
        return 0;
}

/* An IPv4 gateway, or nothing. */
static int parse_gateway(const char *s, char ret[16], struct cc_err *err)
{
        struct cni_address a;

        if (cc_isempty(s))
                return 0;
        if (!parse_ip(s, &a))
                return cc_fail(err, CC_INVALID, "its result has an invalid gateway");
        if (!a.v6)
                (void)inet_ntop(AF_INET, a.ip, ret, 16);
        return 0;
}

/* Of which interface an address is: ours, unknown (0) or another's (-1). */
static int owner(const json_t *json, const json_t *ip, const char *if_name)
{
        const json_t *index = json_object_get(ip, "interface");
        const json_t *all = json_object_get(json, "interfaces");
        const json_t *interface;
        const char *name = NULL;
        const char *sandbox = NULL;

        if (!json_is_integer(index) || json_integer_value(index) < 0)
                return 0;
        interface = json_array_get(all, (size_t)json_integer_value(index));
        name = json_string_value(json_object_get(interface, "name"));
        sandbox = json_string_value(json_object_get(interface, "sandbox"));
        if (!name)
                return 0;
        return cc_streq(name, if_name) && !cc_isempty(sandbox) ? 1 : -1;
}

static int take_ip(struct cni_result *r, const char *cidr, const char *gateway, int whose,
                   int *best, struct cc_err *err)
{
        char text[INET6_ADDRSTRLEN];
        struct cni_address a = { 0 };
        int n = parse_cidr(cidr, &a, text, err);

        if (n < 0)
                return n;
        if (whose >= 0) {
                if (r->n == ADDRESSES_MAX)
                        return cc_fail(err, CC_INVALID, "its result has too many addresses");
                append(r, &a);
        }
        if (a.v6 || whose <= *best)
                return 0;
        *best = whose;
        (void)inet_ntop(AF_INET, a.ip, r->ip, sizeof(r->ip));
        r->prefix = a.prefix;
        *r->gateway = '\0';
        return parse_gateway(gateway, r->gateway, err);
}

/* Since 0.3.0. */
static int take_ips(const json_t *json, const char *if_name, struct cni_result *r,
                    struct cc_err *err)
{
        const json_t *ips = json_object_get(json, "ips");
        const json_t *ip;
        int best = -2;
        size_t i;

        json_array_foreach (ips, i, ip) {
                const char *cidr = NULL;
                const char *gateway = NULL;
                int n = cc_json_str(ip, "address", &cidr, err);

                if (n == 0)
                        n = cc_json_str(ip, "gateway", &gateway, err);
                if (n == 0)
                        n = take_ip(r, cidr, gateway, owner(json, ip, if_name), &best, err);
                if (n < 0)
                        return n;
        }
        return 0;
}

/* Up to 0.2.0. */
static int take_old(const json_t *json, struct cni_result *r, struct cc_err *err)
{
        static const char *const keys[] = { "ip4", "ip6" };
        int best = -2;

        for (size_t i = 0; i < CC_ARRAY_LEN(keys); i++) {
                const json_t *ip = json_object_get(json, keys[i]);
                const char *cidr = NULL;
                const char *gateway = NULL;
                int n = cc_json_str(ip, "ip", &cidr, err);

                if (n == 0)
                        n = cc_json_str(ip, "gateway", &gateway, err);
                if (n == 0 && cidr)
                        n = take_ip(r, cidr, gateway, 0, &best, err);
                if (n < 0)
                        return n;
        }
        return 0;
}

/* A gateway named only by the default route. */
static int take_route(const json_t *json, struct cni_result *r, struct cc_err *err)
{
        const json_t *routes = json_object_get(json, "routes");
        const json_t *route;
        size_t i;

        if (!routes)
                routes = json_object_get(json_object_get(json, "ip4"), "routes");
        json_array_foreach (routes, i, route) {
                const char *dst = json_string_value(json_object_get(route, "dst"));
                const char *gw = json_string_value(json_object_get(route, "gw"));
                int n;

                if (*r->gateway || !cc_streq(dst, "0.0.0.0/0"))
                        continue;
                n = parse_gateway(gw, r->gateway, err);
                if (n < 0)
                        return n;
        }
        return 0;
}

static void take_dns(const json_t *json, struct cni_result *r)
{
        const json_t *servers = json_object_get(json_object_get(json, "dns"), "nameservers");
        const json_t *server;
        size_t i;

        json_array_foreach (servers, i, server) {
                const char *s = json_string_value(server);
                struct cni_address a;

                if (s && parse_ip(s, &a) && r->dns.len < 8)
                        cc_strv_add(&r->dns, s);
        }
}

int cni_result_parse(const json_t *json, const char *if_name, struct cni_result *ret,
                     struct cc_err *err)
{
        CNI_RESULT struct cni_result r = { 0 };
        int n = take_ips(json, if_name, &r, err);

        if (n == 0 && !json_object_get(json, "ips"))
                n = take_old(json, &r, err);
        if (n == 0 && *r.ip && !*r.gateway)
                n = take_route(json, &r, err);
        if (n < 0)
                return n;
        take_dns(json, &r);
        *ret = r;
        r = (struct cni_result){ 0 };
        return 0;
}

json_t *cni_result_for_version(const json_t *result, const char *version)
{
        bool old_format = cni_version_compare(version, "0.3.0") < 0;
        json_t *copy;
        json_t *ip;
        size_t i;

        if (!result || !json_is_object(result) ||
            old_format != (json_object_get(result, "ip4") || json_object_get(result, "ip6")))
                return NULL;
        copy = json_deep_copy(result);
        (void)json_object_set_new(copy, "cniVersion", json_string(version));
        json_array_foreach (json_object_get(copy, "ips"), i, ip) {
                const char *address = json_string_value(json_object_get(ip, "address"));

                if (cni_version_compare(version, "1.0.0") >= 0)
                        (void)json_object_del(ip, "version");
                else if (address && !json_object_get(ip, "version"))
                        (void)json_object_set_new(ip, "version",
                                                  json_string(strchr(address, ':') ? "6" : "4"));
        }
        return copy;
}
