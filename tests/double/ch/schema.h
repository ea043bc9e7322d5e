/*
 * JSON objects as tables: what members an object of the API has, of which type, with which default,
 * since which release. From a table come strict reading (in the words of the real thing's
 * deserializer), the filling-in of defaults, and writing in the order and form of a release.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/str.h"

enum ch_type {
        CH_BOOL,
        CH_U8,
        CH_U16,
        CH_U32,
        CH_U64,
        CH_USIZE,
        CH_I32,
        CH_STRING,
        CH_PATH,
        CH_MAC,
        CH_ENUM,
        CH_OBJECT,
        CH_LIST,     /* of objects of ->object */
        CH_INT_LIST, /* of numbers of ->element */
        CH_STRING_LIST,
};

struct ch_object;

enum {
        CH_REQUIRED = 1,   /* absence is an error */
        CH_SKIP_FALSE = 2, /* written only when true */
        CH_DEFAULTS = 4,   /* an absent object is one of defaults */
        CH_READ_ONLY = 8,  /* an old name: read, never written */
        CH_RANDOM_MAC = 16,
};

struct ch_field {
        const char *name;
        enum ch_type type;
        unsigned flags;
        const char *fallback; /* JSON text of the default; NULL: absent */
        const struct ch_object *object;
        enum ch_type element;
        const char *const *variants; /* NULL-terminated */
        int since, until;            /* releases that know it; 0: no bound */
        const char *real;            /* of an old name: the one it is kept under */
};

struct ch_object {
        const char *name;              /* "PayloadConfig" */
        const struct ch_field *fields; /* up to a NULL name */
        bool closed; /* refuses unknown members even where they are ignored otherwise */
};

/* How to read and write. */
struct ch_dialect {
        int release; /* 51, 52, 53; 54 stands for what follows */
        bool strict; /* unknown members are refused */
};

/* Read `value` as an object, defaults filled in; members that are unset stay absent. Returns 0, or
 * -1 with the deserializer's words in *ret_why (the caller's to free). */
int ch_read(const struct ch_dialect *d, const struct ch_object *object, const json_t *value,
            json_t **ret, char **ret_why);

/* A value that ch_read() gave, as the release prints it. New reference. */
json_t *ch_write(const struct ch_dialect *d, const struct ch_object *object, const json_t *value);

/* "02:AA:…" in lower case; false unless it is six pairs of hex digits. */
bool ch_mac(const char *text, char out[18]);

/* The field of that name, or NULL. */
const struct ch_field *ch_field(const struct ch_object *object, const char *name);
