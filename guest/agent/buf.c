/* A byte queue; buf.h. */
#include "buf.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAP ((size_t)4096)

char *buf_room(struct buf *b, size_t n)
{
        if (b->off && (b->len == 0 || b->off + b->len + n > b->cap)) {
                if (b->len)
                        memmove(b->data, buf_head(b), b->len);
                b->off = 0;
        }
        if (b->len + n > b->cap) {
                size_t cap = b->cap ? b->cap : FIRST_CAP;

                while (cap < b->len + n)
                        cap *= 2;
                b->data = realloc(b->data, cap);
                if (!b->data)
                        abort();
                b->cap = cap;
        }
        return b->data + b->off + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
        b->len += n;
}

void buf_put(struct buf *b, const void *data, size_t n)
{
        if (n == 0)
                return;
        memcpy(buf_room(b, n), data, n);
        b->len += n;
}

void buf_puts(struct buf *b, const char *text)
{
        buf_put(b, text, strlen(text));
}

void buf_consume(struct buf *b, size_t n)
{
        b->off += n;
        b->len -= n;
        if (b->len == 0)
                b->off = 0;
}

void buf_free(struct buf *b)
{
        free(b->data);
        *b = (struct buf){ 0 };
}

void buf_trim(struct buf *b, size_t keep)
{
        if (b->len == 0 && b->cap > keep)
                buf_free(b);
}
