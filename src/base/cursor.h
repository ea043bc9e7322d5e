/*
 * The only way to foreign bytes: a cursor that checks every read against the end. A read past the
 * end returns false (or NULL) and marks the cursor bad, so that a parser may check once at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cc_cursor {
        const uint8_t *data;
        size_t len;
        size_t pos;
        bool bad; /* a read went past the end; all later reads fail too */
};

static inline struct cc_cursor cc_cursor_init(const void *data, size_t len)
{
        return (struct cc_cursor){ .data = data, .len = len };
}

static inline size_t cc_cursor_left(const struct cc_cursor *c)
{
        return c->bad ? 0 : c->len - c->pos;
}

/* The next n bytes, or NULL. */
static inline const uint8_t *cc_cursor_get(struct cc_cursor *c, size_t n)
{
        const uint8_t *p;

        if (c->bad || n > c->len - c->pos) {
                c->bad = true;
                return NULL;
        }
        p = c->data + c->pos;
        c->pos += n;
        return p;
}

static inline bool cc_cursor_seek(struct cc_cursor *c, size_t pos)
{
        if (c->bad || pos > c->len) {
                c->bad = true;
                return false;
        }
        c->pos = pos;
        return true;
}

static inline uint64_t cc_cursor_le(struct cc_cursor *c, unsigned n)
{
        const uint8_t *p = cc_cursor_get(c, n);
        uint64_t v = 0;

        for (unsigned i = 0; p && i < n; i++)
                v |= (uint64_t)p[i] << (8 * i);
        return v;
}

static inline uint64_t cc_cursor_be(struct cc_cursor *c, unsigned n)
{
        const uint8_t *p = cc_cursor_get(c, n);
        uint64_t v = 0;

        for (unsigned i = 0; p && i < n; i++)
                v = v << 8 | p[i];
        return v;
}
