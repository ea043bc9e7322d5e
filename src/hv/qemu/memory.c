/*
 * Copying guest memory. See memory.h.
 *
 * A copy is cut into pieces that a few threads take in turn: one thread alone does not saturate
 * memory. Holes are skipped by SEEK_DATA, zero blocks by looking at them: a guest that zeroes its
 * free memory costs no disk.
 */
#include "hv/qemu/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "hv/qemu/qemu.h"

#define BLOCK       ((size_t)64 << 10) /* what is tested for zeroes and skipped */
#define PIECE       ((off_t)8 << 20)   /* what a thread takes at a time */
#define BUFFER      ((size_t)1 << 20)
#define MAX_THREADS 4
#define MAX_EXTENTS 65536 /* beyond this the rest is one extent; its holes are found by looking */
#define MEMFD_LINK  "/memfd:cocoon-ram (deleted)"

struct extent {
        off_t start, end;
};

struct copy {
        int from, to;
        char *map; /* the target mapped, or NULL: written by pwrite */
        struct extent *extents;
        size_t n;
        pthread_mutex_t lock; /* over next and offset */
        size_t next;
        off_t offset; /* in the next extent */
        atomic_bool failed;
        struct cc_err err; /* of the first that failed */
};

static bool is_zero(const char *p, size_t n)
{
        return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int put(const struct copy *c, const char *data, size_t n, off_t off, struct cc_err *err)
{
        if (c->map) {
                memcpy(c->map + off, data, n);
                return 0;
        }
        while (n) {
                ssize_t w = pwrite(c->to, data, n, off);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w <= 0)
                        return cc_fail_errno(err, w < 0 ? errno : EIO, "write guest memory");
                data += w;
                off += w;
                n -= (size_t)w;
        }
        return 0;
}

/* The runs of blocks that hold something. */
static int put_blocks(const struct copy *c, const char *data, size_t n, off_t off,
                      struct cc_err *err)
{
        size_t start = 0;
        bool run = false;

        for (size_t i = 0; i < n; i += BLOCK) {
                size_t len = n - i < BLOCK ? n - i : BLOCK;
                bool zero = is_zero(data + i, len);

                if (run && zero) {
                        int r = put(c, data + start, i - start, off + (off_t)start, err);

                        if (r < 0)
                                return r;
                } else if (!run && !zero) {
                        start = i;
                }
                run = !zero;
        }
        return run ? put(c, data + start, n - start, off + (off_t)start, err) : 0;
}

static int copy_piece(const struct copy *c, struct extent piece, char *buf, struct cc_err *err)
{
        for (off_t off = piece.start; off < piece.end;) {
                size_t want = piece.end - off < (off_t)BUFFER ? (size_t)(piece.end - off) : BUFFER;
                int r;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "copying guest memory interrupted");
                r = cc_pread_all(c->from, buf, want, off, err);
                if (r == 0)
                        r = put_blocks(c, buf, want, off, err);
                if (r < 0)
                        return r;
                off += (off_t)want;
        }
        return 0;
}

static bool take_piece(struct copy *c, struct extent *ret)
{
        bool any = false;

        (void)pthread_mutex_lock(&c->lock);
        if (c->next < c->n && !atomic_load(&c->failed)) {
                struct extent *x = &c->extents[c->next];

                ret->start = x->start + c->offset;
                ret->end = x->end - ret->start > PIECE ? ret->start + PIECE : x->end;
                c->offset += ret->end - ret->start;
                if (ret->end == x->end) {
                        c->next++;
                        c->offset = 0;
                }
                any = true;
        }
        (void)pthread_mutex_unlock(&c->lock);
        return any;
}

static void *work(void *arg)
{
        struct copy *c = arg;
        CC_FREE char *buf = xmalloc(BUFFER);
        struct extent piece;

        while (take_piece(c, &piece)) {
                struct cc_err why = CC_ERR_INIT;

                if (copy_piece(c, piece, buf, &why) < 0) {
                        (void)pthread_mutex_lock(&c->lock);
                        if (!atomic_exchange(&c->failed, true))
                                (void)cc_err_copy(&c->err, &why);
                        (void)pthread_mutex_unlock(&c->lock);
                }
        }
        return NULL;
}

