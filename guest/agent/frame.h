/*
 * Frames: what the host may send, decoded in place, and the builders of what the agent sends.
 * docs/agent-protocol.md says what they mean; session.c what happens.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "json.h"

#define FRAME_LINE_MAX    ((size_t)8 << 20) /* with its newline */
#define FRAME_CONTROL_MAX ((size_t)64 << 10)
#define FRAME_RAW_HEADER  4
#define FRAME_RAW_MAX     (((size_t)1 << 24) - 1)

enum frame_raw_kind { RAW_STDIN, RAW_STDOUT, RAW_STDERR, RAW_CONTROL };

enum frame_type {
        FRAME_UNKNOWN,
        FRAME_HELLO,
        FRAME_EXEC,
        FRAME_RESEED,
        FRAME_PING,
        FRAME_PUT,
        FRAME_GET,
        FRAME_STDIN,
        FRAME_STDIN_CLOSE,
        FRAME_SIGNAL,
        FRAME_RESIZE,
};

/* `count` NUL-terminated strings, one behind the other. */
struct frame_strings {
        char *data;
        size_t count;
};

/* A frame from the host. Texts point into the line; data NULL: the key was not there. */
struct frame {
        enum frame_type type;
        struct json_text type_name;
        struct frame_strings argv;
        struct frame_strings env; /* K=V; may hold a K twice, the later one counts */
        struct json_text data;    /* still base64 */
        struct json_text nonce, signal, cwd, user, term, path, name;
        bool regen_machine_id, tty, raw;
        int64_t rows, cols;
        int64_t mode, size; /* -1: not there */
};

/* Decodes the object of one line (without its newline), which it changes. Returns NULL, or why not.
 */
const char *frame_decode(char *line, size_t len, struct frame *ret);

const char *frame_type_name(enum frame_type type);

/* Appends output as a line. */
void frame_put_data(struct buf *out, enum frame_raw_kind kind, const void *data, size_t n);

/* Writes the FRAME_RAW_HEADER bytes before `n` bytes (up to FRAME_RAW_MAX) of a binary frame. */
void frame_raw_header(void *header, enum frame_raw_kind kind, size_t n);

/* Builds one object: frame_start, keys, frame_end. Values that are nought are left out by the
 * caller. With `raw` the line becomes a control frame. */
struct frame_writer {
        struct buf *out;
        size_t start; /* of the object, from the queue's head */
        bool raw;
};

void frame_start(struct frame_writer *w, struct buf *out, bool raw, const char *type);
void frame_int(struct frame_writer *w, const char *key, int64_t value);
void frame_string(struct frame_writer *w, const char *key, const char *value, size_t len);
void frame_literal(struct frame_writer *w, const char *key, const char *json);
void frame_end(struct frame_writer *w);
