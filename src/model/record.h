/*
 * Records as tables: each record type is a struct and one array of fields (name, type, offset).
 * Loading from JSON, printing, copying and freeing follow from the table; nothing else knows field
 * names. Unknown keys are kept in the record's `extra` and written back (state.md header).
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum field_type {
        FIELD_STR,      /* char *; JSON string */
        FIELD_INT,      /* int64_t */
        FIELD_BOOL,     /* bool */
        FIELD_TRISTATE, /* int: -1 absent, 0 false, 1 true */
        FIELD_TIME,     /* int64_t ns since the epoch, 0 absent; RFC 3339 */
        FIELD_SET,      /* struct cc_strv, sorted; JSON object of empty objects */
        FIELD_STRS,     /* struct cc_strv; JSON array of strings */
        FIELD_OBJECT,   /* embedded struct of type `sub` */
        FIELD_PTR,      /* owned pointer to a struct of type `sub`, NULL absent */
        FIELD_ARRAY,    /* struct record_array of `sub` */
        FIELD_JSON,     /* json_t * kept verbatim */
};

enum {
        FIELD_ALWAYS = 1 << 0, /* written even when empty, 0, false */
        FIELD_STORED = 1 << 1, /* only in the store, never shown to users */
        FIELD_SHOWN = 1 << 2,  /* only shown to users, never stored */
        FIELD_NULLS = 1 << 3,  /* array: a null element loads as an empty one, for who needs it to
                                  refuse (network.md §1) */
        FIELD_BULK = 1 << 4,   /* what no table of many records shows: record_parse_brief() */
};

struct record_type;

struct field {
        const char *name;
        enum field_type type;
        size_t offset;
        unsigned flags;
        const struct record_type *sub;
};

struct record_type {
        const char *what; /* for errors: "vm record" */
        size_t size;
        size_t extra; /* offset of a json_t * for unknown keys, or SIZE_MAX: dropped */
        const struct field *fields;
        size_t n;
};

struct record_array {
        void *v; /* n structs, contiguous */
        size_t len;
};

/* Which keys to write: those for the store or those for users. */
enum record_view { RECORD_STORE, RECORD_PUBLIC };

/* Fill *rec (all zero before, or a freed record). A wrong type is CC_INVALID naming record and
 * field; on failure *rec is empty again. null counts as absent, except as an array element (an
 * error, unless the field has FIELD_NULLS). Values of unknown keys are shared with `json`. */
int record_load(const struct record_type *type, const json_t *json, void *rec, struct cc_err *err);

/* record_load() from text: `n` bytes with a NUL behind them. Same results, several times faster for
 * documents that record_dump() wrote. */
int record_parse(const struct record_type *type, const char *text, size_t n, void *rec,
                 struct cc_err *err);

/* The same without fields marked FIELD_BULK and without unknown keys, for who looks at very many
 * records and writes none back. Damage inside what is left out may go unnoticed. */
int record_parse_brief(const struct record_type *type, const char *text, size_t n, void *rec,
                       struct cc_err *err);

/* Make *rec empty: all zero, and tristates absent. */
void record_init(const struct record_type *type, void *rec);

/* New reference; keys in table order, then (stored view only) the unknown ones. */
json_t *record_dump(const struct record_type *type, const void *rec, enum record_view view);

/* Release what the struct holds and zero it. */
void record_clear(const struct record_type *type, void *rec);

/* Deep copy into *dst (cleared first). */
void record_copy(const struct record_type *type, void *dst, const void *src);

/* Append an empty element (all zero, tristates absent); returns it (valid until the next append).
 */
void *record_array_add(const struct record_type *sub, struct record_array *a);

/* Refuse what JSON cannot hold: a string that is not UTF-8. CC_INVALID naming the field. */
int record_check(const struct record_type *type, const void *rec, struct cc_err *err);
