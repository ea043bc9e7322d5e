/* Looking up the installed Cloud Hypervisor. See install.h. */
#include "hv/ch/install.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/timeutil.h"

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

static int ask(struct ch_install *i, struct cc_err *err)
{
        const char *const argv[] = { i->binary, "--version", NULL };
        CC_FREE char *text = NULL;
        int r = cc_run_ok(argv, ASK_MS, &text, err);

        if (r < 0)
                return cc_wrap(err, "cloud-hypervisor");
        if (ch_version_parse(text, i) < 0)
                return cc_fail(
                        err, CC_UNAVAILABLE,
                        "cloud-hypervisor: %s does not look like Cloud Hypervisor: \"%.60s\"",
                        i->binary, text);
        return 0;
}

static int64_t mtime_ns(const struct stat *st)
{
        return st->st_mtim.tv_sec * CC_NSEC_PER_SEC + st->st_mtim.tv_nsec;
}

/* True if the cache speaks of exactly this file; then *i is complete. */
static bool cache_read(const char *path, const struct stat *st, struct ch_install *i)
{
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = NULL;
        const char *binary = NULL;
        const char *version = NULL;
        int64_t mtime = 0;
        int64_t size = 0;
        size_t n = 0;

        if (cc_read_file(path, 16384, &text, &n, NULL) < 0 ||
            cc_json_parse(text, n, path, &j, NULL) < 0 ||
            cc_json_str(j, "binary", &binary, NULL) < 0 ||
            cc_json_str(j, "version", &version, NULL) < 0 ||
            cc_json_int(j, "mtime_ns", &mtime, NULL) < 0 ||
            cc_json_int(j, "size", &size, NULL) < 0 ||
            cc_json_int(j, "major", &i->major, NULL) < 0 ||
            cc_json_int(j, "minor", &i->minor, NULL) < 0)
                return false;
        if (!cc_streq(binary, i->binary) || mtime != mtime_ns(st) || size != st->st_size ||
            !version || strlen(version) > VERSION_MAX)
                return false;
        i->version = xstrdup(version);
        return true;
}

static void cache_write(const char *path, const struct stat *st, const struct ch_install *i)
{
        CC_JSON json_t *j =
                json_pack("{s:s, s:I, s:I, s:s, s:I, s:I}", "binary", i->binary, "mtime_ns",
                          (json_int_t)mtime_ns(st), "size", (json_int_t)st->st_size, "version",
                          i->version, "major", (json_int_t)i->major, "minor", (json_int_t)i->minor);
        CC_FREE char *text = NULL;

        if (!j)
                return; /* a path that is not UTF-8: simply not cached */
        text = cc_json_pretty(j);
        (void)cc_publish(path, text, strlen(text), 0644, NULL);
}

int ch_install_find(const char *binary, const char *cache_dir, struct ch_install *ret,
                    struct cc_err *err)
{
        CH_INSTALL struct ch_install i = { 0 };
        CC_FREE char *path = cc_isempty(cache_dir) ? NULL : cc_path_join(cache_dir, CACHE_NAME);
        struct stat st;
        int r;

        if (cc_isempty(binary))
                binary = DEFAULT_BINARY;
        i.binary = cc_find_program(binary);
        if (!i.binary) {
                (void)cc_fail(err, CC_UNAVAILABLE, "cloud-hypervisor: %s not found", binary);
                cc_hint(err, "install cloud-hypervisor or set ch_binary");
                return -CC_UNAVAILABLE;
        }
        if (stat(i.binary, &st) < 0)
                return cc_fail_errno(err, errno, "cloud-hypervisor: %s", i.binary);
        if (!path || !cache_read(path, &st, &i)) {
                r = ask(&i, err);
                if (r < 0)
                        return r;
                if (path)
                        cache_write(path, &st, &i);
        }
        if (i.major < CH_MIN_MAJOR || (i.major == CH_MIN_MAJOR && i.minor < CH_MIN_MINOR))
                return cc_fail(err, CC_UNAVAILABLE,
                               "cloud-hypervisor: %s is version %s, need >= %d.%d", i.binary,
                               i.version, CH_MIN_MAJOR, CH_MIN_MINOR);
        *ret = i;
        i = (struct ch_install){ 0 };
        return 0;
}
