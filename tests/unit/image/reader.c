/* The reader: images of other builders, and images with damage, which must end in an error or a
 * tree, never in a crash or a hang. */
#include "layers.h"

#include <sys/wait.h>
#include <unistd.h>

static const char sample[] =
        "d etc 755; f etc/passwd root; h etc/shadow etc/passwd; l lib usr/lib; "
        "d usr 755; d usr/lib 755; f usr/lib/so text; c null; w etc gone; "
        "o usr/lib; d a 755; d a/b 755; d a/b/c 755; f a/b/c/d deep";

static char *slurp(int fd, size_t *ret)
{
        struct cc_err err = CC_ERR_INIT;
        struct stat st;
        char *p;

        assert_int_equal(fstat(fd, &st), 0);
        p = xmalloc((size_t)st.st_size);
        assert_ok(cc_pread_all(fd, p, (size_t)st.st_size, 0, &err));
        *ret = (size_t)st.st_size;
        return p;
}

static int spill(const void *data, size_t n)
{
        struct cc_err err = CC_ERR_INIT;
        int fd = memfd_create("image", MFD_CLOEXEC);

        assert_ok(cc_write_all(fd, data, n, &err));
        return fd;
}

/* Bytes of the image replaced; the check must say this. The superblock is given a right checksum
 * by switching checksums off. */
static void damaged(const char *image, size_t n, size_t at, const void *bytes, size_t len,
                    const char *want)
{
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *copy = xmalloc(n);
        CC_CLOSE int fd = -1;
        int r;

        memcpy(copy, image, n);
        memset(copy + EROFS_SB_OFFSET + SB_COMPAT, 0, 1);
        memcpy(copy + at, bytes, len);
        fd = spill(copy, n);
        r = erofs_reader_check(fd, "image", &err);
        if (r >= 0 || !strstr(err.msg, want))
                fail_msg("at %zu: %d \"%s\" instead of \"%s\"", at, r, r < 0 ? err.msg : "", want);
}

static struct erofs_inode find(int fd, const char *name)
{
        struct cc_err err = CC_ERR_INIT;
        struct erofs_reader r;
        struct erofs_inode inode;
        uint64_t nid;

        assert_ok(erofs_reader_init(fd, "image", &r, &err));
        assert_ok(erofs_inode_get(&r, r.root, &inode, &err));
        if (!*name)
                return inode;
        assert_int_equal(erofs_lookup(&r, &inode, name, strlen(name), &nid, &err), 1);
        assert_ok(erofs_inode_get(&r, nid, &inode, &err));
        return inode;
}

#define SB(field) (EROFS_SB_OFFSET + (field))

