/* Network lists and plugin results: what is accepted reads back equal, and is bounded. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "net/cni_result.h"
#include "net/conflist.h"

static void check(bool ok)
{
        if (!ok)
                abort();
}

static void one_list(const char *text, size_t n)
{
        struct conflist c = { 0 };
        struct conflist again = { 0 };
        CC_FREE char *plain = NULL;

        if (conflist_parse(text, n, NULL, &c, NULL) < 0) {
                check(!c.name && !c.version && !c.plugins);
                return;
        }
        check(cni_version_valid(c.version) && cni_version_compare(c.version, CNI_VERSION) <= 0);
        check(!strchr(c.name, '/') && json_array_size(c.plugins) > 0);
        plain = conflist_text(&c);
        check(conflist_parse(plain, strlen(plain), NULL, &again, NULL) == 0);
        check(cc_streq(c.name, again.name) && cc_streq(c.version, again.version));
        check(json_equal(c.plugins, again.plugins));
        conflist_clear(&c);
        conflist_clear(&again);
}

static void one_result(const char *text, size_t n)
{
        CC_JSON json_t *j = NULL;
        CC_JSON json_t *old = NULL;
        CC_JSON json_t *new = NULL;
        CNI_RESULT struct cni_result r = { 0 };

        if (cc_json_parse(text, n, "input", &j, NULL) < 0)
                return;
        old = cni_result_for_version(j, "0.4.0");
        new = cni_result_for_version(j, "1.1.0");
        check(!old == !new);
        if (cni_result_parse(j, "eth0", &r, NULL) < 0) {
                check(!r.addresses && r.n == 0);
                return;
        }
        /* What goes to plugins and kernel command lines is digits and dots. */
        check(!r.ip[strspn(r.ip, "0123456789.")] && !r.gateway[strspn(r.gateway, "0123456789.")]);
        check(r.prefix <= 32 && r.n <= 64 && r.dns.len <= 8);
        for (size_t i = 0; i < r.n; i++)
                check(r.addresses[i].prefix <= (r.addresses[i].v6 ? 128 : 32));
        for (size_t i = 0; i < r.dns.len; i++)
                check(!r.dns.v[i][strspn(r.dns.v[i], "0123456789abcdefABCDEF.:")]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        one_list((const char *)data, n);
        one_result((const char *)data, n);
        return 0;
}