static int find_extents(struct copy *c, off_t size, struct cc_err *err)
{
        off_t off = 0;
        size_t cap = 0;

        while (off < size) {
                off_t data = lseek(c->from, off, SEEK_DATA);
                off_t end;

                if (data < 0 && errno == ENXIO)
                        break;
                if (data < 0 && errno != EINVAL)
                        return cc_fail_errno(err, errno, "seek in guest memory");
                end = data < 0 ? size : lseek(c->from, data, SEEK_HOLE);
                if (data < 0)
                        data = off;
                if (end < 0 || end > size || c->n == MAX_EXTENTS)
                        end = size;
                if (data >= size)
                        break;
                if (c->n == cap) {
                        cap = cap ? 2 * cap : 64;
                        c->extents = xreallocarray(c->extents, cap, sizeof(*c->extents));
                }
                c->extents[c->n++] = (struct extent){ data, end };
                off = end;
        }
        return 0;
}

static int copy_memory(int from, int to, char *map, off_t size, struct cc_err *err)
{
        struct copy c = { .from = from, .to = to, .map = map, .err = CC_ERR_INIT };
        pthread_t threads[MAX_THREADS];
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        size_t started = 0;
        int r = find_extents(&c, size, err);

        if (r == 0) {
                (void)pthread_mutex_init(&c.lock, NULL);
                /* This thread works too. */
                while (started + 1 < MAX_THREADS && (long)started + 1 < cores &&
                       pthread_create(&threads[started], NULL, work, &c) == 0)
                        started++;
                (void)work(&c);
                for (size_t i = 0; i < started; i++)
                        (void)pthread_join(threads[i], NULL);
                (void)pthread_mutex_destroy(&c.lock);
                if (atomic_load(&c.failed))
                        r = cc_err_copy(err, &c.err);
        }
        free(c.extents);
        return r;
}

/* ---- saving ---- */

/* The guest's memfd among the descriptors of its process; -1: its memory is a private mapping. */
static int open_memfd(pid_t pid)
{
        CC_FREE char *dir = xasprintf("/proc/%d/fd", (int)pid);
        CC_DIR DIR *d = opendir(dir);
        struct dirent *e;

        while (d && (e = readdir(d))) {
                char link[64];
                ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

                if (n <= 0)
                        continue;
                link[n] = '\0';
                if (strcmp(link, MEMFD_LINK) == 0)
                        return openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
        }
        return -1;
}

/* Where QEMU has mapped the guest's memory: one block, contiguous. */
static int host_address(struct qmp *q, uint64_t *ret, struct cc_err *err)
{
        CC_JSON json_t *reply = NULL;
        const char *text;
        const char *at;
        int r = qmp_command(q, "human-monitor-command",
                            json_pack("{s:s}", "command-line", "gpa2hva 0"), QMP_COMMAND_MS, &reply,
                            err);

        if (r < 0)
                return r;
        text = json_string_value(reply);
        at = text && strstr(text, "(mem0)") ? strstr(text, " is 0x") : NULL;
        errno = 0;
        *ret = at ? strtoull(at + strlen(" is "), NULL, 16) : 0;
        if (*ret == 0 || errno)
                return cc_fail(err, CC_INTERNAL, "qemu: gpa2hva: unexpected answer: %s",
                               text ? text : "(none)");
        return 0;
}

struct overlay {
        int mem, to;
        uint64_t base;
        size_t page;
        char *buf;
};

static int write_zeroes(const struct overlay *o, off_t off, size_t n, struct cc_err *err)
{
        struct copy c = { .to = o->to };

        if (fallocate(o->to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, (off_t)n) == 0)
                return 0;
        return put(&c, o->buf, n, off, err);
}

/* Pages [first, end) of the guest over the copy. */
static int put_pages(const struct overlay *o, size_t first, size_t end, struct cc_err *err)
{
        struct copy c = { .to = o->to };

        while (first < end) {
                size_t n = (end - first) * o->page;
                off_t off = (off_t)(first * o->page);
                int r;

                if (n > BUFFER)
                        n = BUFFER;
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "copying guest memory interrupted");
                r = cc_pread_all(o->mem, o->buf, n, (off_t)o->base + off, err);
                if (r == 0)
                        r = is_zero(o->buf, n) ? write_zeroes(o, off, n, err)
                                               : put(&c, o->buf, n, off, err);
                if (r < 0)
                        return r;
                first += n / o->page;
        }
        return 0;
}

