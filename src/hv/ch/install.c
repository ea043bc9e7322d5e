/* Looking up the installed Cloud Hypervisor. See install.h. */
#include "hv/ch/install.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/proc.h"
#include "hv/binary.h"

#define DEFAULT_BINARY "cloud-hypervisor"
#define CACHE_NAME     "ch-install.json"
#define ASK_MS         10000
#define VERSION_MAX    64

void ch_install_clear(struct ch_install *i)
{
        free(i->binary);
        free(i->version);
        memset(i, 0, sizeof(*i));
}

/* Up to six digits; returns where they end, NULL without one. */
static const char *number(const char *s, int64_t *ret)
{
        int64_t v = 0;
        int n = 0;

        for (; isdigit((unsigned char)s[n]) && n < 6; n++)
                v = v * 10 + (s[n] - '0');
        *ret = v;
        return n ? s + n : NULL;
}

int ch_version_parse(const char *text, struct ch_install *ret)
{
        static const char name[] = "cloud-hypervisor ";
        const char *p;
        const char *end;
        size_t n;

        if (!cc_startswith(text, name))
                return -CC_INVALID;
        p = text + sizeof(name) - 1;
        p += *p == 'v';
        n = strcspn(p, " \t\r\n");
        end = number(p, &ret->major);
        if (!end || n > VERSION_MAX) {
                ret->major = CH_MIN_MAJOR;
                ret->minor = CH_MIN_MINOR;
                ret->version = xstrdup("unknown");
                return 0;
        }
        if (*end != '.' || !number(end + 1, &ret->minor))
                ret->minor = 0;
        ret->version = xstrndup(p, n);
        return 0;
}

static int ask(const char *binary, struct ch_install *i, struct cc_err *err)
{
        const char *const argv[] = { binary, "--version", NULL };
        CC_FREE char *text = NULL;
        int r = cc_run_ok(argv, ASK_MS, &text, err);

        if (r < 0)
                return cc_wrap(err, "cloud-hypervisor");
        if (ch_version_parse(text, i) < 0)
                return cc_fail(
                        err, CC_UNAVAILABLE,
                        "cloud-hypervisor: %s does not look like Cloud Hypervisor: \"%.60s\"",
                        binary, text);
        return 0;
}

/* True if the remembered answer is complete; then *i is, too. */
static bool recall(const struct hv_binary *b, const char *cache_dir, struct ch_install *i)
{
        CC_JSON json_t *j = hv_binary_recall(b, cache_dir, CACHE_NAME);
        const char *version = NULL;

        if (!j || cc_json_str(j, "version", &version, NULL) < 0 ||
            cc_json_int(j, "major", &i->major, NULL) < 0 ||
            cc_json_int(j, "minor", &i->minor, NULL) < 0 || !version ||
            strlen(version) > VERSION_MAX)
                return false;
        i->version = xstrdup(version);
        return true;
}

static void remember(const struct hv_binary *b, const char *cache_dir, const struct ch_install *i)
{
        CC_JSON json_t *j = json_pack("{s:s, s:I, s:I}", "version", i->version, "major",
                                      (json_int_t)i->major, "minor", (json_int_t)i->minor);

        hv_binary_remember(b, cache_dir, CACHE_NAME, j);
}

int ch_install_find(const char *binary, const char *cache_dir, struct ch_install *ret,
                    struct cc_err *err)
{
        CH_INSTALL struct ch_install i = { 0 };
        HV_BINARY struct hv_binary b = { 0 };
        int r = hv_binary_find("cloud-hypervisor", cc_isempty(binary) ? DEFAULT_BINARY : binary,
                               "install cloud-hypervisor or set ch_binary", &b, err);

        if (r < 0)
                return r;
        if (!recall(&b, cache_dir, &i)) {
                r = ask(b.path, &i, err);
                if (r < 0)
                        return r;
                remember(&b, cache_dir, &i);
        }
        i.binary = TAKE_PTR(b.path);
        if (i.major < CH_MIN_MAJOR || (i.major == CH_MIN_MAJOR && i.minor < CH_MIN_MINOR))
                return cc_fail(err, CC_UNAVAILABLE,
                               "cloud-hypervisor: %s is version %s, need >= %d.%d", i.binary,
                               i.version, CH_MIN_MAJOR, CH_MIN_MINOR);
        *ret = i;
        i = (struct ch_install){ 0 };
        return 0;
}
