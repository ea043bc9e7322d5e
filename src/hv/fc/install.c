/* Asking a Firecracker binary its version, and remembering the answer. See install.h. */
#include "hv/fc/install.h"

#include <ctype.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/proc.h"
#include "hv/binary.h"

#define CACHE_NAME  "fc-install.json"
#define ASK_MS      10000
#define MAX_VERSION 32

void fc_install_clear(struct fc_install *i)
{
        free(i->binary);
        free(i->version);
        *i = (struct fc_install){ 0 };
}

/* "1.16.1", anything behind it ignored; a missing last number is 0. Returns the length read, 0 for
 * something else. */
static size_t parse_numbers(const char *s, int out[3])
{
        const char *p = s;
        int n = 0;

        out[0] = out[1] = out[2] = 0;
        while (n < 3 && isdigit((unsigned char)*p)) {
                char *end;
                long v = strtol(p, &end, 10);

                if (v > 100000)
                        return 0;
                out[n++] = (int)v;
                p = end;
                if (*p != '.' || !isdigit((unsigned char)p[1]))
                        break;
                p++;
        }
        return n >= 2 ? (size_t)(p - s) : 0;
}

int fc_version_parse(const char *text, struct fc_install *ret)
{
        static const char prefix[] = "Firecracker v";
        int v[3];
        size_t n;

        if (!cc_startswith(text, prefix))
                return -CC_INVALID;
        text += sizeof(prefix) - 1;
        n = parse_numbers(text, v);
        if (n == 0 || n > MAX_VERSION)
                return -CC_INVALID;
        free(ret->version);
        ret->version = xstrndup(text, n);
        ret->major = v[0];
        ret->minor = v[1];
        ret->patch = v[2];
        return 0;
}

bool fc_version_at_least(const struct fc_install *i, int major, int minor, int patch)
{
        if (i->major != major)
                return i->major > major;
        if (i->minor != minor)
                return i->minor > minor;
        return i->patch >= patch;
}

int fc_snapshot_format(const char *binary, const char *path, int ret[2], struct cc_err *err)
{
        const char *const argv[] = { binary, path ? "--describe-snapshot" : "--snapshot-version",
                                     path, NULL };
        CC_FREE char *text = NULL;
        int v[3];
        int r = cc_run_ok(argv, ASK_MS, &text, err);

        if (r < 0)
                return r;
        if (text[0] != 'v' || parse_numbers(text + 1, v) == 0)
                return cc_fail(err, CC_INVALID, "%s %s names no snapshot format", binary, argv[1]);
        ret[0] = v[0];
        ret[1] = v[1];
        return 0;
}

bool fc_kernel_has_io_uring(const char *release)
{
        int v[3];

        if (parse_numbers(release, v) == 0)
                return false;
        return v[0] > 5 || (v[0] == 5 && (v[1] > 10 || (v[1] == 10 && v[2] >= 51)));
}

bool fc_io_uring_usable(void)
{
        struct io_uring_params p = { 0 };
        struct utsname u;
        CC_CLOSE int fd = (int)syscall(SYS_io_uring_setup, 1u, &p);

        return fd >= 0 && uname(&u) == 0 && fc_kernel_has_io_uring(u.release);
}

static int ask(const char *binary, struct fc_install *i, struct cc_err *err)
{
        const char *const argv[] = { binary, "--version", NULL };
        CC_FREE char *text = NULL;
        int r = cc_run_ok(argv, ASK_MS, &text, err);

        if (r < 0)
                return cc_wrap(err, "firecracker");
        if (fc_version_parse(text, i) < 0) {
                text[strcspn(text, "\n")] = '\0';
                return cc_fail(err, CC_UNAVAILABLE,
                               "firecracker: %s does not look like Firecracker: \"%.60s\"", binary,
                               text);
        }
        return 0;
}

/* True if the remembered answer is a version; then *i has it. */
static bool recall(const struct hv_binary *b, const char *cache_dir, struct fc_install *i)
{
        CC_JSON json_t *j = hv_binary_recall(b, cache_dir, CACHE_NAME);
        CC_FREE char *line = NULL;
        const char *version = NULL;

        if (!j || cc_json_str(j, "version", &version, NULL) < 0 || !version)
                return false;
        line = xasprintf("Firecracker v%s", version);
        return fc_version_parse(line, i) == 0;
}

static void remember(const struct hv_binary *b, const char *cache_dir, const struct fc_install *i)
{
        CC_JSON json_t *j = json_pack("{s:s}", "version", i->version);

        hv_binary_remember(b, cache_dir, CACHE_NAME, j);
}

int fc_install_find(const char *binary, const char *cache_dir, struct fc_install *ret,
                    struct cc_err *err)
{
        FC_INSTALL struct fc_install i = { 0 };
        HV_BINARY struct hv_binary b = { 0 };
        CC_FREE char *fix = xasprintf("install firecracker >= %d.%d or set fc_binary", FC_MIN_MAJOR,
                                      FC_MIN_MINOR);
        int r = hv_binary_find("firecracker", cc_isempty(binary) ? "firecracker" : binary, fix, &b,
                               err);

        if (r < 0)
                return r;
        if (!recall(&b, cache_dir, &i)) {
                r = ask(b.path, &i, err);
                if (r < 0)
                        return r;
                remember(&b, cache_dir, &i);
        }
        i.binary = TAKE_PTR(b.path);
        if (!fc_version_at_least(&i, FC_MIN_MAJOR, FC_MIN_MINOR, 0)) {
                (void)cc_fail(err, CC_UNAVAILABLE, "firecracker: %s is version %s, need >= %d.%d",
                              i.binary, i.version, FC_MIN_MAJOR, FC_MIN_MINOR);
                cc_hint(err, "install a newer firecracker or set fc_binary");
                return -CC_UNAVAILABLE;
        }
        *ret = i;
        i = (struct fc_install){ 0 };
        return 0;
}
