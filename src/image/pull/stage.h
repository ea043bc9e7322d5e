/*
 * The file a compressed layer is staged in: the download appends to it while the converter reads
 * behind, each at its own speed. So a broken connection resumes without the converter noticing, and
 * a failed conversion costs no second download.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct stage {
        int fd;
        pthread_mutex_t lock; /* guards everything below */
        pthread_cond_t grown;
        int64_t len;
        bool ended, failed, abandoned;
};

/* Create `path` (0600, must not exist). */
int stage_create(struct stage *s, const char *path, struct cc_err *err);

/* Use a complete file instead (a blob of an image layout). */
int stage_open(struct stage *s, const char *path, struct cc_err *err);

/* Close; both sides must be done. */
void stage_close(struct stage *s);

/* Writer: append; CANCELED once the reader gave up for good (stage_abandon). */
int stage_append(struct stage *s, const void *data, size_t n, struct cc_err *err);

/* Writer: no more bytes. `ok` false makes the reader fail as soon as it gets there. */
void stage_end(struct stage *s, bool ok);

/* Reader: bytes at `off`, waiting for the first of them. *ret 0: the end. CANCELED when the writer
 * failed: its error is the one to report. */
int stage_read(struct stage *s, int64_t off, void *buf, size_t n, size_t *ret, struct cc_err *err);

/* Reader: stop the writer, the rest is of no interest. */
void stage_abandon(struct stage *s);
