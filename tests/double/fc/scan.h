/*
 * Scanning JSON with the error texts and positions of the library that Firecracker reads request
 * bodies with (serde_json), because they are what a user of the API sees. Cursor, whitespace,
 * strings, numbers, values to be ignored; which field may hold what lives in decode.h.
 *
 * An error is first a text alone, then gets its position where the library would give it one:
 * every function returns -1 with the error set, at most once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct fcd_scan {
        const char *text;
        size_t len, pos;
        struct cc_buf error; /* owned; empty while there is none */
        bool placed;         /* the error has its position */
};

/* A number as the library classifies it: -0, fractions and what exceeds 64 bits are real. */
struct fcd_number {
        enum { FCD_UNSIGNED, FCD_SIGNED, FCD_REAL } kind;
        uint64_t u;
        int64_t i;
        double real;
};

void fcd_scan_free(struct fcd_scan *s);
#define FCD_SCAN CC_CLEANUP(fcd_scan_free)

/* The next byte without consuming it, -1 at the end; the second form skips blanks first. */
int fcd_peek(const struct fcd_scan *s);
int fcd_peek_solid(struct fcd_scan *s);

/* Errors at the cursor, at the byte behind it, and without a position yet. All return -1. */
int fcd_error(struct fcd_scan *s, const char *text);
int fcd_error_peek(struct fcd_scan *s, const char *text);
int fcd_error_later(struct fcd_scan *s, const char *fmt, ...) CC_PRINTF(2, 3);

/* Give an error without position the cursor's. Returns -1. */
int fcd_place(struct fcd_scan *s);

/* The rest of a literal whose first byte has been consumed: "ull", "rue", "alse". */
int fcd_literal(struct fcd_scan *s, const char *rest);

/* The rest of a string behind its opening quote, decoded and checked to be UTF-8, appended. */
int fcd_string(struct fcd_scan *s, struct cc_buf *ret);

/* A number behind its sign, if it has one. */
int fcd_number(struct fcd_scan *s, bool positive, struct fcd_number *ret);

/* ":" between key and value. */
int fcd_colon(struct fcd_scan *s);

/* Any one value, of any depth, consumed. */
int fcd_ignore(struct fcd_scan *s);

/* Nothing but blanks may follow the value. */
int fcd_end(struct fcd_scan *s);

/* Append what the library calls the value under the cursor in "invalid type: …": consumes it, or
 * nothing of a list or an object. */
int fcd_describe(struct fcd_scan *s, struct cc_buf *ret);
void fcd_describe_number(const struct fcd_number *n, struct cc_buf *ret);
