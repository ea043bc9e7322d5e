/* The default system-call table: the kernel's own calls. */
#include "base/sys.h"

#include <stdio.h>
#include <unistd.h>

static int real_openat(int dir, const char *path, int flags, mode_t mode)
{
        return openat(dir, path, flags, mode);
}

#define REAL_SYS                                                                                   \
        {                                                                                          \
                .openat = real_openat, .write = write, .pwrite = pwrite, .fsync = fsync,           \
                .ftruncate = ftruncate, .renameat2 = renameat2, .clock_gettime = clock_gettime,    \
        }

struct cc_sys cc_sys = REAL_SYS;
const struct cc_sys cc_sys_real = REAL_SYS;
