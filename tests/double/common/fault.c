#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"

static const char *const names[] = {
        [DBL_FAULT_NONE] = "none",
        [DBL_FAULT_DROP_BEFORE] = "drop-before",
        [DBL_FAULT_DROP_AFTER] = "drop-after",
        [DBL_FAULT_CUT] = "cut",
        [DBL_FAULT_REPLY] = "reply",
        [DBL_FAULT_RAW] = "raw",
        [DBL_FAULT_DELAY] = "delay",
        [DBL_FAULT_DELAY_AFTER] = "delay-after",
        [DBL_FAULT_HANG] = "hang",
        [DBL_FAULT_CRASH] = "crash",
        [DBL_FAULT_CRASH_AFTER] = "crash-after",
};

struct dbl_faults {
        char *path;
        json_t *counts; /* endpoint: requests so far */
};

struct dbl_faults *dbl_faults_new(const char *path)
{
        struct dbl_faults *f = xcalloc(1, sizeof(*f));

        f->path = xstrdup0(path);
        f->counts = json_object();
        return f;
}

void dbl_faults_free(struct dbl_faults *f)
{
        if (!f)
                return;
        free(f->path);
        json_decref(f->counts);
        free(f);
}

const char *dbl_fault_name(enum dbl_fault_kind kind)
{
        return names[kind];
}

static _Noreturn void bad_line(const struct dbl_faults *f, const char *line, const char *why)
{
        fprintf(stderr, "double: %s: %s: %s\n", f->path, why, line);
        exit(70);
}

static enum dbl_fault_kind kind_of(const char *name)
{
        for (size_t i = 1; i < CC_ARRAY_LEN(names); i++)
                if (cc_streq(names[i], name))
                        return (enum dbl_fault_kind)i;
        return DBL_FAULT_NONE;
}

/* True if the line is about this request. */
static bool match(const struct dbl_faults *f, const char *line, const char *endpoint, int64_t count,
                  struct dbl_fault *ret)
{
        CC_JSON json_t *obj = NULL;
        struct cc_err err = CC_ERR_INIT;
        const char *want = NULL, *what = NULL;
        int64_t nth = 0, from = 0, status = 500;

        *ret = (struct dbl_fault){ 0 };
        if (cc_json_parse(line, strlen(line), "fault", &obj, &err) < 0 ||
            cc_json_str(obj, "endpoint", &want, &err) < 0 ||
            cc_json_str(obj, "do", &what, &err) < 0 || cc_json_int(obj, "nth", &nth, &err) < 0 ||
            cc_json_int(obj, "from", &from, &err) < 0 ||
            cc_json_int(obj, "ms", &ret->ms, &err) < 0 ||
            cc_json_int(obj, "bytes", &ret->bytes, &err) < 0 ||
            cc_json_int(obj, "status", &status, &err) < 0)
                bad_line(f, line, err.msg);
        ret->kind = kind_of(what);
        ret->status = (int)status;
        if (!ret->kind)
                bad_line(f, line, "no such fault");
        if ((want && !cc_streq(want, endpoint)) || (nth && nth != count) || (from && count < from))
                return false;
        ret->body = json_incref(json_object_get(obj, "body"));
        return true;
}

struct dbl_fault dbl_faults_next(struct dbl_faults *f, const char *endpoint)
{
        int64_t count = json_integer_value(json_object_get(f->counts, endpoint)) + 1;
        CC_STRV struct cc_strv lines = { 0 };
        CC_FREE char *text = NULL;
        const char *line;
        struct dbl_fault fault = { 0 };
        size_t len;

        json_object_set_new(f->counts, endpoint, json_integer(count));
        if (!f->path || cc_read_file(f->path, 1 << 20, &text, &len, NULL) < 0)
                return fault;
        cc_split(text, "\n", &lines);
        cc_strv_foreach (&lines, i, line) {
                if (match(f, line, endpoint, count, &fault))
                        return fault;
        }
        return (struct dbl_fault){ 0 };
}