/* /proc/PID/pagemap: present and neither of a file nor shared, or swapped out: the guest's own. */
#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_SWAPPED (UINT64_C(1) << 62)
#define PM_FILE    (UINT64_C(1) << 61)
#define PM_BATCH   ((size_t)8192)

static bool own_page(uint64_t entry)
{
        return (entry & PM_SWAPPED) || ((entry & PM_PRESENT) && !(entry & PM_FILE));
}

static int overlay_pages(const struct overlay *o, int pagemap, size_t pages, struct cc_err *err)
{
        CC_FREE uint64_t *entries = xcalloc(PM_BATCH, sizeof(*entries));
        size_t run = 0;
        bool in_run = false;

        for (size_t at = 0; at < pages; at += PM_BATCH) {
                size_t n = pages - at < PM_BATCH ? pages - at : PM_BATCH;
                off_t off = (off_t)((o->base / o->page + at) * sizeof(*entries));
                int r = cc_pread_all(pagemap, entries, n * sizeof(*entries), off, err);

                for (size_t i = 0; i < n && r == 0; i++) {
                        bool own = own_page(entries[i]);

                        if (own && !in_run)
                                run = at + i;
                        else if (!own && in_run)
                                r = put_pages(o, run, at + i, err);
                        in_run = own;
                }
                if (r < 0)
                        return r;
        }
        return in_run ? put_pages(o, run, pages, err) : 0;
}

static int open_proc(pid_t pid, const char *name, int *ret, struct cc_err *err)
{
        CC_FREE char *path = xasprintf("/proc/%d/%s", (int)pid, name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        *ret = fd;
        return 0;
}

static int save_private(struct qmp *q, pid_t pid, const char *run_dir, int to, int64_t size,
                        struct cc_err *err)
{
        CC_FREE char *parent_path = cc_path_join(run_dir, QEMU_MEMORY);
        CC_CLOSE int parent = open(parent_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        CC_FREE char *buf = xmalloc(BUFFER);
        CC_CLOSE int mem = -1;
        CC_CLOSE int pagemap = -1;
        struct overlay o = { .to = to, .page = (size_t)sysconf(_SC_PAGESIZE), .buf = buf };
        struct stat st;
        int r;

        if (parent < 0)
                return cc_fail_errno(err, errno, "open %s", parent_path);
        if (fstat(parent, &st) < 0 || st.st_size != size)
                return cc_fail(err, CC_CORRUPT, "%s is not the memory of this VM", parent_path);
        r = host_address(q, &o.base, err);
        if (r == 0)
                r = open_proc(pid, "mem", &mem, err);
        if (r == 0)
                r = open_proc(pid, "pagemap", &pagemap, err);
        if (r == 0)
                r = cc_copy_sparse(parent, to, err);
        if (r < 0)
                return r;
        o.mem = mem;
        return overlay_pages(&o, pagemap, (size_t)size / o.page, err);
}

int qemu_memory_save(struct qmp *q, pid_t pid, const char *run_dir, const char *path, int64_t size,
                     struct cc_err *err)
{
        CC_CLOSE int memfd = open_memfd(pid);
        CC_CLOSE int to = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
        int r;

        if (to < 0)
                return cc_fail_errno(err, errno, "create %s", path);
        if (ftruncate(to, size) < 0)
                return cc_fail_errno(err, errno, "size %s", path);
        r = memfd >= 0 ? copy_memory(memfd, to, NULL, size, err)
                       : save_private(q, pid, run_dir, to, size, err);
        return r < 0 ? cc_wrap(err, "save guest memory") : 0;
}

/* ---- loading ---- */

int qemu_memory_load(const char *path, int memfd, int64_t size, bool huge, struct cc_err *err)
{
        CC_CLOSE int from = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        char *map = NULL;
        int r;

        if (from < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        if (huge) {
                map = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
                if (map == MAP_FAILED)
                        return cc_fail_errno(err, errno, "map guest memory");
        }
        r = copy_memory(from, memfd, map, size, err);
        if (map)
                (void)munmap(map, (size_t)size);
        return r < 0 ? cc_wrap(err, "load guest memory") : 0;
}
