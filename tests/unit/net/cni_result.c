/* Results of CNI plugins in all versions, and handing them from one plugin to the next. */
#include "../unit.h"

#include <string.h>

#include "base/json.h"
#include "net/cni_result.h"

static int parse(const char *text, struct cni_result *ret, struct cc_err *err)
{
        CC_JSON json_t *j = json_loads(text, 0, NULL);

        assert_non_null(j);
        return cni_result_parse(j, "eth0", ret, err);
}

static void expect(const char *text, const char *ip, unsigned prefix, const char *gateway, size_t n)
{
        CNI_RESULT struct cni_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_ok(parse(text, &r, &err));
        assert_string_equal(r.ip, ip);
        assert_int_equal(r.prefix, prefix);
        assert_string_equal(r.gateway, gateway);
        assert_int_equal(r.n, n);
}

static void test_formats(void **state)
{
        (void)state;
        expect("{}", "", 0, "", 0);
        expect("{\"ips\":[]}", "", 0, "", 0);
        expect("{\"ips\":[{\"address\":\"10.1.0.2/24\",\"gateway\":\"10.1.0.1\"}]}", "10.1.0.2", 24,
               "10.1.0.1", 1);
        /* IPv4 behind IPv6; an IPv6 gateway is not one of IPv4. */
        expect("{\"ips\":[{\"address\":\"fd00::2/64\",\"gateway\":\"fd00::1\"},"
               "{\"address\":\"10.1.0.2/32\"}],"
               "\"routes\":[{\"dst\":\"10.0.0.0/8\",\"gw\":\"10.1.0.9\"},"
               "{\"dst\":\"0.0.0.0/0\",\"gw\":\"169.254.1.1\"}]}",
               "10.1.0.2", 32, "169.254.1.1", 2);
        /* The sandbox's interface before others', wherever it stands; theirs are none of ours. */
        expect("{\"interfaces\":[{\"name\":\"br0\"},{\"name\":\"eth0\",\"sandbox\":\"/x\"}],"
               "\"ips\":[{\"address\":\"10.9.0.1/24\",\"interface\":0},"
               "{\"address\":\"10.1.0.2/24\",\"interface\":1,\"gateway\":\"10.1.0.1\"}]}",
               "10.1.0.2", 24, "10.1.0.1", 1);
        expect("{\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/x\"}],"
               "\"ips\":[{\"address\":\"10.1.0.2/24\",\"interface\":7}]}",
               "10.1.0.2", 24, "", 1);
        /* Up to 0.2.0. */
        expect("{\"ip4\":{\"ip\":\"10.1.0.2/16\",\"gateway\":\"10.1.0.1\"},"
               "\"ip6\":{\"ip\":\"fd00::2/64\"}}",
               "10.1.0.2", 16, "10.1.0.1", 2);
        expect("{\"ip4\":{\"ip\":\"10.1.0.2/16\",\"routes\":[{\"dst\":\"0.0.0.0/0\","
               "\"gw\":\"10.1.0.3\"}]}}",
               "10.1.0.2", 16, "10.1.0.3", 1);
        expect("{\"ips\":[{\"address\":\"fd00::2/64\"}]}", "", 0, "", 1);
}

static void test_refused(void **state)
{
        static const char *const bad[] = {
                "{\"ips\":[{}]}",
                "{\"ips\":[7]}",
                "{\"ips\":[{\"address\":\"10.1.0.2\"}]}",
                "{\"ips\":[{\"address\":\"10.1.0.2/33\"}]}",
                "{\"ips\":[{\"address\":\"10.1.0.2/-1\"}]}",
                "{\"ips\":[{\"address\":\"10.1.0.2/2x\"}]}",
                "{\"ips\":[{\"address\":\"10.1.0/24\"}]}",
                "{\"ips\":[{\"address\":\"10.1.0.2;x=y/24\"}]}",
                "{\"ips\":[{\"address\":\"fd00::2/129\"}]}",
                "{\"ips\":[{\"address\":\"10.1.0.2/99999999999999999999\"}]}",
                "{\"ips\":[{\"address\":\"11111111111111111111111111111111111111111111111/8\"}]}",
                "{\"ips\":[{\"address\":7}]}",
                "{\"ips\":[{\"address\":\"10.1.0.2/24\",\"gateway\":\"x\"}]}",
                "{\"ip4\":{\"ip\":\"x/8\"}}",
        };
        CC_BUF struct cc_buf many = { 0 };
        struct cni_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                if (parse(bad[i], &r, &err) != -CC_INVALID)
                        fail_msg("accepted: %s", bad[i]);
        cc_buf_str(&many, "{\"ips\":[");
        for (int i = 0; i < 100; i++)
                cc_buf_printf(&many, "%s{\"address\":\"10.0.0.%d/8\"}", i ? "," : "", i);
        cc_buf_str(&many, "]}");
        assert_int_equal(parse(many.data, &r, &err), -CC_INVALID);
        assert_null(r.addresses);
}

static void test_dns(void **state)
{
        CNI_RESULT struct cni_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_ok(parse("{\"dns\":{\"nameservers\":[\"10.0.0.1\",\"evil word\",7,\"fd00::1\"]}}",
                        &r, &err));
        assert_int_equal(r.dns.len, 2);
        assert_string_equal(r.dns.v[1], "fd00::1");
}

static void test_add(void **state)
{
        CNI_RESULT struct cni_result r = { 0 };

        (void)state;
        assert_true(cni_result_add(&r, "10.0.0.2", 8));
        assert_false(cni_result_add(&r, "10.0.0.2", 33));
        assert_false(cni_result_add(&r, "10.0.0.2", -1));
        assert_false(cni_result_add(&r, NULL, 8));
        assert_int_equal(r.n, 1);
}

static void converted(const char *text, const char *version, const char *expected)
{
        CC_JSON json_t *from = json_loads(text, 0, NULL);
        CC_JSON json_t *to = cni_result_for_version(from, version);
        CC_JSON json_t *want = expected ? json_loads(expected, 0, NULL) : NULL;

        if (expected && !json_equal(to, want))
                fail_msg("%s as %s", text, version);
        if (!expected)
                assert_null(to);
}

static void test_convert(void **state)
{
        (void)state;
        converted("{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.2/8\"}]}", "0.4.0",
                  "{\"cniVersion\":\"0.4.0\",\"ips\":[{\"address\":\"10.0.0.2/8\","
                  "\"version\":\"4\"}]}");
        converted("{\"cniVersion\":\"0.4.0\",\"ips\":[{\"address\":\"fd00::2/8\","
                  "\"version\":\"6\"}]}",
                  "1.0.0", "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"fd00::2/8\"}]}");
        converted("{\"ip4\":{}}", "0.2.0", "{\"ip4\":{},\"cniVersion\":\"0.2.0\"}");
        converted("{\"ip4\":{}}", "1.0.0", NULL);
        converted("{\"ips\":[]}", "0.2.0", NULL);
        assert_null(cni_result_for_version(NULL, "1.0.0"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_formats), cmocka_unit_test(test_refused),
                cmocka_unit_test(test_dns),     cmocka_unit_test(test_add),
                cmocka_unit_test(test_convert),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
