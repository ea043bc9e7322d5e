/*
 * Cleanup by scope: attributes that release what a variable holds when it goes out of scope, and
 * the two macros that move ownership out. Nothing here allocates; allocation lives in alloc.h.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Run fn(&variable) when the variable goes out of scope. */
#define CC_CLEANUP(fn) __attribute__((cleanup(fn)))

/* Move a pointer (or descriptor) out of a variable that a cleanup attribute owns. */
#define TAKE_PTR(ptr)                                                                              \
        __extension__({                                                                            \
                __typeof__(ptr) _t = ptr;                                                          \
                (ptr) = NULL;                                                                      \
                _t;                                                                                \
        })
#define TAKE_FD(fd)                                                                                \
        __extension__({                                                                            \
                int _t = (fd);                                                                     \
                (fd) = -1;                                                                         \
                _t;                                                                                \
        })

static inline void cc_cleanup_free(void *p)
{
        free(*(void **)p);
}

static inline void cc_cleanup_close(const int *fd)
{
        if (*fd >= 0)
                close(*fd);
}

static inline void cc_cleanup_file(FILE **f)
{
        if (*f)
                fclose(*f);
}

static inline void cc_cleanup_dir(DIR **d)
{
        if (*d)
                closedir(*d);
}

#define CC_FREE  CC_CLEANUP(cc_cleanup_free)
#define CC_CLOSE CC_CLEANUP(cc_cleanup_close)
#define CC_FILE  CC_CLEANUP(cc_cleanup_file)
#define CC_DIR   CC_CLEANUP(cc_cleanup_dir)

#define CC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CC_ARRAY_LEN(a)      (sizeof(a) / sizeof((a)[0]))
