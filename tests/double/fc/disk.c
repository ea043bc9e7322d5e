#include "disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"

enum { AREA = 64 << 10 };

static const char mark[8] = "FCDFILES";

struct area {
        char mark[sizeof(mark)];
        uint64_t len;
};

static bool writable(const struct fcd_device *drive)
{
        return !json_is_true(json_object_get(drive->config, "is_read_only"));
}

/* The descriptor and where its area begins; -1 without a drive that has room for one. */
static int find_area(const struct fcd_vm *vm, off_t *ret)
{
        for (size_t i = 0; i < vm->drives.n; i++) {
                const struct fcd_device *drive = &vm->drives.v[i];
                off_t size;

                if (!writable(drive))
                        continue;
                size = lseek(drive->fd, 0, SEEK_END);
                if (size < (off_t)2 * AREA)
                        return -1;
                *ret = size - AREA;
                return drive->fd;
        }
        return -1;
}

json_t *fcd_disk_load(const struct fcd_vm *vm)
{
        CC_FREE char *text = xmalloc(AREA);
        struct area a;
        off_t at = 0;
        int fd = find_area(vm, &at);

        if (fd < 0 || pread(fd, &a, sizeof(a), at) != (ssize_t)sizeof(a) ||
            memcmp(a.mark, mark, sizeof(mark)) != 0 || a.len > AREA - sizeof(a) ||
            pread(fd, text, a.len, at + (off_t)sizeof(a)) != (ssize_t)a.len)
                return NULL;
        return json_loadb(text, a.len, 0, NULL);
}

void fcd_disk_store(const struct fcd_vm *vm, json_t *files)
{
        CC_FREE char *text = json_dumps(files, JSON_COMPACT);
        struct area a = { .len = strlen(text) };
        off_t at = 0;
        int fd = find_area(vm, &at);

        memcpy(a.mark, mark, sizeof(mark));
        /* A full disk is the guest's problem. */
        if (fd < 0 || a.len > AREA - sizeof(a) ||
            pwrite(fd, &a, sizeof(a), at) != (ssize_t)sizeof(a) ||
            pwrite(fd, text, a.len, at + (off_t)sizeof(a)) != (ssize_t)a.len)
                fcd_log_write(&vm->log, FCD_LOG_WARN, "vmm", "guest files not kept");
}

int fcd_disk_pattern(const struct fcd_vm *vm, const char *text, struct cc_err *err)
{
        for (size_t i = 0; i < vm->drives.n; i++) {
                const struct fcd_device *drive = &vm->drives.v[i];

                if (writable(drive) &&
                    pwrite(drive->fd, text, strlen(text), 0) != (ssize_t)strlen(text))
                        return cc_fail_errno(err, errno, "write to drive %zu", i);
        }
        return 0;
}
