/* Copying files; transfer.h. */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "sha256.h"
#include "user.h"

#define CHUNK ((size_t)64 << 10)

static char temporary[PATH_MAX + 32]; /* empty: none to remove */

static void give_up(int signo)
{
        if (temporary[0])
                unlink(temporary);
        _exit(128 + signo);
}

static _Noreturn void put_failed(int report, const char *path, const char *why)
{
        if (temporary[0])
                unlink(temporary);
        child_fail(report, "put: %s: %s", path, why);
}

static bool write_all(int fd, const void *data, size_t n)
{
        const char *p = data;

        while (n) {
                ssize_t w = write(fd, p, n);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w < 0)
                        return false;
                p += w;
                n -= (size_t)w;
        }
        return true;
}

static ssize_t read_some(int fd, void *data, size_t n)
{
        ssize_t r;

        do
                r = read(fd, data, n);
        while (r < 0 && errno == EINTR);
        return r;
}

static void report_line(int report, const char *line)
{
        if (!write_all(report, line, strlen(line)))
                _exit(127);
}

static void report_open(int report, mode_t mode, off_t size)
{
        char line[64];

        snprintf(line, sizeof(line), "S %u %" PRId64 "\n", (unsigned)(mode & 07777), (int64_t)size);
        report_line(report, line);
}

static _Noreturn void report_done(int report, struct sha256 *hash, int64_t size)
{
        char digest[SHA256_HEX + 1];
        char line[SHA256_HEX + 32];

        sha256_hex(hash, digest);
        snprintf(line, sizeof(line), "R %s %" PRId64 "\n", digest, size);
        report_line(report, line);
        _exit(0);
}

static void become(const struct frame *f, int report)
{
        struct user user;
        const char *why;

        if (!f->user.data)
                return;
        why = user_find(f->user.data, &user);
        if (!why)
                why = user_become(&user);
        if (why)
                child_fail(report, "%s: user %s: %s", frame_type_name(f->type), f->user.data, why);
}

/* Where the file goes: into the directory that the path is, or through the link that it is. */
static const char *resolve(const struct frame *f, char out[PATH_MAX])
{
        struct stat st;
        char *real;

        if (f->path.len == 0 || f->path.len >= PATH_MAX)
                return strerror(f->path.len ? ENAMETOOLONG : ENOENT);
        memcpy(out, f->path.data, f->path.len + 1);
        if (stat(out, &st) == 0 && S_ISDIR(st.st_mode)) {
                if (!f->name.len)
                        return strerror(EISDIR);
                if (strchr(f->name.data, '/') || strcmp(f->name.data, ".") == 0 ||
                    strcmp(f->name.data, "..") == 0)
                        return strerror(EINVAL);
                if (snprintf(out, PATH_MAX, "%s/%s", f->path.data, f->name.data) >= PATH_MAX)
                        return strerror(ENAMETOOLONG);
                if (stat(out, &st) == 0 && S_ISDIR(st.st_mode))
                        return strerror(EISDIR);
        } else if (out[f->path.len - 1] == '/') {
                return strerror(ENOTDIR);
        }
        real = realpath(out, NULL);
        if (real) {
                memcpy(out, real, strlen(real) + 1);
                free(real);
        }
        return NULL;
}

/* Makes the name durable too. */
static bool sync_parent(const char *path)
{
        char copy[PATH_MAX];
        int fd;
        bool ok;

        memcpy(copy, path, strlen(path) + 1);
        fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
        if (fd >= 0)
                close(fd);
        return ok;
}

/* Opens a temporary file beside `path` that already has the mode and the owner it will have. */
static int open_temporary(const struct frame *f, const char *path, mode_t *ret_mode)
{
        char copy[PATH_MAX];
        mode_t mode = 0644;
        struct stat st;
        bool exists = stat(path, &st) == 0;
        int fd;

        if (exists && !S_ISREG(st.st_mode)) {
                errno = EEXIST;
                return -1;
        }
        if (f->mode >= 0)
                mode = (mode_t)f->mode & 07777;
        else if (exists)
                mode = st.st_mode & 07777;
        memcpy(copy, path, strlen(path) + 1);
        snprintf(temporary, sizeof(temporary), "%s/.cocoon-put-XXXXXX", dirname(copy));
        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0) {
                temporary[0] = '\0';
                return -1;
        }
        /* The owner of the old file, where we may; the mode after it, which chown changes. */
        if (exists && fchown(fd, st.st_uid, st.st_gid) < 0)
                mode &= (mode_t)~07000;
        if (fchmod(fd, mode) < 0) {
                close(fd);
                return -1;
        }
        *ret_mode = mode;
        return fd;
}

_Noreturn void transfer_put(const struct frame *f, int report)
{
        static char chunk[CHUNK];
        static char path[PATH_MAX];
        struct sha256 hash;
        const char *why;
        int64_t size = 0;
        mode_t mode = 0;
        ssize_t n;
        int fd;

        become(f, report);
        why = resolve(f, path);
        if (why)
                put_failed(report, f->path.data ? f->path.data : "", why);
        signal(SIGTERM, give_up);
        fd = open_temporary(f, path, &mode);
        if (fd < 0)
                put_failed(report, path, strerror(errno));
        report_open(report, mode, 0);
        sha256_begin(&hash);
        while ((n = read_some(STDIN_FILENO, chunk, sizeof(chunk))) > 0) {
                sha256_add(&hash, chunk, (size_t)n);
                if (!write_all(fd, chunk, (size_t)n))
                        put_failed(report, path, strerror(errno));
                size += n;
        }
        if (n < 0)
                put_failed(report, path, strerror(errno));
        if (f->size >= 0 && f->size != size) {
                char text[80];

                snprintf(text, sizeof(text), "%" PRId64 " bytes came, not %" PRId64, size, f->size);
                put_failed(report, path, text);
        }
        if (fsync(fd) < 0 || close(fd) < 0 || rename(temporary, path) < 0)
                put_failed(report, path, strerror(errno));
        temporary[0] = '\0';
        if (!sync_parent(path))
                put_failed(report, path, strerror(errno));
        report_done(report, &hash, size);
}

_Noreturn void transfer_get(const struct frame *f, int report)
{
        static char chunk[CHUNK];
        const char *path = f->path.data ? f->path.data : "";
        struct sha256 hash;
        struct stat st;
        int64_t size = 0;
        ssize_t n;
        int fd;

        become(f, report);
        /* Non-blocking: a FIFO's open would wait for its writer. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                child_fail(report, "get: %s: %s", path, strerror(errno));
        if (!S_ISREG(st.st_mode))
                child_fail(report, "get: %s: %s", path,
                           S_ISDIR(st.st_mode) ? strerror(EISDIR) : "not a regular file");
        report_open(report, st.st_mode, st.st_size);
        sha256_begin(&hash);
        while ((n = read_some(fd, chunk, sizeof(chunk))) > 0) {
                sha256_add(&hash, chunk, (size_t)n);
                if (!write_all(STDOUT_FILENO, chunk, (size_t)n))
                        _exit(1);
                size += n;
        }
        if (n < 0)
                child_fail(report, "get: %s: %s", path, strerror(errno));
        report_done(report, &hash, size);
}
