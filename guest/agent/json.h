/*
 * A reader of one JSON text, in place: strings are unescaped where they stand, nothing is
 * allocated, and a value nested deeper than JSON_DEPTH is refused. The caller asks for what it
 * expects; the first thing that is not so sets `why`, after which every call fails.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH 8

struct json {
        char *at;
        char *end;
        unsigned depth;
        const char *why; /* NULL as long as all is well */
};

/* Points into the text. NUL-terminated once read; may hold NULs of its own. */
struct json_text {
        char *data;
        size_t len;
};

static inline void jr_begin(struct json *j, char *text, size_t len)
{
        *j = (struct json){ .at = text, .end = text + len };
}

/* First character of the next value (blanks skipped), or 0 at the end of the text. */
char jr_peek(struct json *j);

/* Enters an object ('{') or array ('['). */
bool jr_enter(struct json *j, char open);

/* Inside an object: reads the next key and its colon; false behind the last one, or on error.
 * `first` starts true. */
bool jr_key(struct json *j, bool *first, struct json_text *ret);

/* Inside an array: true if a value follows. */
bool jr_item(struct json *j, bool *first);

bool jr_string(struct json *j, struct json_text *ret);
bool jr_int(struct json *j, int64_t *ret);
bool jr_bool(struct json *j, bool *ret);

/* Any value. */
bool jr_skip(struct json *j);

/* Nothing but blanks may follow. */
bool jr_finish(struct json *j);

bool jr_text_is(const struct json_text *text, const char *literal);
