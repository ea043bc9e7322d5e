/*
 * Cloud Hypervisor's errors: a chain of causes, outermost first, as its API and its command line
 * print them. Filled from the innermost outwards.
 */
#pragma once

#include <jansson.h>

#include "base/str.h"

/* What of an error decides its HTTP status. */
enum ch_kind {
        CH_OTHER,
        CH_NOT_CREATED,    /* no VM, or no configuration */
        CH_UNKNOWN_DEVICE, /* no such device */
        CH_DUPLICATE,      /* the configuration has an id or device path twice */
        CH_BAD_CONFIG,     /* the configuration is invalid otherwise */
        CH_CLOSED,         /* the VMM thread died: the process follows */
};

struct ch_error {
        struct cc_strv chain;
        enum ch_kind kind;
};

void ch_error_free(struct ch_error *e);
#define CH_ERROR CC_CLEANUP(ch_error_free)

/* Set the innermost cause. Returns -1. */
int ch_fail(struct ch_error *e, enum ch_kind kind, const char *fmt, ...) CC_PRINTF(3, 4);

/* The same with "<strerror> (os error <n>)". */
int ch_fail_errno(struct ch_error *e, int errnum);

/* Put a cause in front. Returns -1. */
int ch_wrap(struct ch_error *e, const char *fmt, ...) CC_PRINTF(2, 3);

/* The chain as the JSON array of an error reply. New reference. */
json_t *ch_error_json(const struct ch_error *e);

/* The chain as the process prints it before it exits. */
void ch_error_print(const struct ch_error *e);
