/* Publishing under injected failures, bounded reads, removal, sparse copies. */
#include "base/fs.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "unit.h"

/* The N-th call to the chosen entry fails with `sys`; earlier and later ones are real. */
static struct {
        int countdown;
        int sys;
} fault;

static bool hit(void)
{
        if (fault.countdown <= 0 || --fault.countdown)
                return false;
        errno = fault.sys;
        return true;
}

static int bad_openat(int dir, const char *path, int flags, mode_t mode)
{
        return hit() ? -1 : cc_sys_real.openat(dir, path, flags, mode);
}

static ssize_t bad_write(int fd, const void *buf, size_t n)
{
        return hit() ? -1 : cc_sys_real.write(fd, buf, n);
}

static int bad_fsync(int fd)
{
        return hit() ? -1 : cc_sys_real.fsync(fd);
}

static int bad_renameat2(int a, const char *b, int c, const char *d, unsigned flags)
{
        return hit() ? -1 : cc_sys_real.renameat2(a, b, c, d, flags);
}

static ssize_t short_write(int fd, const void *buf, size_t n)
{
        if (hit())
                return -1;
        return cc_sys_real.write(fd, buf, n > 3 ? 3 : n);
}

static ssize_t zero_write(int fd, const void *buf, size_t n)
{
        return 0;
}

static size_t entries(const char *dir)
{
        CC_DIR DIR *d = opendir(dir);
        size_t n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        return n - 2;
}

static void assert_content(const char *path, const char *want)
{
        CC_FREE char *got = NULL;
        size_t len;
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_read_file(path, 1 << 20, &got, &len, &err));
        assert_int_equal(len, strlen(want));
        assert_string_equal(got, want);
}

static void test_publish(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "f");
        struct cc_err err = CC_ERR_INIT;
        struct stat st;

        assert_ok(cc_publish(path, "one", 3, 0640, &err));
        assert_content(path, "one");
        assert_ok(cc_publish(path, "second", 6, 0600, &err));
        assert_content(path, "second");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(entries(*state), 1);
        assert_int_equal(err.class, CC_OK);
}

static void test_publish_failures(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "f");
        static const struct {
                const char *what;
                size_t offset;
                void *replacement;
                int nth;
                int sys;
                enum cc_class class;
        } rows[] = {
                { "open", offsetof(struct cc_sys, openat), bad_openat, 1, EMFILE, CC_IO },
                { "write", offsetof(struct cc_sys, write), bad_write, 1, ENOSPC, CC_NO_SPACE },
                { "2nd write", offsetof(struct cc_sys, write), short_write, 2, EDQUOT,
                  CC_NO_SPACE },
                { "fsync", offsetof(struct cc_sys, fsync), bad_fsync, 1, EIO, CC_IO },
                { "rename", offsetof(struct cc_sys, renameat2), bad_renameat2, 1, EACCES,
                  CC_DENIED },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct cc_err err = CC_ERR_INIT;
                int r;

                assert_ok(cc_publish(path, "before", 6, 0600, &err));
                memcpy((char *)&cc_sys + rows[i].offset, &rows[i].replacement, sizeof(void *));
                fault.countdown = rows[i].nth;
                fault.sys = rows[i].sys;
                r = cc_publish(path, "after", 5, 0600, &err);
                cc_sys = cc_sys_real;
                if (r != -(int)rows[i].class || fault.countdown)
                        fail_msg("%s: class %d, %d calls left", rows[i].what, r, fault.countdown);
                assert_int_equal(err.sys, rows[i].sys);
                assert_content(path, "before");
                assert_int_equal(entries(*state), 1);
        }
}

