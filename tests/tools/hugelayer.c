/* Test tool: a layer made to need memory, as a tar on standard output. Usage: hugelayer KIND N.
 *      dir     N files in one directory, in no order
 *      tree    N files over 10,000 directories, the neighbours in a directory far apart in the tar
 *      xattr   N files with ten attributes of 2 KiB, no two alike
 *      link    N symbolic links with texts of 4 KiB
 *      deep    N files, each below 1,990 directories of its own
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out(const void *p, size_t n)
{
        static const char zeros[512];

        if (fwrite(p, 1, n, stdout) != n || fwrite(zeros, 1, -n % 512, stdout) != -n % 512) {
                perror("write");
                exit(1);
        }
}

static void header(const char *name, char type, size_t size, const char *link)
{
        char h[513] = { 0 };
        unsigned sum = 0;

        (void)strncpy(h, name, 100);
        (void)snprintf(h + 100, 8, "%07o", 0644u);
        (void)snprintf(h + 108, 8, "%07o", 0u);
        (void)snprintf(h + 116, 8, "%07o", 0u);
        (void)snprintf(h + 124, 12, "%011zo", size);
        (void)snprintf(h + 136, 12, "%011o", 1u);
        h[156] = type;
        (void)strncpy(h + 157, link, 100);
        memcpy(h + 257, "ustar\00000", 8);
        memset(h + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
                sum += (unsigned char)h[i];
        (void)snprintf(h + 148, 8, "%06o", sum);
        out(h, 512);
}

static void xattrs(unsigned long i)
{
        static char records[32768];
        char *p = records;
        char value[2001];

        for (int k = 0; k < 10; k++) {
                for (int at = 0; at < 2000; at += 20)
                        (void)snprintf(value + at, 21, "%08d-%011lu", k, i);
                /* "2026 SCHILY.xattr.user.0=<2000>\n": the length counts itself. */
                p += snprintf(p, 2100, "2026 SCHILY.xattr.user.%d=%s\n", k, value);
        }
        header("pax", 'x', (size_t)(p - records), "");
        out(records, (size_t)(p - records));
}

int main(int argc, char **argv)
{
        static const char end[1024];
        unsigned long n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
        static char text[4096];
        char name[100];

        for (unsigned long i = 0; i < n; i++) {
                if (strcmp(argv[1], "dir") == 0) {
                        (void)snprintf(name, sizeof(name), "d/%08lx", i * 2654435761u & 0xffffffff);
                        header(name, '0', 0, "");
                } else if (strcmp(argv[1], "tree") == 0) {
                        (void)snprintf(name, sizeof(name), "%lu/%lu/%lu", i % 100, i / 100 % 100,
                                       i);
                        header(name, '0', 5, "");
                        out("body", 5);
                } else if (strcmp(argv[1], "xattr") == 0) {
                        xattrs(i);
                        (void)snprintf(name, sizeof(name), "%lu/%lu", i % 100, i);
                        header(name, '0', 0, "");
                } else if (strcmp(argv[1], "link") == 0) {
                        memset(text, 'l', sizeof(text) - 1);
                        text[snprintf(text, sizeof(text), "%lu", i)] = '-';
                        header("long", 'K', sizeof(text), "");
                        out(text, sizeof(text));
                        (void)snprintf(name, sizeof(name), "%lu/%lu", i % 100, i);
                        header(name, '2', 0, "cut");
                } else if (strcmp(argv[1], "deep") == 0) {
                        size_t at = (size_t)snprintf(text, sizeof(text), "%lu/", i);

                        for (int k = 0; k < 1990; k++, at += 2)
                                memcpy(text + at, "d/", 3);
                        (void)snprintf(text + at, sizeof(text) - at, "f");
                        header("long", 'L', at + 2, "");
                        out(text, at + 2);
                        header("cut", '0', 0, "");
                } else {
                        return 2;
                }
        }
        out(end, sizeof(end));
        return argc == 3 && n && fflush(stdout) == 0 ? 0 : 2;
}