static void test_named_damage(void **state)
{
        CC_CLOSE int fd = layer_make(sample);
        size_t n;
        CC_FREE char *image = slurp(fd, &n);
        struct cc_err err = CC_ERR_INIT;
        struct erofs_reader r;
        struct erofs_inode inode;
        size_t at;

        assert_ok(erofs_reader_init(fd, "image", &r, &err));
        damaged(image, n, SB(SB_MAGIC), "x", 1, "not an EROFS");
        damaged(image, n, SB(SB_COMPAT), "\1", 1, "checksum");
        damaged(image, n, SB(SB_BLKSZBITS), "\x09", 1, "blocks are not of");
        damaged(image, n, SB(SB_INCOMPAT) + 1, "\1", 1, "unknown features");
        damaged(image, n, SB(SB_BLOCKS), "\xff\xff", 2, "cut short");
        damaged(image, n, SB(SB_META_BLKADDR), "\xff\xff\xff\xff", 4, "outside");
        damaged(image, n, SB(SB_INOS), "\1\0", 2, "number of inodes");

        inode = find(fd, "");
        at = (size_t)(r.meta + inode.nid * EROFS_SLOT);
        damaged(image, n, at + IN_MODE, "\xed\x81", 2, "root is not a directory");
        damaged(image, n, at + IN_NLINK, "\x09", 1, "link count of a directory");
        damaged(image, n, at + IN_SIZE + 4, "\1", 1, "outside");
        damaged(image, n, (size_t)inode.tail + 8, "\x0d", 1, "damaged directory");
        damaged(image, n, (size_t)inode.tail + 9, "\xff", 1, "damaged directory");
        /* "." and ".." sort first here. */
        damaged(image, n, (size_t)inode.tail, "\7", 1, "wrong \".\"");
        damaged(image, n, (size_t)inode.tail + 12, "\7", 1, "\"..\"");
        damaged(image, n, (size_t)inode.tail + 24, "\xff\xff\xff\xff", 4, "outside");
        damaged(image, n, (size_t)inode.tail + 24 + 10, "\1", 1, "another type");

        inode = find(fd, "etc");
        at = (size_t)(r.meta + inode.nid * EROFS_SLOT);
        damaged(image, n, at + IN_MTIME_NSEC + 3, "\xff", 1, "impossible time");
        damaged(image, n, at + IN_XATTR_ICOUNT, "\xff\xff", 2, "");
        damaged(image, n, (size_t)inode.xattrs + EROFS_XATTR_HEADER, "\xff", 1,
                "damaged extended attributes");
        damaged(image, n, (size_t)inode.xattrs + EROFS_XATTR_HEADER + 1, "\x0f", 1, "unknown kind");

        inode = find(fd, "lib");
        at = (size_t)(r.meta + inode.nid * EROFS_SLOT);
        damaged(image, n, at + IN_FORMAT, "\7", 1, "compressed");
        damaged(image, n, (size_t)inode.tail, "\0", 1, "NUL");
        damaged(image, n, at + IN_SIZE, "\0", 1, "symbolic link");
}

/* Directory entries that lead in circles: the check ends. */
static void test_cycles(void **state)
{
        CC_CLOSE int fd = layer_make("d a 755; d a/b 755; d a/c 755");
        size_t n;
        CC_FREE char *image = slurp(fd, &n);
        struct erofs_inode root = find(fd, "");
        struct erofs_inode a = find(fd, "a");
        uint8_t nid[8];

        /* a/b is the root; the root's "a" is the root; a/b is a; a/c is a/b. */
        put64(nid, root.nid);
        damaged(image, n, (size_t)a.tail + 24, nid, 8, "\"..\"");
        damaged(image, n, (size_t)root.tail + 24, nid, 8, "more names than bytes");
        put64(nid, a.nid);
        damaged(image, n, (size_t)a.tail + 24, nid, 8, "\"..\"");
        memcpy(nid, image + a.tail + 24, 8);
        damaged(image, n, (size_t)a.tail + 36, nid, 8, "two names");
}

/* Nothing that walks may crash on any image; what the check accepts must flatten too. */
static void exercise(int fd)
{
        struct cc_err err = CC_ERR_INIT;
        struct erofs_reader r[2];
        CC_CLOSE int out = memfd_create("flat", MFD_CLOEXEC);
        EROFS_WRITER struct erofs_writer *w = NULL;
        struct erofs_stats stats;
        bool good = erofs_reader_check(fd, "image", &err) == 0;
        int e;

        if (erofs_reader_init(fd, "image", &r[0], NULL) < 0)
                return;
        r[1] = r[0];
        w = layer_open(out);
        e = erofs_flatten(r, 2, w, "/tmp", NULL, NULL, &err);
        if (e == 0)
                e = erofs_writer_finish(w, test_uuid, &stats, &err);
        if (e == 0) {
                assert_ok(erofs_reader_check(out, "flat", &err));
        } else if (good && e != -CC_INVALID && e != -CC_UNSUPPORTED) {
                fail_msg("%d: %s", e, err.msg);
        }
}

