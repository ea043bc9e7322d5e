/* Test tool: are two trees equal? Usage: treecmp A B. Names, types, modes, owners, times, devices,
 * link counts and groups, attributes, content; the first difference is printed. */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

struct link_pair {
        ino_t a, b;
};
static struct link_pair *pairs;
static size_t n_pairs;

__attribute__((format(printf, 2, 3), noreturn)) static void differ(const char *path,
                                                                   const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        (void)printf("%s: ", path);
        (void)vprintf(fmt, ap);
        (void)printf("\n");
        exit(1);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int no_dots(const struct dirent *d)
{
        return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

static void compare_links(const char *path, ino_t a, ino_t b)
{
        for (size_t i = 0; i < n_pairs; i++) {
                if (pairs[i].a != a && pairs[i].b != b)
                        continue;
                if (pairs[i].a != a || pairs[i].b != b)
                        differ(path, "hard links grouped differently");
                return;
        }
        pairs = realloc(pairs, (n_pairs + 1) * sizeof(*pairs));
        if (!pairs)
                abort();
        pairs[n_pairs++] = (struct link_pair){ a, b };
}

static void compare_content(const char *a, const char *b)
{
        static char x[65536], y[65536];
        int fa = open(a, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        int fb = open(b, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t n;

        if (fa < 0 || fb < 0)
                differ(a, "cannot open both");
        do {
                n = read(fa, x, sizeof(x));
                if (n < 0 || read(fb, y, sizeof(y)) != n || memcmp(x, y, (size_t)n) != 0)
                        differ(a, "content");
        } while (n > 0);
        close(fa);
        close(fb);
}

static void has_all(const char *a, const char *b)
{
        static char list[1 << 16], x[1 << 16], y[1 << 16];
        ssize_t n = llistxattr(a, list, sizeof(list));

        if (n < 0)
                differ(a, "cannot list attributes");
        for (char *name = list; n > 0 && name < list + n; name += strlen(name) + 1) {
                ssize_t lx = lgetxattr(a, name, x, sizeof(x));
                ssize_t ly = lgetxattr(b, name, y, sizeof(y));

                if (lx < 0 || lx != ly || memcmp(x, y, (size_t)lx) != 0)
                        differ(a, "attribute %s (%zd and %zd bytes)", name, lx, ly);
        }
}

static void compare(const char *a, const char *b);

static void compare_dir(const char *a, const char *b)
{
        struct dirent **x;
        struct dirent **y;
        int n = scandir(a, &x, no_dots, by_name);
        int m = scandir(b, &y, no_dots, by_name);

        if (n < 0 || n != m)
                differ(a, "%d and %d entries", n, m);
        for (int i = 0; i < n; i++) {
                char *p;
                char *q;

                if (strcmp(x[i]->d_name, y[i]->d_name) != 0)
                        differ(a, "\"%s\" and \"%s\"", x[i]->d_name, y[i]->d_name);
                if (x[i]->d_type != DT_UNKNOWN && y[i]->d_type != DT_UNKNOWN &&
                    x[i]->d_type != y[i]->d_type)
                        differ(a, "type of \"%s\" in the listing", x[i]->d_name);
                if (asprintf(&p, "%s/%s", a, x[i]->d_name) < 0 ||
                    asprintf(&q, "%s/%s", b, y[i]->d_name) < 0)
                        abort();
                compare(p, q);
                free(p);
                free(q);
                free(x[i]);
                free(y[i]);
        }
        free(x);
        free(y);
}

static void compare(const char *a, const char *b)
{
        char x[4096];
        char y[4096];
        struct stat s;
        struct stat t;

        if (lstat(a, &s) < 0 || lstat(b, &t) < 0)
                differ(a, "missing");
        if (s.st_mode != t.st_mode)
                differ(a, "mode %o and %o", s.st_mode, t.st_mode);
        if (s.st_uid != t.st_uid || s.st_gid != t.st_gid)
                differ(a, "owner %u:%u and %u:%u", s.st_uid, s.st_gid, t.st_uid, t.st_gid);
        if (s.st_mtim.tv_sec != t.st_mtim.tv_sec || s.st_mtim.tv_nsec != t.st_mtim.tv_nsec)
                differ(a, "time %ld.%09ld and %ld.%09ld", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec,
                       (long)t.st_mtim.tv_sec, t.st_mtim.tv_nsec);
        /* File systems without a count of directories say 1. */
        if (s.st_nlink != t.st_nlink &&
            !(S_ISDIR(s.st_mode) && (s.st_nlink == 1 || t.st_nlink == 1)))
                differ(a, "%lu and %lu links", (unsigned long)s.st_nlink,
                       (unsigned long)t.st_nlink);
        if ((S_ISCHR(s.st_mode) || S_ISBLK(s.st_mode)) && s.st_rdev != t.st_rdev)
                differ(a, "device %lx and %lx", (long)s.st_rdev, (long)t.st_rdev);
        if (!S_ISDIR(s.st_mode) && s.st_size != t.st_size)
                differ(a, "%ld and %ld bytes", (long)s.st_size, (long)t.st_size);
        if (!S_ISDIR(s.st_mode) && s.st_nlink > 1)
                compare_links(a, s.st_ino, t.st_ino);
        if (S_ISLNK(s.st_mode) &&
            (readlink(a, x, sizeof(x)) != s.st_size || readlink(b, y, sizeof(y)) != s.st_size ||
             memcmp(x, y, (size_t)s.st_size) != 0))
                differ(a, "link text");
        has_all(a, b);
        has_all(b, a);
        if (S_ISREG(s.st_mode))
                compare_content(a, b);
        if (S_ISDIR(s.st_mode))
                compare_dir(a, b);
}

int main(int argc, char **argv)
{
        if (argc != 3)
                return 2;
        compare(argv[1], argv[2]);
        free(pairs);
        return 0;
}
