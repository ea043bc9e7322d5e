/* Filling, wrapping and joining of struct cc_err. See err.h for the convention. */
#define CC_ERR_IMPLEMENTATION
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const class_names[CC_CLASS_MAX] = {
        [CC_OK] = "ok",
        [CC_INTERNAL] = "internal",
        [CC_USAGE] = "usage",
        [CC_INVALID] = "invalid",
        [CC_NOT_FOUND] = "not_found",
        [CC_CONFLICT] = "conflict",
        [CC_AMBIGUOUS] = "ambiguous",
        [CC_BUSY] = "busy",
        [CC_STATE] = "wrong_state",
        [CC_UNSUPPORTED] = "unsupported",
        [CC_DENIED] = "denied",
        [CC_UNAVAILABLE] = "unavailable",
        [CC_IO] = "io",
        [CC_NO_SPACE] = "no_space",
        [CC_CORRUPT] = "corrupt",
        [CC_SCHEMA] = "schema",
        [CC_NETWORK] = "network",
        [CC_AUTH] = "auth",
        [CC_TIMEOUT] = "timeout",
        [CC_CANCELED] = "canceled",
        [CC_PARTIAL] = "partial",
};

const char *cc_class_name(enum cc_class class)
{
        if ((unsigned)class >= CC_CLASS_MAX)
                return "internal";
        return class_names[class];
}

enum cc_class cc_class_of_errno(int errnum)
{
        switch (errnum) {
        case ENOENT:
                return CC_NOT_FOUND;
        case EACCES:
        case EPERM:
                return CC_DENIED;
        case ENOSPC:
        case EDQUOT:
                return CC_NO_SPACE;
        case EINTR:
        case ECANCELED:
                return CC_CANCELED;
        case ETIMEDOUT:
                return CC_TIMEOUT;
        default:
                return CC_IO;
        }
}

static void reset(struct cc_err *err, enum cc_class class, int sys)
{
        err->class = class;
        err->sys = sys;
        err->code = NULL;
        err->hint[0] = '\0';
}

int cc_fail(struct cc_err *err, enum cc_class class, const char *fmt, ...)
{
        va_list ap;

        if (!err)
                return -(int)class;
        reset(err, class, 0);
        va_start(ap, fmt);
        (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        return -(int)class;
}

int cc_fail_errno(struct cc_err *err, int errnum, const char *fmt, ...)
{
        enum cc_class class = cc_class_of_errno(errnum);
        va_list ap;
        size_t n;

        if (!err)
                return -(int)class;
        reset(err, class, errnum);
        va_start(ap, fmt);
        (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        n = strlen(err->msg);
        (void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(errnum));
        return -(int)class;
}

int cc_wrap(struct cc_err *err, const char *fmt, ...)
{
        char inner[CC_ERR_MSG];
        va_list ap;
        size_t n;

        if (!err)
                return -CC_INTERNAL;
        memcpy(inner, err->msg, sizeof(inner));
        va_start(ap, fmt);
        (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        n = strlen(err->msg);
        (void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", inner);
        /* Wrapping nothing is a bug of the caller's; it must not turn a failure into success. */
        if (err->class == CC_OK)
                err->class = CC_INTERNAL;
        return -(int)err->class;
}

int cc_join(struct cc_err *err, const struct cc_err *other)
{
        size_t n;

        if (!err)
                return -(int)other->class;
        if (err->class == CC_OK)
                return cc_err_copy(err, other);
        n = strlen(err->msg);
        (void)snprintf(err->msg + n, sizeof(err->msg) - n, "\n%s", other->msg);
        if (err->class != other->class) {
                err->class = CC_PARTIAL;
                err->code = NULL; /* it named the first cause only */
        }
        return -(int)err->class;
}

void cc_hint(struct cc_err *err, const char *fmt, ...)
{
        va_list ap;

        if (!err || err->hint[0])
                return;
        va_start(ap, fmt);
        (void)vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
        va_end(ap);
}

void cc_code(struct cc_err *err, const char *code)
{
        if (err)
                err->code = code;
}

int cc_err_copy(struct cc_err *dst, const struct cc_err *src)
{
        if (dst)
                *dst = *src;
        return -(int)src->class;
}
