/* The grammar of references and the names made from them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "image/image.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_normal_forms(void **state)
{
        static const struct {
                const char *ref, *want;
        } rows[] = {
                { "ubuntu", "index.docker.io/library/ubuntu:latest" },
                { "ubuntu:24.04", "index.docker.io/library/ubuntu:24.04" },
                { "docker.io/library/ubuntu:24.04", "index.docker.io/library/ubuntu:24.04" },
                { "docker.io/ubuntu", "index.docker.io/library/ubuntu:latest" },
                { "foo/bar", "index.docker.io/foo/bar:latest" },
                { "localhost/x1", "localhost/x1:latest" },
                { "localhost:5000/myimg:latest", "localhost:5000/myimg:latest" },
                { "reg.example:5000/a/b:t", "reg.example:5000/a/b:t" },
                { "[::1]:5000/a/b", "[::1]:5000/a/b:latest" },
                { "reg.example/a/b:t@sha256:" HEX, "reg.example/a/b@sha256:" HEX },
                { "x@sha256:" HEX, "index.docker.io/library/x@sha256:" HEX },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct image_name name;
                struct cc_err err = CC_ERR_INIT;
                char *text;

                if (image_name_parse(rows[i].ref, &name, &err) < 0)
                        fail_msg("%s: %s", rows[i].ref, err.msg);
                text = image_name_normalise(&name);
                assert_string_equal(text, rows[i].want);
                free(text);
                image_name_clear(&name);
        }
}

static void test_refused(void **state)
{
        static const char *const rows[] = {
                "",
                "/",
                ":tag",
                "Ubuntu",
                "a b",
                "ubuntu:",
                "ubuntu:a b",
                "ubuntu@sha256:12",
                "ubuntu@sha512:" HEX,
                "ubuntu@" HEX,
                "reg.example/",
                "reg.example:x/img",
                "reg.example:123456/img",
                "reg.example/../etc",
                "reg.example/a//b",
                "reg.example/a/./b",
                "https://reg.example/a",
                "user@reg.example/a",
                "reg.example/a?b",
                "reg.example/a%2fb",
        };
        char tag[200] = "ubuntu:";

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct image_name name = { 0 };
                struct cc_err err = CC_ERR_INIT;

                if (image_name_parse(rows[i], &name, &err) == 0)
                        fail_msg("accepted: %s", rows[i]);
                assert_int_equal(err.class, CC_INVALID);
                assert_null(name.registry);
        }
        memset(tag + 7, 't', 128);
        assert_true(image_name_parse(tag, &(struct image_name){ 0 }, NULL) < 0);
}

static void test_vm_names(void **state)
{
        static const struct {
                const char *ref, *want;
        } rows[] = {
                { "ubuntu:24.04", "cocoon-ubuntu-24.04" },
                { "reg.example/foo/ubuntu:24.04", "cocoon-foo-ubuntu-24.04" },
                { "localhost:5000/myimg:latest", "cocoon-myimg" },
                { "x@sha256:" HEX, "cocoon-x" },
                { "https://h/a/b.img", "cocoon-https---h-a-b.img" },
                { "https://h/a?b=c", "cocoon-https---h-a-b-c" },
        };
        char *name;

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                name = image_default_vm_name(rows[i].ref);
                assert_string_equal(name, rows[i].want);
                free(name);
        }
        name = image_default_vm_name(
                "reg.example/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                "aaaaaaaaaaaaaaaaaaaaaaaaaa:t");
        assert_int_equal(strlen(name), 63);
        free(name);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_normal_forms),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_vm_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
