/* A byte queue: appended at the end, consumed at the front. Who uses it bounds it. */
#pragma once

#include <stddef.h>

struct buf {
        char *data; /* the storage; what is queued starts at data + off */
        size_t off;
        size_t len; /* bytes queued */
        size_t cap;
};

/* Room for `n` bytes behind what is queued; the pointer is good until the next call. The program
 * ends when memory does: its supervisor starts it again. */
char *buf_room(struct buf *b, size_t n);

/* Says that `n` bytes of the room were filled. */
void buf_commit(struct buf *b, size_t n);

void buf_put(struct buf *b, const void *data, size_t n);
void buf_puts(struct buf *b, const char *text);

/* Drops `n` bytes at the front. */
void buf_consume(struct buf *b, size_t n);

/* Drops everything, and the storage too. */
void buf_free(struct buf *b);

/* Gives storage back that an exceptionally long line needed, once nothing is queued. */
void buf_trim(struct buf *b, size_t keep);

static inline char *buf_head(const struct buf *b)
{
        return b->data ? b->data + b->off : NULL;
}
