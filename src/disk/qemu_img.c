/* qemu-img as a judge and rewriter of images from elsewhere. Overlays are create.c's. */
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/size.h"
#include "disk/disk.h"

/* 20 GiB through a slow disk and an emulated host; a signal ends the wait at any time. */
#define CONVERT_MS (4 * 3600 * 1000)

/* Exit statuses of qemu-img check and compare. */
enum { CHECK_OK = 0, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, SAME = 0 };

static const char *format_name(enum disk_format format)
{
        return format == DISK_QCOW2 ? "qcow2" : "raw";
}

static int run(const char *const *argv, struct cc_run_result *ret, struct cc_err *err)
{
        int r = cc_run(argv, NULL, 0, 1 << 20, CONVERT_MS, ret, err);

        if (r == -CC_UNAVAILABLE)
                cc_hint(err, "install qemu-utils");
        return r;
}

/* Its last words without its own name and our temporary file's. */
static const char *reason(struct cc_run_result *result)
{
        char *text = result->err.len ? result->err.data : result->out.data;
        char *end;
        char *colon;

        if (!text)
                return "no reason given";
        for (end = text + strlen(text); end > text && (end[-1] == '\n' || end[-1] == ' ');)
                *--end = '\0';
        end = strrchr(text, '\n');
        text = end ? end + 1 : text;
        while ((colon = strstr(text, ": ")) && (text[0] == '/' || cc_startswith(text, "qemu-img")))
                text = colon + 2;
        return *text ? text : "no reason given";
}

static int failed(const char *what, struct cc_run_result *result, struct cc_err *err)
{
        const char *why = reason(result);

        if (strstr(why, "No space left on device"))
                return cc_fail(err, CC_NO_SPACE, "%s: %s", what, why);
        return cc_fail(err, CC_INVALID, "%s: qemu-img: %s", what, why);
}

int disk_qcow2_intact(const char *path, struct cc_err *err)
{
        const char *const argv[] = { "qemu-img", "check", "-q", "-f", "qcow2", path, NULL };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        int r = run(argv, &result, err);

        if (r < 0 || result.status == CHECK_OK || result.status == CHECK_LEAKS)
                return r;
        if (result.status == CHECK_CORRUPT)
                return cc_fail(err, CC_INVALID, "the qcow2 image is damaged or incomplete");
        return failed("the qcow2 image cannot be read", &result, err);
}

/* The size that converting makes, from the tables alone: a few kilobytes may claim terabytes. */
static int measure(const char *path, enum disk_format format, int64_t max, struct cc_err *err)
{
        const char *const argv[] = {
                "qemu-img", "measure", "--output=json", "-f", format_name(format), "-O", "qcow2",
                path,       NULL
        };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        CC_JSON json_t *json = NULL;
        const json_t *required;
        char limit[24];
        int r = run(argv, &result, err);

        if (r < 0)
                return r;
        if (result.status != 0 || !result.out.len)
                return failed("the disk image cannot be read", &result, err);
        r = cc_json_parse(result.out.data, result.out.len, "qemu-img measure", &json, err);
        if (r < 0)
                return r;
        required = json_object_get(json, "required");
        if (!json_is_integer(required))
                return cc_fail(err, CC_INTERNAL, "qemu-img measure tells no size");
        if (json_integer_value(required) <= max)
                return 0;
        cc_size_format(max, limit);
        return cc_fail(err, CC_INVALID, "the disk image unpacks to more than %s", limit);
}

int disk_convert(const char *path, enum disk_format format, const char *to, int64_t max,
                 struct cc_err *err)
{
        const char *const argv[] = { "qemu-img",          "convert", "-q",    "-f",
                                     format_name(format), "-O",      "qcow2", "-o",
                                     "compat=1.1",        path,      to,      NULL };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        int r = measure(path, format, max, err);

        if (r < 0)
                return r;
        if (cc_exists(to))
                return cc_fail(err, CC_CONFLICT, "%s exists", to);
        r = run(argv, &result, err);
        if (r == 0 && result.status != 0)
                r = failed("convert the disk image", &result, err);
        if (r < 0)
                (void)unlink(to);
        return r;
}

int disk_same_content(const char *path, enum disk_format format, const char *qcow2, bool *ret,
                      struct cc_err *err)
{
        const char *const argv[] = { "qemu-img", "compare", "-q", "-f",  format_name(format),
                                     "-F",       "qcow2",   path, qcow2, NULL };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        int r = run(argv, &result, err);

        if (r < 0)
                return r;
        *ret = result.status == SAME;
        return 0;
}
