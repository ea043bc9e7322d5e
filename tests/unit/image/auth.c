/* Challenges, token services and where a registry is reached. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "image/pull/auth.h"

static void test_challenges(void **state)
{
        CC_CLEANUP(challenge_clear) struct challenge c = { 0 };

        assert_int_equal(challenge_parse("Bearer realm=\"https://a/t\",service=\"s, x\","
                                         "scope=\"repository:a/b:pull,push\"",
                                         &c, NULL),
                         0);
        assert_true(c.bearer);
        assert_string_equal(c.realm, "https://a/t");
        assert_string_equal(c.service, "s, x");
        assert_string_equal(c.scope, "repository:a/b:pull,push");
        challenge_clear(&c);
        assert_int_equal(challenge_parse("bearer  Realm=https://a/t , foo=\"a\\\"b\"", &c, NULL),
                         0);
        assert_string_equal(c.realm, "https://a/t");
        assert_null(c.service);
        challenge_clear(&c);
        assert_int_equal(challenge_parse("Basic realm=\"x\"", &c, NULL), 0);
        assert_false(c.bearer);
        assert_int_equal(challenge_parse("Bearer service=\"x\"", &c, NULL), -CC_AUTH);
        assert_int_equal(challenge_parse("Bearer realm=\"", &c, NULL), -CC_AUTH);
        assert_int_equal(challenge_parse("Digest realm=\"x\"", &c, NULL), -CC_AUTH);
}

static void test_realms(void **state)
{
        const struct reference far = { .registry = (char[]){ "reg.example" }, .plain = false };
        const struct reference near = { .registry = (char[]){ "127.0.0.1:5000" }, .plain = true };

        assert_int_equal(auth_check_realm(&far, "https://auth.example/t", NULL), 0);
        assert_int_equal(auth_check_realm(&far, "http://auth.example/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "https://127.0.0.1/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "https://10.1.2.3:8443/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "https://169.254.169.254/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "https://[::1]/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "https://[fe80::1]/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "https://[::ffff:10.0.0.1]/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "https://good.example@10.0.0.1/t", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&far, "file:///etc/passwd", NULL), -CC_AUTH);
        assert_int_equal(auth_check_realm(&near, "http://127.0.0.1:5001/t", NULL), 0);
}

static void test_schemes(void **state)
{
        struct config config = { 0 };
        static const struct {
                const char *ref, *base;
        } rows[] = {
                { "ubuntu", "https://registry-1.docker.io" },
                { "localhost:5000/ab", "http://localhost:5000" },
                { "a.localhost/ab", "http://a.localhost" },
                { "127.0.0.1:5000/ab", "http://127.0.0.1:5000" },
                { "[::1]:5000/ab", "http://[::1]:5000" },
                { "10.0.0.1:5000/ab", "https://10.0.0.1:5000" },
                { "lab.example:5000/ab", "http://lab.example:5000" },
                { "notlocalhost.example/ab", "https://notlocalhost.example" },
        };

        cc_strv_add(&config.insecure_registries, "lab.example");
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                REFERENCE struct reference r = { 0 };

                assert_int_equal(reference_parse(&config, rows[i].ref, &r, NULL), 0);
                assert_string_equal(r.base, rows[i].base);
        }
        cc_strv_free(&config.insecure_registries);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
        struct cc_err err = CC_ERR_INIT;

        if (cc_publish(path, text, strlen(text), mode, &err) < 0)
                fail_msg("%s", err.msg);
}

static void test_credential_files_and_helpers(void **state)
{
        char dir[] = "/tmp/cocoon-auth-XXXXXX";
        CC_FREE char *config = NULL;
        CC_FREE char *helper = NULL;
        CC_FREE char *old_path = xstrdup(getenv("PATH"));
        CC_FREE char *path = NULL;
        struct credentials c;
        struct cc_err err = CC_ERR_INIT;

        assert_non_null(mkdtemp(dir));
        config = xasprintf("%s/config.json", dir);
        helper = xasprintf("%s/docker-credential-box", dir);
        path = xasprintf("%s:%s", dir, old_path);
        (void)setenv("DOCKER_CONFIG", dir, 1);
        (void)setenv("HOME", dir, 1);
        (void)setenv("PATH", path, 1);

        assert_int_equal(credentials_find("reg.example", "a/b", &c, &err), 0);
        assert_null(c.username);

        write_file(config,
                   "{\"auths\":{\"reg.example/a\":{\"auth\":\"am9lOmE6Yg==\"},"
                   "\"reg.example\":{\"username\":\"host\",\"password\":\"p\"},"
                   "\"https://index.docker.io/v1/\":{\"identitytoken\":\"idt\"},"
                   "\"bad.example\":{\"auth\":\"###\"}},"
                   "\"credHelpers\":{\"box.example\":\"box\",\"no.example\":\"box\","
                   "\"evil.example\":\"../evil\"}}",
                   0600);
        /* The host must come on standard input, not as an argument. */
        write_file(
                helper,
                "#!/bin/sh\nread host\n[ \"$1\" = get ] || exit 3\n"
                "case $host in\nbox.example) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n"
                "*) echo 'credentials not found in native keychain'; exit 1;;\nesac\n",
                0700);
        assert_int_equal(credentials_find("reg.example", "a/b", &c, &err), 0);
        assert_string_equal(c.username, "joe");
        assert_string_equal(c.password, "a:b");
        credentials_clear(&c);
        assert_int_equal(credentials_find("reg.example", "x", &c, &err), 0);
        assert_string_equal(c.username, "host");
        credentials_clear(&c);
        assert_int_equal(credentials_find("index.docker.io", "library/x", &c, &err), 0);
        assert_string_equal(c.identity_token, "idt");
        credentials_clear(&c);
        assert_int_equal(credentials_find("bad.example", "x", &c, &err), -CC_INVALID);
        assert_int_equal(credentials_find("evil.example", "x", &c, &err), -CC_INVALID);
        if (credentials_find("box.example", "x", &c, &err) < 0)
                fail_msg("%s", err.msg);
        assert_string_equal(c.identity_token, "t");
        credentials_clear(&c);
        assert_int_equal(credentials_find("no.example", "x", &c, &err), 0);
        assert_null(c.username);
        write_file(config, "{", 0600);
        assert_int_equal(credentials_find("reg.example", "x", &c, &err), -CC_INVALID);
        (void)setenv("PATH", old_path, 1);
        assert_int_equal(cc_rm_rf(dir, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_challenges),
                cmocka_unit_test(test_realms),
                cmocka_unit_test(test_schemes),
                cmocka_unit_test(test_credential_files_and_helpers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
