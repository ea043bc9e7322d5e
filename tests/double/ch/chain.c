#include "chain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

void ch_error_free(struct ch_error *e)
{
        cc_strv_free(&e->chain);
        e->kind = CH_OTHER;
}

static void put_first(struct ch_error *e, const char *text)
{
        cc_strv_add(&e->chain, text);
        for (size_t i = e->chain.len - 1; i > 0; i--) {
                char *other = e->chain.v[i - 1];

                e->chain.v[i - 1] = e->chain.v[i];
                e->chain.v[i] = other;
        }
}

static void put_firstv(struct ch_error *e, const char *fmt, va_list ap) CC_PRINTF(2, 0);
static void put_firstv(struct ch_error *e, const char *fmt, va_list ap)
{
        CC_FREE char *text = NULL;

        if (vasprintf(&text, fmt, ap) >= 0)
                put_first(e, text);
}

int ch_fail(struct ch_error *e, enum ch_kind kind, const char *fmt, ...)
{
        va_list ap;

        ch_error_free(e);
        e->kind = kind;
        va_start(ap, fmt);
        put_firstv(e, fmt, ap);
        va_end(ap);
        return -1;
}

int ch_fail_errno(struct ch_error *e, int errnum)
{
        return ch_fail(e, CH_OTHER, "%s (os error %d)", strerror(errnum), errnum);
}

int ch_wrap(struct ch_error *e, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        put_firstv(e, fmt, ap);
        va_end(ap);
        return -1;
}

json_t *ch_error_json(const struct ch_error *e)
{
        json_t *array = json_array();
        const char *text;

        cc_strv_foreach (&e->chain, i, text) {
                json_array_append_new(array, json_string(text));
        }
        return array;
}

void ch_error_print(const struct ch_error *e)
{
        CC_FREE char *line = cc_strv_join(&e->chain, ": ");
        const char *text;

        fprintf(stderr, "cloud-hypervisor:   0.000000s: <main> ERROR: -- Fatal error: %s\n", line);
        if (e->chain.len == 1) {
                fprintf(stderr, "Error: Cloud Hypervisor exited with the following error:\n  %s\n",
                        line);
                return;
        }
        fprintf(stderr, "Error: Cloud Hypervisor exited with the following chain of errors:\n");
        cc_strv_foreach (&e->chain, i, text) {
                fprintf(stderr, "  %zu: %s\n", i, text);
        }
}
