/* The resolver of image references, list and rm. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "config/layout.h"
#include "image/image.h"

#define A "aaaaaaaaaaaa1111111111111111111111111111111111111111111111111111"
#define B "aaaaaaaaaaaa2222222222222222222222222222222222222222222222222222"
#define C "cccccccccccc3333333333333333333333333333333333333333333333333333"

struct world {
        char dir[32];
        struct config config;
        struct meta *meta;
};

static void put(struct world *w, const char *kind, const char *ref, const char *hex)
{
        IMAGE_RECORD struct image_record r = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_STRV struct cc_strv pins = { 0 };
        bool oci = cc_streq(kind, IMAGE_OCI);

        r.ref = xstrdup(ref);
        *(oci ? &r.manifest_digest : &r.content_sum) = xasprintf("sha256:%s", hex);
        r.size = 5;
        cc_strv_add(&pins, hex);
        assert_int_equal(meta_begin(w->meta, META_DURABLE, &err), 0);
        assert_int_equal(meta_image_put(w->meta, kind, &r, &pins, &err), 0);
        assert_int_equal(meta_commit(w->meta, &err), 0);
}

static int setup(void **state)
{
        struct world *w = xcalloc(1, sizeof(*w));
        struct meta_open_args args;
        struct cc_err err = CC_ERR_INIT;

        (void)snprintf(w->dir, sizeof(w->dir), "/tmp/cocoon-lookup-XXXXXX");
        assert_non_null(mkdtemp(w->dir));
        w->config.root_dir = xasprintf("%s/root", w->dir);
        w->config.run_dir = xasprintf("%s/run", w->dir);
        w->config.log_dir = xasprintf("%s/log", w->dir);
        args = (struct meta_open_args){ .root_dir = w->config.root_dir,
                                        .run_dir = w->config.run_dir };
        assert_int_equal(layout_create(&w->config, &err), 0);
        if (meta_open(&args, &w->meta, &err) < 0)
                fail_msg("%s", err.msg);
        put(w, IMAGE_OCI, "ubuntu:24.04", A);
        put(w, IMAGE_OCI, "mine", A);
        put(w, IMAGE_OCI, "docker.io/library/debian:latest", B);
        put(w, IMAGE_CLOUDIMG, "https://h/c.img", C);
        *state = w;
        return 0;
}

static int teardown(void **state)
{
        struct world *w = *state;

        meta_close(w->meta);
        free(w->config.root_dir);
        free(w->config.run_dir);
        free(w->config.log_dir);
        (void)cc_rm_rf(w->dir, NULL);
        free(w);
        return 0;
}

static void assert_resolves(struct world *w, const char *ref, const char *kind, const char *want)
{
        IMAGE_RECORD struct image_record r = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char k[16];

        if (image_resolve(w->meta, ref, k, &r, &err) < 0)
                fail_msg("%s: %s", ref, err.msg);
        assert_string_equal(k, kind);
        assert_string_equal(r.ref, want);
}

static void assert_miss(struct world *w, const char *ref, enum cc_class class, const char *text)
{
        IMAGE_RECORD struct image_record r = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char k[16];

        assert_int_equal(image_resolve(w->meta, ref, k, &r, &err), -(int)class);
        if (!strstr(err.msg, text))
                fail_msg("%s", err.msg);
}

static void test_resolve(void **state)
{
        struct world *w = *state;

        assert_resolves(w, "ubuntu:24.04", IMAGE_OCI, "ubuntu:24.04");
        assert_resolves(w, "docker.io/library/ubuntu:24.04", IMAGE_OCI, "ubuntu:24.04");
        assert_resolves(w, "debian", IMAGE_OCI, "docker.io/library/debian:latest");
        assert_resolves(w, "https://h/c.img", IMAGE_CLOUDIMG, "https://h/c.img");
        assert_resolves(w, "sha256:" B, IMAGE_OCI, "docker.io/library/debian:latest");
        assert_resolves(w, "aaaaaaaaaaaa2", IMAGE_OCI, "docker.io/library/debian:latest");
        assert_resolves(w, "cccccccccccc", IMAGE_CLOUDIMG, "https://h/c.img");
}

static void test_misses(void **state)
{
        struct world *w = *state;
        IMAGE_RECORD struct image_record r = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char k[16];

        assert_miss(w, "fedora", CC_NOT_FOUND, "image \"fedora\": not found in any backend");
        assert_miss(w, "ccccccccccc", CC_NOT_FOUND, "not found in any backend");
        assert_miss(w, "aaaaaaaaaaaa", CC_AMBIGUOUS, "use a longer prefix");
        assert_true(image_resolve(w->meta, "ubuntu:24.05", k, &r, &err) < 0);
        assert_string_equal(err.code, "image_not_found");
        assert_non_null(strstr(err.hint, "ubuntu:24.04"));
        put(w, IMAGE_CLOUDIMG, "mine", C);
        assert_miss(w, "mine", CC_AMBIGUOUS,
                    "image ref resolves to multiple backends (backends: oci, cloudimg)");
}

static void test_rm(void **state)
{
        struct world *w = *state;
        static const char *const bad[] = { "debian", "fedora" };
        static const char *const by_digest[] = { "sha256:" A, "mine" };
        static const char *const by_name[] = { "debian" };
        CC_STRV struct cc_strv removed = { 0 };
        struct record_array list = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(image_rm(w->meta, bad, 2, false, &removed, &err), -CC_NOT_FOUND);
        assert_resolves(w, "debian", IMAGE_OCI, "docker.io/library/debian:latest");
        assert_int_equal(image_rm(w->meta, by_digest, 2, true, &removed, &err), 0);
        assert_int_equal(removed.len, 2);
        assert_resolves(w, "debian", IMAGE_OCI, "docker.io/library/debian:latest");
        assert_int_equal(image_rm(w->meta, by_digest, 2, false, &removed, &err), 0);
        assert_int_equal(removed.len, 2);
        assert_miss(w, "ubuntu:24.04", CC_NOT_FOUND, "not found");
        assert_int_equal(image_rm(w->meta, by_name, 1, false, &removed, &err), 0);
        assert_int_equal(removed.len, 1);
        assert_int_equal(image_list(w->meta, &list, &err), 0);
        assert_int_equal(list.len, 1);
        assert_string_equal(((struct image_view *)list.v)->type, "cloudimg");
        record_clear(&image_view_type, list.v);
        free(list.v);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_resolve, setup, teardown),
                cmocka_unit_test_setup_teardown(test_misses, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rm, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