/* The same for other processes, and no sync is waited for. */
static void test_replace(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "f");
        struct cc_err err = CC_ERR_INIT;

        cc_sys.fsync = bad_fsync;
        fault.countdown = 1;
        fault.sys = EIO;
        assert_ok(cc_replace(path, "one", 3, 0640, &err));
        assert_ok(cc_replace(path, "second", 6, 0600, &err));
        assert_int_equal(fault.countdown, 1);
        cc_sys.renameat2 = bad_renameat2;
        fault.sys = EACCES;
        assert_int_equal(cc_replace(path, "third", 5, 0600, &err), -CC_DENIED);
        cc_sys = cc_sys_real;
        assert_content(path, "second");
        assert_int_equal(entries(*state), 1);
}

static void test_publish_directory_sync(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "f");
        struct cc_err err = CC_ERR_INIT;

        cc_sys.fsync = bad_fsync;
        fault.countdown = 2;
        fault.sys = EIO;
        assert_int_equal(cc_publish(path, "x", 1, 0600, &err), -CC_IO);
        fault.countdown = 2;
        fault.sys = EINVAL; /* a file system without directory sync */
        err = (struct cc_err)CC_ERR_INIT;
        assert_ok(cc_publish(path, "y", 1, 0600, &err));
        cc_sys = cc_sys_real;
        assert_content(path, "y");
        assert_int_equal(entries(*state), 1);
}

static void test_publish_file(void **state)
{
        CC_FREE char *from = cc_path_join(*state, "from");
        CC_FREE char *to = cc_path_join(*state, "to");
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(from, "1", 1, 0600, &err));
        assert_ok(cc_publish_file(from, to, true, &err));
        assert_false(cc_exists(from));
        assert_ok(cc_publish(from, "2", 1, 0600, &err));
        assert_int_equal(cc_publish_file(from, to, true, &err), -CC_CONFLICT);
        assert_content(to, "1");
        assert_true(cc_exists(from));
        err = (struct cc_err)CC_ERR_INIT;
        assert_ok(cc_publish_file(from, to, false, &err));
        assert_content(to, "2");
        assert_int_equal(cc_publish_file(from, to, false, &err), -CC_NOT_FOUND);
}

static void test_write_all_survives(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "f");
        struct cc_err err = CC_ERR_INIT;

        cc_sys.write = short_write;
        fault.countdown = 2;
        fault.sys = EINTR;
        assert_ok(cc_publish(path, "0123456789", 10, 0600, &err));
        cc_sys = cc_sys_real;
        assert_content(path, "0123456789");
        cc_sys.write = zero_write; /* a device that takes nothing must not hang us */
        assert_int_equal(cc_publish(path, "x", 1, 0600, &err), -CC_IO);
        cc_sys = cc_sys_real;
}

static void test_read_file(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "f");
        CC_FREE char *big = xmalloc(100000);
        CC_FREE char *got = NULL;
        struct cc_err err = CC_ERR_INIT;
        size_t len = 0;

        memset(big, 'x', 100000);
        assert_ok(cc_publish(path, big, 100000, 0600, &err));
        assert_ok(cc_read_file(path, 100000, &got, &len, &err));
        assert_int_equal(len, 100000);
        assert_memory_equal(got, big, len);
        assert_int_equal(got[len], 0);
        assert_string_equal(got + len - 1, "x");
        len = 7;
        {
                CC_FREE char *untouched = NULL;

                assert_int_equal(cc_read_file(path, 99999, &untouched, &len, &err), -CC_INVALID);
                assert_null(untouched);
                assert_int_equal(len, 7);
                assert_int_equal(cc_read_file(*state, 10, &untouched, &len, &err), -CC_IO);
        }
}

static void test_pread_all(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "f");
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int fd = -1;
        char buf[4];

        assert_ok(cc_publish(path, "abcdef", 6, 0600, &err));
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_ok(cc_pread_all(fd, buf, 4, 2, &err));
        assert_memory_equal(buf, "cdef", 4);
        assert_int_equal(cc_pread_all(fd, buf, 4, 3, &err), -CC_CORRUPT);
}

