/* CNI network lists: files and their order, both forms, names, versions, and what is left out. */
#include "../unit.h"

#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "net/conflist.h"

static void put(const char *dir, const char *name, const char *text)
{
        CC_FREE char *path = cc_path_join(dir, name);
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, text, strlen(text), 0644, &err));
}

static const char *type(const struct conflist *c, size_t i)
{
        return json_string_value(json_object_get(json_array_get(c->plugins, i), "type"));
}

static void test_none(void **state)
{
        CONFLISTS struct conflists l = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_ok(conflists_load(*state, &l, &err));
        assert_int_equal(l.len, 0);
        assert_ok(conflists_load("/nonexistent/net.d", &l, &err));
        assert_ok(conflists_load(NULL, &l, &err));
        assert_ok(conflists_load("", &l, &err));
        assert_int_equal(l.len + l.skipped.len, 0);
        assert_int_equal(conflists_not_found(&l, "x", NULL, &err), -CC_NOT_FOUND);
        assert_string_equal(err.msg, "conflist \"x\" not found (available: none)");
}

static void test_directory(void **state)
{
        const char *dir = *state;
        CONFLISTS struct conflists l = { 0 };
        CC_FREE char *sub = cc_path_join(dir, "lan");
        struct cc_err err = CC_ERR_INIT;

        put(dir, "20-b.conflist",
            "{\"name\":\"lan\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"bridge\"}]}");
        put(dir, "10-z.conflist", "{\"name\":\"first\",\"plugins\":[{\"type\":\"ptp\",\"x\":1}]}");
        put(dir, "30-twice.conflist", "{\"name\":\"lan\",\"plugins\":[{\"type\":\"other\"}]}");
        put(dir, "05-bad.conflist", "{\"name\":\"bad\",");
        put(dir, "00-single.conf", "{\"name\":\"single\",\"type\":\"macvlan\",\"master\":\"e\"}");
        put(dir, "00-json.json", "{\"name\":\"json\",\"type\":\"loopback\"}");
        put(dir, "40-odd.conflist", "{\"name\":\"odd\",\"type\":\"bridge\",\"bridge\":\"b\"}");
        put(dir, "50-user.conflist", "{\"name\":\"user\",\"type\":\"bridge\"}");
        put(dir, ".hidden.conflist", "{\"name\":\"hidden\",\"type\":\"bridge\"}");
        put(dir, "note.txt", "no list");
        assert_int_equal(mkdir(sub, 0755), 0);
        put(sub, "2.conf", "{\"type\":\"firewall\"}");
        put(sub, "1.conf", "{\"type\":\"portmap\"}");
        put(sub, "0.json", "{\"type\":\"never\"}");

        assert_ok(conflists_load(dir, &l, &err));
        assert_int_equal(l.len, 5);
        assert_string_equal(l.v[0].name, "first");
        assert_string_equal(l.v[0].version, "0.1.0");
        assert_string_equal(l.v[1].name, "lan");
        assert_string_equal(l.v[1].version, "1.0.0");
        assert_int_equal(json_array_size(l.v[1].plugins), 3);
        assert_string_equal(type(&l.v[1], 1), "portmap");
        assert_string_equal(type(&l.v[1], 2), "firewall");
        assert_string_equal(l.v[2].name, "odd");
        assert_string_equal(l.v[3].name, "json"); /* .conf and .json together, sorted */
        assert_string_equal(l.v[4].name, "single");
        assert_string_equal(
                json_string_value(json_object_get(json_array_get(l.v[4].plugins, 0), "master")),
                "e");
        assert_int_equal(l.skipped.len, 3);
        assert_non_null(strstr(l.skipped.v[2], "cocoon itself has the name \"user\""));
        assert_non_null(strstr(l.skipped.v[0], "05-bad.conflist: it is not valid JSON"));
        assert_non_null(
                strstr(l.skipped.v[1], "30-twice.conflist: an earlier file has the name \"lan\""));

        assert_ptr_equal(conflists_find(&l, "odd"), &l.v[2]);
        assert_null(conflists_find(&l, "hidden"));
        assert_int_equal(conflists_not_found(&l, "lam", NULL, &err), -CC_NOT_FOUND);
        assert_non_null(strstr(err.msg, "conflist \"lam\" not found (available: first, json, lan, "
                                        "odd, single); left out: "));
        assert_non_null(strstr(err.msg, "05-bad.conflist"));
        assert_string_equal(err.hint, "did you mean \"lan\"?");
}

/* Inlined plugins can be switched off, by either spelling; a broken one takes its list along. */
static void test_inlined(void **state)
{
        const char *dir = *state;
        CONFLISTS struct conflists l = { 0 };
        CC_FREE char *sub = cc_path_join(dir, "a");
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(mkdir(sub, 0755), 0);
        put(sub, "1.conf", "{\"type\":\"x/y\"}");
        put(dir, "1.conflist", "{\"name\":\"a\",\"plugins\":[{\"type\":\"p\"}]}");
        put(dir, "2.conflist",
            "{\"name\":\"a\",\"loadOnlyInlinedPlugins\":\"TRUE\",\"plugins\":[{\"type\":\"p\"}]}");
        assert_ok(conflists_load(dir, &l, &err));
        assert_int_equal(l.len, 1);
        assert_int_equal(json_array_size(l.v[0].plugins), 1);
        assert_non_null(strstr(l.skipped.v[0], "a/1.conf: a plugin has no valid type"));
}

