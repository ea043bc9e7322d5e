/* Host and scheme of a reference. See reference.h. */
#include "image/pull/reference.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"

void reference_clear(struct reference *r)
{
        free(r->registry);
        free(r->base);
        free(r->repository);
        free(r->target);
        free(r->digest);
        memset(r, 0, sizeof(*r));
}

/* The host without port and brackets. */
static char *bare_host(const char *host)
{
        const char *end;

        if (*host == '[') {
                end = strchr(host, ']');
                return end ? xstrndup(host + 1, (size_t)(end - host - 1)) : xstrdup(host);
        }
        return xstrndup(host, strcspn(host, ":"));
}

bool reference_host_is_loopback(const char *host)
{
        CC_FREE char *bare = bare_host(host);
        struct in6_addr v6;
        struct in_addr v4;

        if (strcasecmp(bare, "localhost") == 0)
                return true;
        if (strlen(bare) > 10 && strcasecmp(bare + strlen(bare) - 10, ".localhost") == 0)
                return true;
        if (inet_pton(AF_INET, bare, &v4) == 1)
                return ntohl(v4.s_addr) >> 24 == 127;
        return inet_pton(AF_INET6, bare, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool reference_host_is_internal(const char *host)
{
        CC_FREE char *bare = bare_host(host);
        struct in6_addr v6;
        struct in_addr v4;

        if (reference_host_is_loopback(host))
                return true;
        if (inet_pton(AF_INET6, bare, &v6) == 1) {
                if (IN6_IS_ADDR_V4MAPPED(&v6))
                        memcpy(&v4, v6.s6_addr + 12, sizeof(v4));
                else
                        return IN6_IS_ADDR_LINKLOCAL(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6) ||
                               (v6.s6_addr[0] & 0xfe) == 0xfc;
        } else if (inet_pton(AF_INET, bare, &v4) != 1) {
                return false;
        }
        {
                uint32_t a = ntohl(v4.s_addr);

                return a >> 24 == 0 || a >> 24 == 10 || a >> 24 == 127 || a >> 20 == 0xac1 ||
                       a >> 16 == 0xc0a8 || a >> 16 == 0xa9fe || a >> 22 == 0x191;
        }
}

static bool listed(const struct cc_strv *hosts, const char *registry)
{
        CC_FREE char *bare = bare_host(registry);
        const char *item;

        cc_strv_foreach (hosts, i, item)
                if (strcasecmp(item, registry) == 0 || strcasecmp(item, bare) == 0)
                        return true;
        return false;
}

int reference_parse(const struct config *config, const char *ref, struct reference *ret,
                    struct cc_err *err)
{
        struct image_name name = { 0 };
        const char *host;
        int r = image_name_parse(ref, &name, err);

        if (r < 0)
                return r;
        *ret = (struct reference){ 0 };
        host = cc_streq(name.registry, "index.docker.io") ? "registry-1.docker.io" : name.registry;
        ret->plain = reference_host_is_loopback(host) ||
                     listed(&config->insecure_registries, name.registry);
        ret->base = xasprintf("%s://%s", ret->plain ? "http" : "https", host);
        ret->registry = TAKE_PTR(name.registry);
        ret->repository = TAKE_PTR(name.repository);
        ret->digest = xstrdup0(name.digest);
        ret->target = xstrdup(name.digest ? name.digest : name.tag);
        image_name_clear(&name);
        return 0;
}