static void test_mkdir_p(void **state)
{
        CC_FREE char *deep = cc_path_join(*state, "a//b/c/");
        CC_FREE char *file = cc_path_join(*state, "f");
        CC_FREE char *under = cc_path_join(*state, "f/x");
        struct cc_err err = CC_ERR_INIT;
        struct stat st;

        assert_ok(cc_mkdir_p(deep, 0750, &err));
        assert_ok(cc_mkdir_p(deep, 0700, &err));
        assert_int_equal(stat(deep, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0750);
        assert_ok(cc_mkdir_p("/", 0700, &err));
        assert_ok(cc_publish(file, "", 0, 0600, &err));
        assert_true(cc_mkdir_p(file, 0700, &err) < 0);
        assert_true(cc_mkdir_p(under, 0700, &err) < 0);
        assert_int_equal(cc_mkdir_p("", 0700, &err), -CC_NOT_FOUND);
}

static void test_rm_rf(void **state)
{
        CC_FREE char *tree = cc_path_join(*state, "tree");
        CC_FREE char *deep = cc_path_join(tree, "a/b/c");
        CC_FREE char *kept = cc_path_join(*state, "kept");
        CC_FREE char *inside = cc_path_join(kept, "f");
        CC_FREE char *link = cc_path_join(tree, "a/link");
        CC_FREE char *dangling = cc_path_join(tree, "dangling");
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_mkdir_p(deep, 0700, &err));
        assert_ok(cc_mkdir_p(kept, 0700, &err));
        assert_ok(cc_publish(inside, "x", 1, 0600, &err));
        assert_int_equal(symlink(kept, link), 0);
        assert_int_equal(symlink("nowhere", dangling), 0);
        for (int i = 0; i < 500; i++) {
                CC_FREE char *f = xasprintf("%s/%d", deep, i);

                assert_int_equal(mknod(f, S_IFREG | 0600, 0), 0);
        }
        assert_ok(cc_rm_rf(tree, &err));
        assert_false(cc_exists(tree));
        assert_content(inside, "x");
        assert_ok(cc_rm_rf(tree, &err)); /* absent */
        assert_int_equal(symlink(kept, tree), 0);
        assert_ok(cc_rm_rf(tree, &err)); /* a link goes, its target stays */
        assert_content(inside, "x");
        assert_ok(cc_unlink(tree, &err));
}

