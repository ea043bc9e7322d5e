/*
 * The grammar of OCI references (images.md §1.1) and the VM name made from one (cli.md §3). Which
 * host and scheme a reference is fetched from is decided in pull/reference.c.
 */
#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "image/image.h"

#define HUB_REGISTRY "index.docker.io"

enum { PATH_MIN_LEN = 2, PATH_MAX_LEN = 255, TAG_MAX_LEN = 127, REGISTRY_MAX_LEN = 255 };

void image_name_clear(struct image_name *name)
{
        free(name->registry);
        free(name->repository);
        free(name->tag);
        free(name->digest);
        memset(name, 0, sizeof(*name));
}

static void cleanup_name(struct image_name *name)
{
        image_name_clear(name);
}

/* host, host:port or [v6]:port. */
static bool registry_valid(const char *s)
{
        size_t n = strlen(s);
        size_t host;

        if (n == 0 || n > REGISTRY_MAX_LEN)
                return false;
        if (*s == '[') {
                host = strspn(s + 1, "0123456789abcdefABCDEF:.") + 1;
                if (s[host] != ']')
                        return false;
                host++;
        } else {
                for (host = 0;
                     isalnum((unsigned char)s[host]) || (s[host] && strchr(".-_", s[host]));)
                        host++;
        }
        if (host == 0)
                return false;
        if (s[host] == '\0')
                return true;
        if (s[host] != ':')
                return false;
        n = strspn(s + host + 1, "0123456789");
        return n > 0 && n <= 5 && s[host + 1 + n] == '\0';
}

/* The path goes into request URLs, so empty, "." and ".." components are refused with the rest. */
static bool repository_valid(const char *s)
{
        size_t n = strlen(s);

        if (n < PATH_MIN_LEN || n > PATH_MAX_LEN)
                return false;
        if (strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_./-") != n)
                return false;
        for (const char *p = s; p; p = strchr(p, '/')) {
                size_t len;

                p += p > s ? 1 : 0;
                len = strcspn(p, "/");
                if (len == 0 || (len <= 2 && strspn(p, ".") >= len))
                        return false;
        }
        return true;
}

static bool tag_valid(const char *s)
{
        size_t n = 0;

        while (isalnum((unsigned char)s[n]) || (s[n] && strchr("_.-", s[n])))
                n++;
        return s[n] == '\0' && n >= 1 && n <= TAG_MAX_LEN;
}

static bool is_registry(const char *component)
{
        return strpbrk(component, ".:") || cc_streq(component, "localhost");
}

int image_name_parse(const char *ref, struct image_name *ret, struct cc_err *err)
{
        CC_CLEANUP(cleanup_name) struct image_name name = { 0 };
        CC_FREE char *rest = xstrdup(ref);
        char *at = strchr(rest, '@');
        char *slash;
        char *colon;
        char *path = rest;

        if (at) {
                *at++ = '\0';
                if (!cc_startswith(at, "sha256:") || !cc_is_hex(at + 7, 64))
                        return cc_fail(
                                err, CC_INVALID,
                                "image reference \"%s\": digest must be sha256:<64 hex digits>",
                                ref);
                name.digest = xstrdup(at);
        }
        colon = strrchr(rest, ':');
        slash = strrchr(rest, '/');
        /* A ':' part that contains '/' is a port. */
        if (colon && (!slash || colon > slash)) {
                *colon++ = '\0';
                if (!tag_valid(colon))
                        return cc_fail(err, CC_INVALID, "image reference \"%s\": invalid tag", ref);
                if (!name.digest)
                        name.tag = xstrdup(colon);
        }
        if (!name.tag && !name.digest)
                name.tag = xstrdup("latest");

        slash = strchr(rest, '/');
        if (slash) {
                *slash = '\0';
                if (is_registry(rest)) {
                        name.registry = xstrdup(rest);
                        path = slash + 1;
                } else {
                        *slash = '/';
                }
        }
        if (!name.registry || cc_streq(name.registry, "docker.io") ||
            cc_streq(name.registry, "registry-1.docker.io"))
                cc_strset(&name.registry, HUB_REGISTRY);
        if (!registry_valid(name.registry))
                return cc_fail(err, CC_INVALID, "image reference \"%s\": invalid registry", ref);
        if (cc_streq(name.registry, HUB_REGISTRY) && !strchr(path, '/') && *path)
                name.repository = xasprintf("library/%s", path);
        else
                name.repository = xstrdup(path);
        if (!repository_valid(name.repository))
                return cc_fail(err, CC_INVALID, "image reference \"%s\": invalid repository name",
                               ref);
        *ret = name;
        memset(&name, 0, sizeof(name));
        return 0;
}

char *image_name_normalise(const struct image_name *name)
{
        return xasprintf("%s/%s%s%s%s%s", name->registry, name->repository, name->tag ? ":" : "",
                         name->tag ? name->tag : "", name->digest ? "@" : "",
                         name->digest ? name->digest : "");
}

char *image_default_vm_name(const char *ref)
{
        CC_CLEANUP(cleanup_name) struct image_name name = { 0 };
        CC_BUF struct cc_buf out = { 0 };
        const char *path;

        cc_buf_str(&out, "cocoon-");
        if (image_name_parse(ref, &name, NULL) == 0) {
                path = name.repository;
                if (cc_startswith(path, "library/"))
                        path += strlen("library/");
                cc_buf_str(&out, path);
                if (name.tag && !cc_streq(name.tag, "latest"))
                        cc_buf_printf(&out, "-%s", name.tag);
        } else {
                cc_buf_str(&out, ref);
        }
        /* A URL may hold more than '/' and ':' that a VM name must not. */
        for (size_t i = 0; i < out.len; i++)
                if (!isalnum((unsigned char)out.data[i]) && !strchr("._-", out.data[i]))
                        out.data[i] = '-';
        if (out.len > 63)
                out.data[63] = '\0';
        return cc_buf_take(&out);
}
