/*
 * The replaceable system-call table: file, process and clock calls whose failure tests must be able
 * to force. Code in src/ that publishes files or touches the clock goes through cc_sys; tests swap
 * entries.
 */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

struct cc_sys {
        int (*openat)(int dir, const char *path, int flags, mode_t mode);
        ssize_t (*write)(int fd, const void *buf, size_t n);
        ssize_t (*pwrite)(int fd, const void *buf, size_t n, off_t off);
        int (*fsync)(int fd);
        int (*ftruncate)(int fd, off_t len);
        int (*renameat2)(int olddir, const char *old, int newdir, const char *new, unsigned flags);
        int (*clock_gettime)(clockid_t clock, struct timespec *ts);
};

extern struct cc_sys cc_sys;            /* what the program calls */
extern const struct cc_sys cc_sys_real; /* the real calls, for tests to restore */