/* In a private mount namespace: a bind mount of the same file system must stop the removal. */
static void test_rm_rf_stops_at_mounts(void **state)
{
        CC_FREE char *tree = cc_path_join(*state, "tree/mnt");
        CC_FREE char *top = cc_path_join(*state, "tree");
        CC_FREE char *other = cc_path_join(*state, "other");
        CC_FREE char *precious = cc_path_join(other, "precious");
        struct cc_err err = CC_ERR_INIT;
        int status;
        pid_t pid;

        assert_ok(cc_mkdir_p(tree, 0700, &err));
        assert_ok(cc_mkdir_p(other, 0700, &err));
        assert_ok(cc_publish(precious, "x", 1, 0600, &err));
        pid = fork();
        if (pid == 0) {
                int r;

                /* In a chroot "/" is no mount point; there the unmount below has to do. */
                if (unshare(CLONE_NEWNS) < 0 ||
                    (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 && errno != EINVAL) ||
                    mount(other, tree, NULL, MS_BIND, NULL) < 0)
                        _exit(77);
                r = cc_rm_rf(top, NULL);
                (void)umount(tree);
                _exit(r == -CC_BUSY ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip_because("needs the right to mount");
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_true(cc_exists(precious));
}

static void test_valid_file(void **state)
{
        CC_FREE char *f = cc_path_join(*state, "f");
        CC_FREE char *l = cc_path_join(*state, "l");
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(f, "", 0, 0600, &err));
        assert_false(cc_is_valid_file(f));
        assert_ok(cc_publish(f, "x", 1, 0600, &err));
        assert_true(cc_is_valid_file(f));
        assert_int_equal(symlink(f, l), 0);
        assert_false(cc_is_valid_file(l));
        assert_false(cc_is_valid_file(*state));
}

static void test_find_program(void **state)
{
        CC_FREE char *sh = cc_find_program("sh");
        CC_FREE char *tool = cc_path_join(*state, "tool");
        CC_FREE char *found = NULL;
        CC_FREE char *fallback = NULL;
        CC_FREE char *old = xstrdup0(getenv("PATH"));
        struct cc_err err = CC_ERR_INIT;

        assert_non_null(sh);
        assert_ok(cc_publish(tool, "x", 1, 0600, &err));
        assert_null(cc_find_program(tool));   /* not executable */
        assert_null(cc_find_program(*state)); /* a directory */
        assert_null(cc_find_program(""));
        assert_int_equal(chmod(tool, 0700), 0);
        setenv("PATH", *state, 1);
        found = cc_find_program("tool");
        assert_string_equal(found, tool);
        setenv("PATH", ":", 1);
        fallback = cc_find_program("sh"); /* the standard places are always searched */
        assert_non_null(fallback);
        setenv("PATH", old, 1);
}

static void test_basename(void **state)
{
        assert_string_equal(cc_basename("/a/b"), "b");
        assert_string_equal(cc_basename("b"), "b");
        assert_string_equal(cc_basename("a/"), "");
}

static void test_copy_sparse(void **state)
{
        CC_FREE char *a = cc_path_join(*state, "a");
        CC_FREE char *b = cc_path_join(*state, "b");
        CC_CLOSE int from = open(a, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CC_CLOSE int to = open(b, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct cc_err err = CC_ERR_INIT;
        static char junk[1 << 16];
        char buf[4096];
        struct stat st;

        memset(junk, 'J', sizeof(junk));
        /* The target held something else, and more of it. */
        for (int i = 0; i < 1100; i++)
                assert_ok(cc_write_all(to, junk, sizeof(junk), &err));
        assert_int_equal(pwrite(from, "head", 4, 0), 4);
        assert_int_equal(pwrite(from, "middle", 6, 33 << 20), 6);
        assert_int_equal(ftruncate(from, 64 << 20), 0);
        assert_ok(cc_copy_sparse(from, to, &err));
        assert_int_equal(fstat(to, &st), 0);
        assert_int_equal(st.st_size, 64 << 20);
        assert_true(st.st_blocks * 512 < 4 << 20);
        assert_ok(cc_pread_all(to, buf, sizeof(buf), 0, &err));
        assert_memory_equal(buf, "head\0\0\0\0", 8);
        assert_ok(cc_pread_all(to, buf, sizeof(buf), 33 << 20, &err));
        assert_memory_equal(buf, "middle\0\0", 8);
        assert_ok(cc_pread_all(to, buf, sizeof(buf), (64 << 20) - 4096, &err));
        assert_int_equal(buf[0] | buf[4095], 0);

        /* Only a hole, and nothing at all. */
        assert_int_equal(ftruncate(from, 0), 0);
        assert_int_equal(ftruncate(from, 1 << 20), 0);
        assert_ok(cc_copy_sparse(from, to, &err));
        assert_int_equal(fstat(to, &st), 0);
        assert_int_equal(st.st_size, 1 << 20);
        assert_int_equal(ftruncate(from, 0), 0);
        assert_ok(cc_copy_sparse(from, to, &err));
        assert_int_equal(fstat(to, &st), 0);
        assert_int_equal(st.st_size, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_publish),
                scratch_test(test_publish_failures),
                scratch_test(test_replace),
                scratch_test(test_publish_directory_sync),
                scratch_test(test_publish_file),
                scratch_test(test_write_all_survives),
                scratch_test(test_read_file),
                scratch_test(test_pread_all),
                scratch_test(test_mkdir_p),
                scratch_test(test_rm_rf),
                scratch_test(test_rm_rf_stops_at_mounts),
                scratch_test(test_valid_file),
                scratch_test(test_find_program),
                scratch_test(test_basename),
                scratch_test(test_copy_sparse),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
