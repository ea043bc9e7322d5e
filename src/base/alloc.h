/*
 * Allocation that does not fail: running out of memory ends the process with one line on stderr.
 * A command is short-lived and crash-safe at every step, so an abort there is only one more kill
 * -9. Sizes that come from outside must be bounded by the caller before they get here.
 */
#pragma once

#include <stddef.h>

#include "base/cleanup.h"

/* malloc, calloc, realloc(array), strdup, strndup, memdup, asprintf: never NULL; free() with
 * free(). */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xreallocarray(void *p, size_t n, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
void *xmemdup(const void *p, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) CC_PRINTF(1, 2) __attribute__((malloc, returns_nonnull));

/* xstrdup that passes NULL through. */
char *xstrdup0(const char *s);

/* Replace an owned string: frees *dst and stores a copy of src (NULL allowed). */
void cc_strset(char **dst, const char *src);
