/*
 * Frames (agent.md §2): one JSON object a line, or, after `started` of a session that asked for it,
 * binary frames. Bytes in, frames out; no descriptors, no sessions.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* Longest line, its newline included. */
#define AGENT_LINE_MAX ((size_t)8 << 20)

/* Data of one frame that we send. */
#define AGENT_CHUNK ((size_t)32 << 10)

enum agent_frame_type {
        AGENT_FRAME_OTHER, /* a type that this version does not know: to be ignored */
        AGENT_FRAME_HELLO,
        AGENT_FRAME_STARTED,
        AGENT_FRAME_STDOUT,
        AGENT_FRAME_STDERR,
        AGENT_FRAME_EXIT,
        AGENT_FRAME_ERROR,
};

/* Valid until the reader is next used. */
struct agent_frame {
        enum agent_frame_type type;
        const char *data; /* stdout, stderr: decoded bytes */
        size_t n;
        int64_t exit_code;
        const char *message; /* error */
        const char *nonce;
        const json_t *features; /* hello; borrowed */
};

/* What has come and not been used. Zero-initialise. */
struct agent_reader {
        struct cc_buf buf;
        size_t at;      /* bytes before are used */
        size_t scanned; /* behind `at`: no newline in them */
        bool eof;       /* nothing more will come */
        bool raw;       /* binary frames from here */
        bool skip;      /* what is no frame is skipped, not an error (the sync of a serial port) */
        bool blank;     /* so is an empty line, at any time (serial ports only) */
        struct cc_buf data;
        json_t *json;
};
void agent_reader_clear(struct agent_reader *r);

/* Room for `n` more bytes; *what is written there is taken with agent_reader_got(). */
char *agent_reader_room(struct agent_reader *r, size_t n);
void agent_reader_got(struct agent_reader *r, size_t n);

/* 1: a frame. 0: more bytes must come, or at the end of the stream nothing is left. CC_INVALID when
 * what came is no frame or too long. */
int agent_reader_next(struct agent_reader *r, struct agent_frame *ret, struct cc_err *err);

/* The frames that we send, appended to `out`. */
void agent_frame_json(struct cc_buf *out, const json_t *j);
void agent_frame_hello(struct cc_buf *out, const char *nonce, bool serial);
void agent_frame_stdin(struct cc_buf *out, bool raw, const void *data, size_t n);
void agent_frame_stdin_close(struct cc_buf *out, bool raw);
void agent_frame_resize(struct cc_buf *out, bool raw, int rows, int cols);
