/* Buffered sequential output into a file, with holes for what is skipped. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct output {
        int fd;
        uint64_t base; /* file offset of buf[0] */
        size_t len;
        uint8_t *buf;
        /* Told how far the file is written, if not NULL. */
        void (*written)(void *ctx, uint64_t pos);
        void *written_ctx;
};

void output_init(struct output *o, int fd);
void output_free(struct output *o);

static inline uint64_t output_pos(const struct output *o)
{
        return o->base + o->len;
}

/* All of it, past the buffer; CANCELED once interrupted. */
int output_write_at(int fd, const uint8_t *data, size_t n, uint64_t at, struct cc_err *err);

int output_write(struct output *o, const void *data, size_t n, struct cc_err *err);
int output_zero(struct output *o, uint64_t n, struct cc_err *err); /* a hole where it can be one */
int output_flush(struct output *o, struct cc_err *err);
