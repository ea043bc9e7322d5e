/* Sizes, times, durations, identities and the cursor. */
#include <string.h>
#include <time.h>

#include "base/cursor.h"
#include "base/id.h"
#include "base/size.h"
#include "base/timeutil.h"
#include "unit.h"

static void test_size_parse(void **state)
{
        static const struct {
                const char *s;
                int64_t v;
        } good[] = {
                { "0", 0 },
                { "1024", 1024 },
                { "512M", INT64_C(512) << 20 },
                { "512mb", INT64_C(512) << 20 },
                { "1.5 GiB", INT64_C(3) << 29 },
                { ".5G", INT64_C(1) << 29 },
                { "4Gi", INT64_C(4) << 30 },
                { "7b", 7 },
                { "2T", INT64_C(2) << 40 },
                { "1p", INT64_C(1) << 50 },
                { "1.9", 1 },
        };
        static const char *const bad[] = { "",
                                           ".",
                                           "M",
                                           "-1",
                                           "1x",
                                           "1kk",
                                           "1 ",
                                           " 1",
                                           "1  k",
                                           "1bi",
                                           "1.2.3",
                                           "0x10",
                                           "1e3",
                                           "1kib ",
                                           "99999999999P",
                                           "9223372036854775808",
                                           "11111111111111111111111111111111111111" };
        int64_t v = 77;

        for (size_t i = 0; i < CC_ARRAY_LEN(good); i++) {
                assert_int_equal(cc_size_parse(good[i].s, &v), 0);
                assert_true(v == good[i].v);
        }
        v = 77;
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                if (cc_size_parse(bad[i], &v) != -CC_INVALID || v != 77)
                        fail_msg("size \"%s\" was accepted", bad[i]);
}

