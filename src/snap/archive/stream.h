/* Bytes in and out, plain or gzip. Knows nothing of tar. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <zlib.h>

#include "base/err.h"

#define STREAM_BUFFER ((size_t)256 << 10)

/* ---- reading ---- */

struct source {
        int fd;
        bool gzip;
        bool file_end;   /* the descriptor is exhausted */
        bool stream_end; /* behind the last gzip member */
        bool garbage;    /* something else than gzip or zeroes followed it */
        z_stream z;
        unsigned char *in;
        size_t pos, len; /* unread part of in */
};
/* Recognises gzip by its first two bytes. */
int source_open(struct source *s, int fd, struct cc_err *err);
void source_close(struct source *s);

/* Up to n bytes, at least one unless the stream has ended (*ret 0). CORRUPT for a damaged or
 * truncated gzip stream. */
int source_read(struct source *s, void *buf, size_t n, size_t *ret, struct cc_err *err);

/* ---- writing ---- */

struct sink {
        int fd;
        bool gzip;
        z_stream z;
        unsigned char *out;
        size_t len; /* plain: not yet written */
};
int sink_open(struct sink *s, int fd, bool gzip, struct cc_err *err);
int sink_write(struct sink *s, const void *buf, size_t n, struct cc_err *err);
/* n bytes of file `from` at `off`: without passing through here when the stream is plain. */
int sink_copy(struct sink *s, int from, off_t off, off_t n, struct cc_err *err);
int sink_finish(struct sink *s, struct cc_err *err);
void sink_close(struct sink *s);