static void test_bit_flips(void **state)
{
        CC_CLOSE int fd = layer_make(sample);
        size_t n;
        CC_FREE char *image = slurp(fd, &n);
        struct cc_err err = CC_ERR_INIT;
        struct erofs_reader r;
        unsigned accepted = 0;
        unsigned flips = 0;

        assert_ok(erofs_reader_init(fd, "image", &r, &err));
        image[SB(SB_COMPAT)] = 0;
        for (size_t at = SB(0); at < n; at++) {
                if (at == SB(EROFS_SB_SIZE))
                        at = (size_t)(r.meta < r.xattrs ? r.meta : r.xattrs);
                /* Zeros between inodes do not matter. */
                if (at >= r.meta && at % 64 == 0 && at + 64 <= n) {
                        static const char zeros[64];

                        if (memcmp(image + at, zeros, 64) == 0) {
                                at += 63;
                                continue;
                        }
                }
                for (int bit = 0; bit < 8; bit += 3) {
                        CC_CLOSE int damaged_fd = -1;

                        image[at] ^= (char)(1 << bit);
                        damaged_fd = spill(image, n);
                        image[at] ^= (char)(1 << bit);
                        flips++;
                        accepted += erofs_reader_check(damaged_fd, "image", &err) == 0;
                        if (flips % 4 == 0)
                                exercise(damaged_fd);
                }
        }
        /* Both kinds were there: damage to structure, and to what is free to change. */
        assert_true(flips > 2000);
        assert_true(accepted > flips / 20 && accepted < flips * 9 / 10);
}

static void test_truncation(void **state)
{
        CC_CLOSE int fd = layer_make(sample);
        size_t n;
        CC_FREE char *image = slurp(fd, &n);

        for (size_t len = 0; len < n; len += 509) {
                struct cc_err err = CC_ERR_INIT;
                CC_CLOSE int cut = spill(image, len);

                assert_int_equal(erofs_reader_check(cut, "image", &err), -CC_CORRUPT);
        }
}

static void run(const char *const *argv)
{
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                int null = open("/dev/null", O_RDWR | O_CLOEXEC);

                (void)dup2(null, 1);
                (void)dup2(null, 2);
                execvp(argv[0], (char **)argv);
                _exit(127);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
                skip_because("needs %s", argv[0]);
        assert_int_equal(status, 0);
}

/* mkfs.erofs writes compact inodes and its own order of things; with -zlz4 it compresses. */
static void test_other_builder(void **state)
{
        CC_FREE char *dir = cc_path_join(*state, "tree");
        CC_FREE char *plain = cc_path_join(*state, "plain");
        CC_FREE char *packed = cc_path_join(*state, "packed");
        CC_FREE char *made = xasprintf("mkdir -p %1$s/d/e && echo text >%1$s/d/f && "
                                       "ln %1$s/d/f %1$s/d/g && ln -s d/f %1$s/l && "
                                       "seq 20000 >%1$s/big && for i in $(seq 600); do "
                                       ": >%1$s/d/e/$i; done",
                                       dir);
        struct cc_err err = CC_ERR_INIT;
        struct erofs_reader r;
        struct erofs_inode inode;
        CC_CLOSE int fd = -1;
        CC_CLOSE int zfd = -1;
        char start[9] = "";

        run((const char *[]){ "sh", "-c", made, NULL });
        run((const char *[]){ "mkfs.erofs", "-T0", plain, dir, NULL });
        run((const char *[]){ "mkfs.erofs", "-T0", "-zlz4", packed, dir, NULL });
        fd = open(plain, O_RDONLY | O_CLOEXEC);
        assert_ok(erofs_reader_check(fd, "plain", &err));
        assert_ok(erofs_reader_init(fd, "plain", &r, &err));
        inode = find(fd, "big");
        assert_ok(erofs_read(&r, &inode, 0, start, 8, &err));
        assert_string_equal(start, "1\n2\n3\n4\n");
        exercise(fd);
        zfd = open(packed, O_RDONLY | O_CLOEXEC);
        assert_ok(erofs_reader_init(zfd, "packed", &r, &err));
        inode = find(zfd, "big");
        assert_int_equal(erofs_read(&r, &inode, 0, start, 8, &err), -CC_UNSUPPORTED);
        exercise(zfd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_named_damage), cmocka_unit_test(test_cycles),
                cmocka_unit_test(test_bit_flips),    cmocka_unit_test(test_truncation),
                scratch_test(test_other_builder),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