static void test_refused(void **state)
{
        static const struct {
                const char *text, *why;
        } bad[] = {
                { "[]", "it is not an object" },
                { "{}", "it has no name" },
                { "{\"name\":7,\"type\":\"a\"}", "field \"name\" is not a string" },
                { "{\"name\":\"../x\",\"type\":\"a\"}", "is not a valid name" },
                { "{\"name\":\"-x\",\"type\":\"a\"}", "is not a valid name" },
                { "{\"name\":\"a,b\",\"type\":\"a\"}", "is not a valid name" },
                { "{\"name\":\"x\"}", "it has no plugins" },
                { "{\"name\":\"x\",\"plugins\":[]}", "it has no plugins" },
                { "{\"name\":\"x\",\"plugins\":{}}", "field \"plugins\" is not a list" },
                { "{\"name\":\"x\",\"plugins\":[1]}", "a plugin is not an object" },
                { "{\"name\":\"x\",\"plugins\":[{}]}", "a plugin has no valid type" },
                { "{\"name\":\"x\",\"plugins\":[{\"type\":\"../sh\"}]}", "no valid type" },
                { "{\"name\":\"x\",\"plugins\":[{\"type\":\"..\"}]}", "no valid type" },
                { "{\"name\":\"x\",\"type\":\"a\",\"cniVersion\":\"one\"}", "not a CNI version" },
                { "{\"name\":\"x\",\"type\":\"a\",\"cniVersion\":\"1.0\"}", "not a CNI version" },
                { "{\"name\":\"x\",\"type\":\"a\",\"cniVersion\":\"2.0.0\"}",
                  "newer CNI version than 1.1.0" },
                { "{\"name\":\"x\",\"type\":\"a\",\"cniVersions\":\"1.0.0\"}", "is not a list" },
                { "{\"name\":\"x\",\"type\":\"a\",\"cniVersions\":[1]}", "list of strings" },
                { "{\"name\":\"x\",\"type\":\"a\",\"loadOnlyInlinedPlugins\":\"perhaps\"}",
                  "not a boolean" },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                struct conflist c = { 0 };
                struct cc_err err = CC_ERR_INIT;

                if (conflist_parse(bad[i].text, strlen(bad[i].text), NULL, &c, &err) == 0)
                        fail_msg("accepted: %s", bad[i].text);
                if (!strstr(err.msg, bad[i].why))
                        fail_msg("%s: %s", bad[i].text, err.msg);
                assert_null(c.name);
        }
}

static void test_versions(void **state)
{
        static const struct {
                const char *text, *version;
        } good[] = {
                { "", "0.1.0" },
                { ",\"cniVersion\":\"\"", "0.1.0" },
                { ",\"cniVersion\":\"0.3.1\"", "0.3.1" },
                { ",\"cniVersion\":\"1.1.0\"", "1.1.0" },
                { ",\"cniVersion\":\"0.4.0\",\"cniVersions\":[\"1.0.0\",\"9.0.0\",\"0.3.0\"]",
                  "1.0.0" },
                { ",\"cniVersion\":\"9.9.9\",\"cniVersions\":[\"0.2.0\"]", "0.2.0" },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(good); i++) {
                CC_FREE char *text = xasprintf("{\"name\":\"x\",\"type\":\"a\"%s}", good[i].text);
                CC_FREE char *again = NULL;
                struct conflist c = { 0 };
                struct conflist d = { 0 };
                struct cc_err err = CC_ERR_INIT;

                assert_ok(conflist_parse(text, strlen(text), NULL, &c, &err));
                assert_string_equal(c.version, good[i].version);
                /* Written out it is the same list. */
                again = conflist_text(&c);
                assert_ok(conflist_parse(again, strlen(again), "/nonexistent", &d, &err));
                assert_string_equal(d.version, c.version);
                assert_string_equal(d.name, "x");
                assert_true(json_equal(c.plugins, d.plugins));
                conflist_clear(&c);
                conflist_clear(&d);
        }
        assert_true(cni_version_compare("0.10.0", "0.9.9") > 0);
        assert_true(cni_version_compare("1.0.0", "1.0.0") == 0);
        assert_true(cni_version_compare("0.4.0", "1.0.0") < 0);
        assert_false(cni_version_valid("1.0.0-rc1"));
        assert_false(cni_version_valid("1..0"));
        assert_false(cni_version_valid("99999.0.0"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_none),         scratch_test(test_directory),
                scratch_test(test_inlined),      cmocka_unit_test(test_refused),
                cmocka_unit_test(test_versions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
