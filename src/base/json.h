/* JSON on top of jansson: typed reads with errors that name the field, and the one way we print. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

static inline void cc_cleanup_json(json_t **j)
{
        json_decref(*j);
}
#define CC_JSON CC_CLEANUP(cc_cleanup_json)

/* Parse one value of exactly n bytes (duplicate keys: last wins; depth bounded by jansson). `what`
 * names the source in the error (class INVALID). */
int cc_json_parse(const char *text, size_t n, const char *what, json_t **ret, struct cc_err *err);

/* Optional fields: absent or null leaves *ret as it is; a wrong type is CC_INVALID naming the key.
 */
int cc_json_str(const json_t *obj, const char *key, const char **ret, struct cc_err *err);
int cc_json_int(const json_t *obj, const char *key, int64_t *ret, struct cc_err *err);
int cc_json_bool(const json_t *obj, const char *key, bool *ret, struct cc_err *err);

/* 2-space indent, insertion order, newline at the end (cli.md §5.2). Caller frees. */
char *cc_json_pretty(const json_t *j);

/* One line without newline. Caller frees. */
char *cc_json_compact(const json_t *j);
