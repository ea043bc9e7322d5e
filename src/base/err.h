/*
 * The one error type. A fallible function returns 0 or a negative class (-CC_NOT_FOUND…) and takes
 * `struct cc_err *err` as its last parameter; success leaves *err untouched. The lowest failing
 * call fills it, callers add context outermost-first with cc_wrap(). Fixed buffers: nothing to
 * free. A NULL err is allowed everywhere and drops the text.
 *
 * What does not live here: printing. Only main prints an error, once.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "base/cleanup.h"

/* Why something failed: what a caller may branch on and what the structured error names. */
enum cc_class {
        CC_OK = 0,
        CC_INTERNAL,    /* a bug or a broken invariant of ours */
        CC_USAGE,       /* flags, arguments, exclusive groups */
        CC_INVALID,     /* input data refused: manifest, archive, name, record */
        CC_NOT_FOUND,   /* the named object does not exist */
        CC_CONFLICT,    /* the name or object is taken */
        CC_AMBIGUOUS,   /* the reference matches several objects */
        CC_BUSY,        /* lock or store not available in time */
        CC_STATE,       /* the object is in the wrong state */
        CC_UNSUPPORTED, /* this driver, host or version cannot do it */
        CC_DENIED,      /* permission refused */
        CC_UNAVAILABLE, /* something on the host is missing: binary, device, firmware */
        CC_IO,          /* a system call failed */
        CC_NO_SPACE,    /* disk or quota full */
        CC_CORRUPT,     /* stored or received data is damaged: digest, checksum, database */
        CC_SCHEMA,      /* the store has another version or identity */
        CC_NETWORK,     /* a peer could not be reached or broke off */
        CC_AUTH,        /* a peer refused our credentials */
        CC_TIMEOUT,
        CC_CANCELED, /* SIGINT or SIGTERM */
        CC_PARTIAL,  /* some items of a batch failed */
        CC_CLASS_MAX
};

#define CC_ERR_MSG  4096
#define CC_ERR_HINT 512

struct cc_err {
        enum cc_class class;
        int sys;          /* errno behind it, or 0 */
        const char *code; /* stable machine-readable code (static string), or NULL: class name */
        char msg[CC_ERR_MSG];   /* one line unless it joins the items of a batch */
        char hint[CC_ERR_HINT]; /* what the user can do, or "" */
};

/* clang-format off */
#define CC_ERR_INIT { .class = CC_OK }
/* clang-format on */

/* Set the error. Returns -class, so that `return cc_fail(err, …)` is one expression. */
int cc_fail(struct cc_err *err, enum cc_class class, const char *fmt, ...) CC_PRINTF(3, 4);

/* Like cc_fail, with ": strerror(errnum)" appended and the class derived from errnum
 * (ENOENT: NOT_FOUND, EACCES/EPERM: DENIED, ENOSPC/EDQUOT: NO_SPACE, EINTR: CANCELED, else IO). */
int cc_fail_errno(struct cc_err *err, int errnum, const char *fmt, ...) CC_PRINTF(3, 4);

/* Put "context: " in front of the message. Returns -class of the error held. */
int cc_wrap(struct cc_err *err, const char *fmt, ...) CC_PRINTF(2, 3);

/* A static analyzer sees one file at a time; tell it that a failure is negative, or it follows
 * paths on which a failed call looks like success. Evaluates nothing twice. */
#if defined(__clang_analyzer__) && !defined(CC_ERR_IMPLEMENTATION)
#define cc_fail(...)       ((void)cc_fail(__VA_ARGS__), -(int)CC_INTERNAL)
#define cc_fail_errno(...) ((void)cc_fail_errno(__VA_ARGS__), -(int)CC_IO)
#define cc_wrap(...)       ((void)cc_wrap(__VA_ARGS__), -(int)CC_INTERNAL)
#endif

/* Append another failure on a new line (batches, rollback). Sets the error if it held none. */
int cc_join(struct cc_err *err, const struct cc_err *other);

/* Attach a hint; the first one wins, because it is the closest to the cause. */
void cc_hint(struct cc_err *err, const char *fmt, ...) CC_PRINTF(2, 3);

/* Replace the machine-readable code; `code` must be a static string. */
void cc_code(struct cc_err *err, const char *code);

/* Copy an error out, for example from a worker. Returns -class of src. */
int cc_err_copy(struct cc_err *dst, const struct cc_err *src);

/* "not_found", "no_space"… Never NULL. */
const char *cc_class_name(enum cc_class class);

/* The class that cc_fail_errno() would use. */
enum cc_class cc_class_of_errno(int errnum);