static void test_size_format(void **state)
{
        static const struct {
                int64_t v;
                const char *s;
        } rows[] = {
                { 0, "0B" },
                { 1023, "1023B" },
                { 1024, "1KiB" },
                { INT64_C(3) << 29, "1.5GiB" },
                { INT64_C(512) << 20, "512MiB" },
                { 123456789, "117.7MiB" },
                { INT64_MAX, "8EiB" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                char out[24];

                cc_size_format(rows[i].v, out);
                assert_string_equal(out, rows[i].s);
        }
}

static void zone(const char *tz)
{
        setenv("TZ", tz, 1);
        tzset();
}

static void test_rfc3339(void **state)
{
        const int64_t t = INT64_C(1700000000) * CC_NSEC_PER_SEC;
        char out[CC_RFC3339_MAX];

        zone("UTC");
        cc_time_rfc3339(t, out);
        assert_string_equal(out, "2023-11-14T22:13:20Z");
        cc_time_rfc3339(t + 120000000, out);
        assert_string_equal(out, "2023-11-14T22:13:20.12Z");
        cc_time_rfc3339(-1, out);
        assert_string_equal(out, "1969-12-31T23:59:59.999999999Z");
        zone("XXX-05:30");
        cc_time_rfc3339(t + 1, out);
        assert_string_equal(out, "2023-11-15T03:43:20.000000001+05:30");
        zone("XXX3");
        cc_time_rfc3339(t, out);
        assert_string_equal(out, "2023-11-14T19:13:20-03:00");
        cc_time_table(t, out);
        assert_string_equal(out, "2023-11-14 19:13:20");
        zone("UTC");
}

static void test_time_round_trip(void **state)
{
        static const char *const zones[] = { "UTC", "XXX-05:45", "XXX9:30" };

        for (size_t z = 0; z < CC_ARRAY_LEN(zones); z++) {
                zone(zones[z]);
                for (int64_t t = -CC_NSEC_PER_SEC * 86400 * 400;
                     t < CC_NSEC_PER_SEC * INT64_C(4000000000);
                     t += CC_NSEC_PER_SEC * 86400 * 37 + 123456789) {
                        char out[CC_RFC3339_MAX];
                        int64_t back = 0;

                        cc_time_rfc3339(t, out);
                        assert_int_equal(cc_time_parse(out, &back), 0);
                        assert_true(back == t);
                }
        }
        zone("UTC");
}

static void test_time_parse(void **state)
{
        static const char *const bad[] = {
                "",
                "2024-01-01",
                "2024-01-01T00:00:00",
                "2024-02-30T00:00:00Z",
                "2023-02-29T00:00:00Z",
                "2024-13-01T00:00:00Z",
                "2024-00-01T00:00:00Z",
                "2024-01-00T00:00:00Z",
                "2024-01-01T24:00:00Z",
                "2024-01-01T00:60:00Z",
                "2024-01-01T00:00:00.Z",
                "2024-01-01T00:00:00+24:00",
                "2024-01-01T00:00:00+01:60",
                "2024-01-01T00:00:00+0100",
                "2024-01-01T00:00:00Zx",
        };
        int64_t v = 77;

        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                if (cc_time_parse(bad[i], &v) != -CC_INVALID || v != 77)
                        fail_msg("time \"%s\" was accepted", bad[i]);
        assert_int_equal(cc_time_parse("2024-02-29T12:00:00.1234567899+00:00", &v), 0);
        assert_true(v == INT64_C(1709208000123456789));
        assert_int_equal(cc_time_parse("0001-01-01T00:00:00Z", &v), 0);
        assert_true(v == 0);
}

static void test_duration(void **state)
{
        static const struct {
                const char *s;
                int64_t v;
        } good[] = {
                { "0", 0 },
                { "720h", INT64_C(720) * 3600 * CC_NSEC_PER_SEC },
                { "1h30m", 5400 * CC_NSEC_PER_SEC },
                { "1.5s", 1500000000 },
                { "-2ms", -2000000 },
                { "3us", 3000 },
                { "15ns", 15 },
        };
        static const char *const bad[] = {
                "",        "-",      "1",  "h",   "1d",
                "1h 30m",  "1.2.3h", ".s", "1 h", "99999999999999999999h",
                "3000000h"
        };
        int64_t v = 77;

        for (size_t i = 0; i < CC_ARRAY_LEN(good); i++) {
                assert_int_equal(cc_duration_parse(good[i].s, &v), 0);
                assert_true(v == good[i].v);
        }
        v = 77;
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                if (cc_duration_parse(bad[i], &v) != -CC_INVALID || v != 77)
                        fail_msg("duration \"%s\" was accepted", bad[i]);
}

static void test_identities(void **state)
{
        char a[CC_ID_LEN + 1];
        char b[CC_ID_LEN + 1];
        char uuid[37];
        char mac[18];

        for (int i = 0; i < 100; i++) {
                cc_id_new(a);
                cc_id_new(b);
                assert_true(cc_id_valid(a) && cc_id_valid(b));
                assert_string_not_equal(a, b);
                cc_uuid_new(uuid);
                assert_int_equal(strlen(uuid), 36);
                assert_int_equal(uuid[14], '4');
                assert_non_null(strchr("89ab", uuid[19]));
                cc_mac_new(mac);
                assert_int_equal(strlen(mac), 17);
                assert_int_equal(strtoul(mac, NULL, 16) & 3, 2); /* locally administered, unicast */
        }
        assert_false(cc_id_valid(""));
        assert_false(cc_id_valid("AAAAAAAAAAAAAAAAAAAAAAAAA1"));
        assert_false(cc_id_valid("AAAAAAAAAAAAAAAAAAAAAAAAAAA"));
        assert_false(cc_id_valid("aaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

static void test_names(void **state)
{
        char s[300];

        assert_true(cc_vm_name_valid("a") && cc_vm_name_valid("9.a_B-c"));
        assert_false(cc_vm_name_valid("") || cc_vm_name_valid("-a") || cc_vm_name_valid("a/b") ||
                     cc_vm_name_valid("a\n") || cc_vm_name_valid("\xc3\xa9"));
        memset(s, 'a', sizeof(s));
        s[63] = '\0';
        assert_true(cc_vm_name_valid(s));
        s[63] = 'a';
        s[64] = '\0';
        assert_false(cc_vm_name_valid(s));
        assert_true(cc_snapshot_name_valid("repo/x:tag") && !cc_snapshot_name_valid("/x"));
        memset(s, 'a', sizeof(s));
        s[255] = '\0';
        assert_true(cc_snapshot_name_valid(s));
        s[255] = 'a';
        s[256] = '\0';
        assert_false(cc_snapshot_name_valid(s));
        assert_true(cc_user_name_valid("_x-1") && !cc_user_name_valid("Root") &&
                    !cc_user_name_valid("1a"));
        assert_true(cc_data_disk_name_valid("data1") && !cc_data_disk_name_valid("cocoon-cow") &&
                    !cc_data_disk_name_valid("a23456789012345678901"));
}

static void test_cursor(void **state)
{
        static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
        struct cc_cursor c = cc_cursor_init(bytes, sizeof(bytes));

        assert_true(cc_cursor_le(&c, 2) == 0x0201);
        assert_true(cc_cursor_be(&c, 2) == 0x0304);
        assert_int_equal(cc_cursor_left(&c), 4);
        assert_null(cc_cursor_get(&c, 5));
        /* One bad read spoils everything after it. */
        assert_null(cc_cursor_get(&c, 1));
        assert_int_equal(cc_cursor_left(&c), 0);
        assert_false(cc_cursor_seek(&c, 0));
        assert_true(cc_cursor_le(&c, 1) == 0);

        c = cc_cursor_init(bytes, sizeof(bytes));
        assert_null(cc_cursor_get(&c, SIZE_MAX));
        c = cc_cursor_init(bytes, sizeof(bytes));
        assert_true(cc_cursor_seek(&c, sizeof(bytes)));
        assert_non_null(cc_cursor_get(&c, 0));
        assert_false(cc_cursor_seek(&c, sizeof(bytes) + 1));
        c = cc_cursor_init(bytes, sizeof(bytes));
        assert_true(cc_cursor_le(&c, 8) == UINT64_C(0x0807060504030201));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_size_parse), cmocka_unit_test(test_size_format),
                cmocka_unit_test(test_rfc3339),    cmocka_unit_test(test_time_round_trip),
                cmocka_unit_test(test_time_parse), cmocka_unit_test(test_duration),
                cmocka_unit_test(test_identities), cmocka_unit_test(test_names),
                cmocka_unit_test(test_cursor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
