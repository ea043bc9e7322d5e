/* Test tool: a random directory tree. Usage: randtree SEED DIR (new). As root it has devices,
 * owners and trusted attributes too. The same seed gives the same tree. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_PATHS = 400 };

static uint64_t state;
static char *dirs[MAX_PATHS], *files[MAX_PATHS];
static size_t n_dirs, n_files;

static uint32_t rnd(uint32_t below)
{
        /* xorshift64* */
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return (uint32_t)((state * 2685821657736338717u) >> 33) % below;
}

static void must(int ok, const char *what)
{
        if (ok >= 0)
                return;
        perror(what);
        exit(1);
}

/* Mostly short; now and then of 255 bytes, or with bytes that are no UTF-8 and sort around ".". */
static char *new_path(void)
{
        static const char odd[] = "!-+. \x80\xff\xc3\xa9'\"\\%~";
        size_t len = rnd(20) == 0 ? 255 : 1 + rnd(rnd(4) ? 8 : 90);
        const char *dir = dirs[rnd((uint32_t)n_dirs)];
        char name[256];
        char *path;

        for (;;) {
                for (size_t i = 0; i < len; i++)
                        name[i] = rnd(6) ? (char)('a' + rnd(26)) : odd[rnd(sizeof(odd) - 1)];
                name[len] = '\0';
                if (strcmp(name, ".") && strcmp(name, "..") && strncmp(name, ".wh.", 4))
                        break;
        }
        if (asprintf(&path, "%s/%s", dir, name) < 0)
                abort();
        return path;
}

static void fill(const char *path)
{
        static char block[8192];
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        uint32_t kind = rnd(10);
        off_t size = kind < 2   ? 0
                     : kind < 6 ? (off_t)rnd(4096)
                     : kind < 8 ? (off_t)(4000 + rnd(200))
                                : (off_t)rnd(40000);

        must(fd, path);
        for (off_t at = 0; at < size;) {
                size_t n = 1 + rnd(sizeof(block));

                if ((off_t)n > size - at)
                        n = (size_t)(size - at);
                for (size_t i = 0; i < n; i++)
                        block[i] = (char)rnd(256);
                if (rnd(4)) /* else a hole */
                        must((int)pwrite(fd, block, n, at), path);
                at += (off_t)n;
        }
        must(ftruncate(fd, size), path);
        close(fd);
}

static char *put(char *p, uint32_t v, int bytes)
{
        for (; bytes; bytes--, v >>= 8)
                *p++ = (char)v;
        return p;
}

/* Numbers that no account has: GNU tar would write the name instead. After chmod(2), whose group
 * bits the mask becomes. */
static void add_acl(const char *path, const char *name)
{
        static const uint16_t tags[] = { 0x01, 0x02, 0x02, 0x04, 0x08, 0x10, 0x20 };
        uint32_t user = 200000 + rnd(1000000);
        char raw[4 + 8 * sizeof(tags) / sizeof(tags[0])];
        char *p = put(raw, 2, 4);

        for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
                uint32_t id = tags[i] == 0x02 || tags[i] == 0x08 ? user++ : UINT32_MAX;

                if ((tags[i] == 0x02 || tags[i] == 0x08) && rnd(3) == 0)
                        continue;
                p = put(put(put(p, tags[i], 2), rnd(8), 2), id, 4);
        }
        if (lsetxattr(path, name, raw, (size_t)(p - raw), 0) < 0 && errno != ENOTSUP)
                must(-1, path);
}

static void decorate(const char *path, mode_t type)
{
        static const char *const names[] = { "user.a", "user.bb", "trusted.cc", "security.dd",
                                             "user.a-longer-name" };
        struct timespec times[2] = { { 0, UTIME_OMIT } };
        char value[300];

        if (geteuid() == 0)
                must(lchown(path, rnd(3) ? 0 : rnd(70000), rnd(3) ? 0 : rnd(70000)), path);
        if (type != S_IFLNK)
                must(chmod(path, rnd(2) ? 0755 : rnd(010000)), path);
        for (uint32_t n = rnd(4) ? 0 : rnd(4); n && type != S_IFLNK; n--) {
                const char *name = names[rnd(5)];
                size_t len = rnd(8) ? rnd(20) : rnd(sizeof(value));

                memset(value, 'a' + (int)rnd(3), sizeof(value));
                if (type != S_IFREG && type != S_IFDIR)
                        continue;
                if (lsetxattr(path, name, value, len, 0) < 0 && errno != ENOTSUP &&
                    errno != EPERM && errno != ENOSPC)
                        must(-1, path);
        }
        if ((type == S_IFREG || type == S_IFDIR) && rnd(12) == 0)
                add_acl(path, "system.posix_acl_access");
        if (type == S_IFDIR && rnd(12) == 0)
                add_acl(path, "system.posix_acl_default");
        times[1].tv_sec = rnd(10) ? (time_t)rnd(2000000000) : (time_t)rnd(2) * 5000000000;
        if (rnd(20) == 0)
                times[1].tv_sec = -(time_t)rnd(2000000000);
        times[1].tv_nsec = rnd(2) ? 0 : rnd(1000000000);
        must(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), path);
}

static void add(void)
{
        char *path = new_path();
        struct stat st;
        char target[4001];
        uint32_t kind = rnd(100);

        if (lstat(path, &st) == 0 || strlen(path) > 3500) {
                free(path);
                return;
        }
        if (kind < 25 && n_dirs < MAX_PATHS) {
                must(mkdir(path, 0755), path);
                dirs[n_dirs++] = path;
                return;
        }
        if (kind < 65 && n_files < MAX_PATHS) {
                fill(path);
                decorate(path, S_IFREG);
                files[n_files++] = path;
                return;
        }
        if (kind < 80 && n_files) {
                must(link(files[rnd((uint32_t)n_files)], path), path);
                free(path);
                return;
        }
        if (kind < 93 || geteuid() != 0) {
                size_t n = 1 + rnd(rnd(5) ? 40 : rnd(5) ? 700 : sizeof(target) - 1);

                for (size_t i = 0; i < n; i++)
                        target[i] = rnd(5) ? (char)('a' + rnd(26)) : '/';
                target[n] = '\0';
                must(symlink(target, path), path);
                decorate(path, S_IFLNK);
        } else if (kind < 95) {
                must(mkfifo(path, 0600), path);
                decorate(path, S_IFIFO);
        } else {
                /* Not 0:0: that is a whiteout. */
                must(mknod(path, (rnd(2) ? S_IFCHR : S_IFBLK) | 0600,
                           makedev(1 + rnd(rnd(3) ? 10 : 4000), rnd(rnd(3) ? 256 : 1000000))),
                     path);
                decorate(path, S_IFCHR);
        }
        /* Any of them may get further names. */
        if (n_files < MAX_PATHS)
                files[n_files++] = path;
        else
                free(path);
}

int main(int argc, char **argv)
{
        if (argc != 3)
                return 2;
        state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
        umask(0);
        must(mkdir(argv[2], 0755), argv[2]);
        dirs[n_dirs++] = argv[2];
        for (uint32_t n = rnd(rnd(10) ? 60 : 600); n; n--)
                add();
        /* Times of directories last, deepest first. */
        while (n_dirs)
                decorate(dirs[--n_dirs], S_IFDIR);
        return 0;
}
