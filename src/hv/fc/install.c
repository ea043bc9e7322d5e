/* Asking a Firecracker binary its version, and remembering the answer. See install.h. */
#include "hv/fc/install.h"

#include <ctype.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/timeutil.h"

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

static int ask(struct fc_install *i, struct cc_err *err)
{
        const char *const argv[] = { i->binary, "--version", NULL };
        CC_FREE char *text = NULL;
        int r = cc_run_ok(argv, ASK_MS, &text, err);

        if (r < 0)
                return cc_wrap(err, "firecracker");
        if (fc_version_parse(text, i) < 0) {
                text[strcspn(text, "\n")] = '\0';
                return cc_fail(err, CC_UNAVAILABLE,
                               "firecracker: %s does not look like Firecracker: \"%.60s\"",
                               i->binary, text);
        }
        return 0;
}

static int64_t mtime_ns(const struct stat *st)
{
        return st->st_mtim.tv_sec * CC_NSEC_PER_SEC + st->st_mtim.tv_nsec;
}

/* True if the cache speaks of exactly this file; then *i has its version. */
static bool cache_read(const char *path, const struct stat *st, struct fc_install *i)
{
        CC_FREE char *text = NULL;
        CC_FREE char *line = NULL;
        CC_JSON json_t *j = NULL;
        const char *binary = NULL;
        const char *version = NULL;
        int64_t mtime = 0;
        int64_t size = 0;
        size_t n = 0;

        if (cc_read_file(path, 4096, &text, &n, NULL) < 0 ||
            cc_json_parse(text, n, path, &j, NULL) < 0 ||
            cc_json_str(j, "binary", &binary, NULL) < 0 ||
            cc_json_str(j, "version", &version, NULL) < 0 ||
            cc_json_int(j, "mtime_ns", &mtime, NULL) < 0 || cc_json_int(j, "size", &size, NULL) < 0)
                return false;
        if (!cc_streq(binary, i->binary) || mtime != mtime_ns(st) || size != st->st_size ||
            !version)
                return false;
        line = xasprintf("Firecracker v%s", version);
        return fc_version_parse(line, i) == 0;
}

static void cache_write(const char *path, const struct stat *st, const struct fc_install *i)
{
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = json_pack("{s:s, s:I, s:I, s:s}", "binary", i->binary, "mtime_ns",
                                      (json_int_t)mtime_ns(st), "size", (json_int_t)st->st_size,
                                      "version", i->version);

        if (!j)
                return; /* a path that is not UTF-8: simply not cached */
        text = cc_json_pretty(j);
        (void)cc_publish(path, text, strlen(text), 0644, NULL);
}

int fc_install_find(const char *binary, const char *cache_dir, struct fc_install *ret,
                    struct cc_err *err)
{
        FC_INSTALL struct fc_install i = { 0 };
        CC_FREE char *path = cc_isempty(cache_dir) ? NULL : cc_path_join(cache_dir, CACHE_NAME);
        struct stat st;
        int r;

        if (cc_isempty(binary))
                binary = "firecracker";
        i.binary = cc_find_program(binary);
        if (!i.binary) {
                (void)cc_fail(err, CC_UNAVAILABLE, "firecracker: %s not found", binary);
                cc_hint(err, "install firecracker >= %d.%d or set fc_binary", FC_MIN_MAJOR,
                        FC_MIN_MINOR);
                return -CC_UNAVAILABLE;
        }
        if (stat(i.binary, &st) < 0)
                return cc_fail_errno(err, errno, "firecracker: %s", i.binary);
        if (!path || !cache_read(path, &st, &i)) {
                r = ask(&i, err);
                if (r < 0)
                        return r;
                if (path)
                        cache_write(path, &st, &i);
        }
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
