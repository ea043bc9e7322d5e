/* File-backed memory. See arena.h. */
#include "image/erofs/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/interrupt.h"

#define RANGE    ((size_t)32 << 30) /* what 32-bit references of 8 bytes reach */
#define STEP_MIN ((size_t)1 << 20)
#define STEP_MAX ((size_t)64 << 20)

/* Pages of files, libraries included, that may be mapped before the arena's are given back. Between
 * two looks, 64 ticks apart, some MiB can be added: a fault maps up to 16 pages. Not before the
 * arena alone is that large. */
#define TRIM_ABOVE ((size_t)32 << 20)
#define TRIM_FROM  ((size_t)16 << 20)

int temp_file(const char *dir, int *ret, struct cc_err *err)
{
        CC_FREE char *path = NULL;
        char id[CC_ID_LEN + 1];
        int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd < 0) {
                cc_id_new(id);
                path = xasprintf("%s/.tmp-%s", dir, id);
                fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (fd < 0)
                        return cc_fail_errno(err, errno, "create temporary file in %s", dir);
                (void)unlink(path);
        }
        *ret = fd;
        return 0;
}

int arena_open(struct arena *a, const char *dir, struct cc_err *err)
{
        void *p;
        int fd = -1;
        int r = temp_file(dir, &fd, err);

        if (r < 0)
                return r;
        p = mmap(NULL, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
                int e = errno;

                close(fd);
                return cc_fail_errno(err, e, "reserve address space");
        }
        *a = (struct arena){ .base = p, .used = 8, .fd = fd, .trim = xcalloc(1, sizeof(*a->trim)) };
        a->trim->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
        a->trim->page = (size_t)sysconf(_SC_PAGESIZE);
        return 0;
}

void arena_close(struct arena *a)
{
        if (!a->base)
                return;
        (void)munmap(a->base, RANGE);
        close(a->fd);
        if (a->trim->statm >= 0)
                close(a->trim->statm);
        free(a->trim);
        *a = (struct arena){ .fd = -1 };
}

void arena_trim(const struct arena *a)
{
        char text[128];
        char *p = text;
        ssize_t n;

        if (a->mapped < TRIM_FROM || a->trim->statm < 0)
                return;
        n = pread(a->trim->statm, text, sizeof(text) - 1, 0);
        if (n <= 0)
                return;
        text[n] = '\0';
        /* proc(5): size, resident, shared, in pages */
        (void)strtoull(p, &p, 10);
        (void)strtoull(p, &p, 10);
        if (strtoull(p, &p, 10) > TRIM_ABOVE / a->trim->page)
                (void)madvise(a->base, a->mapped, MADV_DONTNEED);
}

static int grow(struct arena *a, size_t need, struct cc_err *err)
{
        size_t step = a->mapped < STEP_MIN ? STEP_MIN : a->mapped;
        int r;

        if (step > STEP_MAX)
                step = STEP_MAX;
        if (step < need - a->mapped)
                step = (need - a->mapped + STEP_MIN - 1) & ~(STEP_MIN - 1);
        if (step > RANGE - a->mapped)
                return cc_fail(err, CC_NO_SPACE, "layer has too many entries");
        do
                r = posix_fallocate(a->fd, (off_t)a->mapped, (off_t)step);
        while (r == EINTR && !cc_interrupted());
        if (r != 0)
                return cc_fail_errno(err, r, "extend temporary file");
        if (mmap(a->base + a->mapped, step, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->fd,
                 (off_t)a->mapped) == MAP_FAILED)
                return cc_fail_errno(err, errno, "map temporary file");
        /* Fresh pages need no reading ahead, and the large folios that it makes are dirtied whole. */
        (void)madvise(a->base + a->mapped, step, MADV_RANDOM);
        a->mapped += step;
        return 0;
}

int arena_alloc(struct arena *a, size_t n, uint32_t *ret, struct cc_err *err)
{
        n = (n + 7) & ~(size_t)7;
        if (n > RANGE - a->used)
                return cc_fail(err, CC_NO_SPACE, "layer has too many entries");
        if (a->used + n > a->mapped) {
                int r = grow(a, a->used + n, err);

                if (r < 0)
                        return r;
        }
        *ret = (uint32_t)(a->used / 8);
        a->used += n;
        return 0;
}
