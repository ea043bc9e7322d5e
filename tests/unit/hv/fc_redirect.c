/* Redirections of a clone's disks: what may be covered, the stand-ins for a source that is gone. */
#include "hv/fc/redirect.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "unit.h"

struct fixture {
        char *root, *vms, *source, *clone;
        char *from[2], *to[2];
        struct hv_disk old[2], new[2];
};

static void make_file(const char *path, const char *text)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, text, strlen(text), 0600, &err));
}

static int setup(void **state)
{
        static const char *const names[] = { "cow.raw", "data-db.raw" };
        char template[] = "/tmp/cocoon-redirect-XXXXXX";
        struct fixture *f = xcalloc(1, sizeof(*f));

        f->root = xstrdup(mkdtemp(template));
        f->vms = cc_path_join(f->root, "vms");
        f->source = cc_path_join(f->vms, "SOURCE");
        f->clone = cc_path_join(f->vms, "CLONE");
        assert_int_equal(mkdir(f->vms, 0750), 0);
        assert_int_equal(mkdir(f->clone, 0750), 0);
        for (size_t i = 0; i < 2; i++) {
                f->from[i] = cc_path_join(f->source, names[i]);
                f->to[i] = cc_path_join(f->clone, names[i]);
                make_file(f->to[i], "clone");
                f->old[i] = (struct hv_disk){ .path = f->from[i], .format = "raw" };
                f->new[i] = (struct hv_disk){ .path = f->to[i], .format = "raw" };
        }
        *state = f;
        return 0;
}

static void make_source(const struct fixture *f)
{
        assert_int_equal(mkdir(f->source, 0750), 0);
        make_file(f->from[0], "source");
        make_file(f->from[1], "source");
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        int r = cc_rm_rf(f->root, NULL);

        for (size_t i = 0; i < 2; i++) {
                free(f->from[i]);
                free(f->to[i]);
        }
        free(f->root);
        free(f->vms);
        free(f->source);
        free(f->clone);
        free(f);
        return r;
}

static void refuse(const struct fixture *f, int class, const char *text)
{
        FC_REDIRECT struct fc_redirect r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(fc_redirect_make(f->vms, f->old, f->new, 2, &r, &err), -class);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        assert_null(r.binds);
}

static void over_a_source_that_lives(void **state)
{
        struct fixture *f = *state;
        FC_REDIRECT struct fc_redirect r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        make_source(f);
        assert_ok(fc_redirect_make(f->vms, f->old, f->new, 2, &r, &err));
        assert_int_equal(r.n, 2);
        assert_string_equal(r.binds[1].from, f->to[1]);
        assert_string_equal(r.binds[1].to, f->from[1]);
        assert_int_equal(r.n_stands, 0);
        fc_redirect_clear(&r);
        assert_true(cc_is_valid_file(f->from[0])); /* never ours to remove */
        /* The same VM: nothing to do. */
        assert_ok(fc_redirect_make(f->vms, f->old, f->old, 2, &r, &err));
        assert_int_equal(r.n, 0);
}

static void stand_ins_come_and_go(void **state)
{
        struct fixture *f = *state;
        struct fc_redirect a = { 0 };
        struct fc_redirect b = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct stat st;

        assert_ok(fc_redirect_make(f->vms, f->old, f->new, 2, &a, &err));
        assert_int_equal(a.n_stands, 1);
        assert_int_equal(stat(f->source, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0750);
        assert_int_equal(stat(f->from[0], &st), 0);
        assert_int_equal(st.st_size, 0);
        /* A sibling depends on them, too. */
        assert_ok(fc_redirect_make(f->vms, f->old, f->new, 2, &b, &err));
        fc_redirect_clear(&a);
        assert_true(cc_exists(f->from[0]));
        assert_true(cc_exists(f->from[1]));
        fc_redirect_clear(&b);
        assert_false(cc_exists(f->source));
        /* What a killed load left is used, and goes with the next. */
        assert_int_equal(mkdir(f->source, 0750), 0);
        make_file(f->from[1], "");
        assert_ok(fc_redirect_make(f->vms, f->old, f->new, 2, &a, &err));
        fc_redirect_clear(&a);
        assert_false(cc_exists(f->source));
}

/* A disk that a VM lost must not come back empty. */
static void no_stand_in_for_a_vm(void **state)
{
        struct fixture *f = *state;

        make_source(f);
        assert_int_equal(unlink(f->from[1]), 0);
        refuse(f, CC_CORRUPT, "has no data-db.raw");
        assert_false(cc_exists(f->from[1]));
        assert_true(cc_is_valid_file(f->from[0]));
}

static void what_cannot_be_covered(void **state)
{
        struct fixture *f = *state;
        char *keep = f->from[1];
        CC_FREE char *outside = cc_path_join(f->root, "disk.raw");
        CC_FREE char *deep = xasprintf("%s/a/b/c.raw", f->vms);
        CC_FREE char *dots = xasprintf("%s/../x/c.raw", f->vms);
        const char *const bad[] = { outside, deep, dots, "/etc/cocoon-nothing/disk.raw", f->vms };

        make_source(f);
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                f->old[1].path = bad[i];
                refuse(f, CC_INVALID, "unusable source");
        }
        assert_false(cc_exists(outside));
        /* A link, a directory: not followed. */
        f->old[1].path = keep;
        assert_int_equal(unlink(keep), 0);
        assert_int_equal(symlink("/etc/passwd", keep), 0);
        refuse(f, CC_INVALID, "not a regular file");
        assert_int_equal(unlink(keep), 0);
        assert_int_equal(mkdir(keep, 0700), 0);
        refuse(f, CC_INVALID, "not a regular file");
        /* Twice the same, at either end. */
        f->old[1].path = f->from[0];
        refuse(f, CC_INVALID, "twice");
        assert_int_equal(rmdir(keep), 0);
        make_file(keep, "source");
        f->old[1].path = keep;
        f->new[1].path = f->to[0];
        refuse(f, CC_INVALID, "twice");
        /* Layers are shared: another path is another image. */
        f->new[1].path = f->to[1];
        f->old[1].ro = f->new[1].ro = true;
        refuse(f, CC_UNSUPPORTED, "shared disks cannot be redirected");
}

static void verified_by_descriptor(void **state)
{
        struct fixture *f = *state;
        FC_REDIRECT struct fc_redirect r = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int a = open(f->to[0], O_RDONLY | O_CLOEXEC);
        CC_CLOSE int b = -1;

        make_source(f);
        assert_ok(fc_redirect_make(f->vms, f->old, f->new, 2, &r, &err));
        assert_int_equal(fc_redirect_verify(&r, getpid(), &err), -CC_CONFLICT);
        assert_non_null(strstr(err.msg, "bind redirect lost during load"));
        assert_true(a >= 0);
        b = open(f->to[1], O_RDWR | O_CLOEXEC);
        assert_true(b >= 0);
        assert_ok(fc_redirect_verify(&r, getpid(), &err));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(over_a_source_that_lives), T(stand_ins_come_and_go),  T(no_stand_in_for_a_vm),
                T(what_cannot_be_covered),   T(verified_by_descriptor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
