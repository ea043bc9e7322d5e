/*
 * What goes to stdout: JSON in one shape, and the check that it arrived. Tables are table.h, lists
 * are list.h.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "cli/opt.h"
#include "model/record.h"

/* `-o/--output json` of commands that report one result, and `-q`. */
struct output_flags {
        const char *output; /* "" human, or "json" */
        bool quiet;
};
extern const struct opt output_opts[];      /* -o and -q */
extern const struct opt output_json_opts[]; /* -o alone */

static inline bool output_is_json(const struct output_flags *flags)
{
        return *flags->output != '\0';
}

/* Print text as it is. */
void out_text(const char *text);

/* Print one line. */
void out_line(const char *text);

/* Print a value indented, with a final newline; takes the reference. */
void out_json(json_t *value);

/* Print one compact line and flush it: a reader of a stream must see each line at once. */
void out_json_line(json_t *value);

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. New reference. */
json_t *out_string(const char *s);

/* The same of a list. */
json_t *out_strings(const struct cc_strv *v);

/* Commands for the guest's administrator, if there are any. */
void out_hints(const struct cc_strv *hints);

/* The public view of a record. */
void out_record(const struct record_type *type, const void *record);

/* Flush stdout and report what was lost since the start: the error of the first failed write. With
 * `stream` a reader that went away (EPIPE) is success. */
int out_finish(bool stream, struct cc_err *err);
