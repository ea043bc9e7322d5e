/* Allocation that aborts instead of failing. See alloc.h. */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

static void die_oom(void) __attribute__((noreturn));
static void die_oom(void)
{
        static const char text[] = "Error: out of memory\n";
        ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

        (void)n;
        abort();
}

void *xmalloc(size_t size)
{
        void *p = malloc(size ? size : 1);

        if (!p)
                die_oom();
        return p;
}

void *xcalloc(size_t n, size_t size)
{
        void *p = calloc(n ? n : 1, size ? size : 1);

        if (!p)
                die_oom();
        return p;
}

void *xreallocarray(void *p, size_t n, size_t size)
{
        void *q;

        if (size && n > SIZE_MAX / size)
                die_oom();
        q = realloc(p, n && size ? n * size : 1);
        if (!q)
                die_oom();
        return q;
}

char *xstrdup(const char *s)
{
        return xmemdup(s, strlen(s) + 1);
}

char *xstrdup0(const char *s)
{
        return s ? xstrdup(s) : NULL;
}

char *xstrndup(const char *s, size_t n)
{
        size_t len = strnlen(s, n);
        char *p = xmalloc(len + 1);

        memcpy(p, s, len);
        p[len] = '\0';
        return p;
}

void *xmemdup(const void *p, size_t n)
{
        void *q = xmalloc(n);

        if (n)
                memcpy(q, p, n);
        return q;
}

char *xasprintf(const char *fmt, ...)
{
        char *s = NULL;
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vasprintf(&s, fmt, ap);
        va_end(ap);
        if (n < 0 || !s)
                die_oom();
        return s;
}

void cc_strset(char **dst, const char *src)
{
        char *copy = xstrdup0(src);

        free(*dst);
        *dst = copy;
}
