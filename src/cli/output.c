/* JSON on stdout, and the final flush. See output.h. */
#include "cli/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

static const char *const outputs[] = { "json", NULL };

#define OUTPUT_ROW                                                                                 \
        {                                                                                          \
                .name = "output", .letter = 'o', .type = OPT_ENUM,                                 \
                .offset = offsetof(struct output_flags, output), .metavar = "FORMAT",              \
                .help = "json: print the result as JSON", .values = outputs                        \
        }

const struct opt output_json_opts[] = { OUTPUT_ROW, { 0 } };

const struct opt output_opts[] = {
        OUTPUT_ROW,
        { .name = "quiet",
          .letter = 'q',
          .type = OPT_BOOL,
          .offset = offsetof(struct output_flags, quiet),
          .help = "print only the resulting ID or reference" },
        { 0 },
};

static int write_errno; /* of the first write that failed; stdio itself only keeps a flag */

void out_text(const char *text)
{
        if (fputs(text, stdout) == EOF && !write_errno)
                write_errno = errno;
}

void out_line(const char *text)
{
        out_text(text);
        out_text("\n");
}

void out_json(json_t *value)
{
        CC_JSON json_t *owned = value;
        CC_FREE char *text = cc_json_pretty(owned);

        out_text(text);
}

void out_json_line(json_t *value)
{
        CC_JSON json_t *owned = value;
        CC_FREE char *text = cc_json_compact(owned);

        out_text(text);
        out_text("\n");
        if (fflush(stdout) == EOF && !write_errno)
                write_errno = errno;
}

json_t *out_string(const char *s)
{
        CC_BUF struct cc_buf b = { 0 };
        size_t n = strlen(s);

        if (cc_utf8_valid(s, n))
                return json_stringn_nocheck(s, n);
        for (size_t i = 0; i < n;) {
                size_t len = 1;

                while (len < 4 && i + len < n && !cc_utf8_valid(s + i, len))
                        len++;
                if (cc_utf8_valid(s + i, len)) {
                        cc_buf_add(&b, s + i, len);
                        i += len;
                } else {
                        cc_buf_str(&b, "\xef\xbf\xbd");
                        i++;
                }
        }
        return json_stringn_nocheck(b.data, b.len);
}

json_t *out_strings(const struct cc_strv *v)
{
        json_t *list = json_array();

        for (size_t i = 0; i < v->len; i++)
                json_array_append_new(list, out_string(v->v[i]));
        return list;
}

void out_hints(const struct cc_strv *hints)
{
        if (hints->len)
                out_text("# run in the guest, so that it takes note:\n");
        for (size_t i = 0; i < hints->len; i++)
                out_line(hints->v[i]);
}

void out_record(const struct record_type *type, const void *record)
{
        out_json(record_dump(type, record, RECORD_PUBLIC));
}

int out_finish(bool stream, struct cc_err *err)
{
        bool failed = fflush(stdout) == EOF;

        if (failed && !write_errno)
                write_errno = errno;
        if (!failed && !ferror(stdout) && !write_errno)
                return 0;
        if (!write_errno)
                write_errno = EIO;
        if (stream && write_errno == EPIPE)
                return 0;
        return cc_fail_errno(err, write_errno, "write standard output");
}
