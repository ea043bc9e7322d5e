/*
 * Request bodies against a schema: which fields, which types, which defaults. Strict like the real
 * thing: unknown fields, missing ones, second ones, null where no null belongs, numbers that do not
 * fit, all refused with its texts (scan.h). What a value means is the handlers' business.
 */
#pragma once

#include <jansson.h>

#include "base/str.h"

enum fcd_type {
        FCD_STRING,
        FCD_PATH, /* a string, called otherwise in errors */
        FCD_BOOL,
        FCD_U8,
        FCD_U16,
        FCD_U32,
        FCD_U64,
        FCD_USIZE,
        FCD_MAC,    /* a string of six hexadecimal pairs, kept in lower case */
        FCD_LEVEL,  /* a log level, kept as "Error", "Warn"… */
        FCD_ENUM,   /* .of: NULL-terminated names */
        FCD_OBJECT, /* .of: schema */
        FCD_LIST,   /* .of: schema of its items */
        FCD_ANY,    /* any JSON, kept as null */
};

struct fcd_field {
        const char *name;
        enum fcd_type type;
        const char *fallback; /* JSON of the value when absent; NULL: required; "null" also makes
                                 null a value */
        const void *of;
        unsigned since; /* minor version 1.N that introduced the field; 0: always there */
        bool defaulted; /* null is its default, not only what its absence means: the difference
                           shows in the positional form */
};

struct fcd_schema {
        const char *name;               /* of the type, as errors say it */
        bool loose;                     /* unknown fields are ignored */
        const struct fcd_field *fields; /* until one without name */
};

/*
 * Decode `text` for version 1.`minor`. *ret (new reference) has every field of the schema, in its
 * order, absent ones with their fallback; numbers beyond INT64_MAX are kept as that. On failure -1
 * and the library's text appended to `error`.
 */
int fcd_decode(const struct fcd_schema *schema, unsigned minor, const char *text, size_t len,
               json_t **ret, struct cc_buf *error);
