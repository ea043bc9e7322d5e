/* The pure parts of the doctor: subnets, verdict names, reflink's leaving no trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "doctor/doctor.h"

static void subnets(void **state)
{
        static const struct {
                const char *text, *subnet, *gateway; /* subnet NULL: refused */
        } cases[] = {
                { "10.88.0.0/16", "10.88.0.0/16", "10.88.0.1" },
                { "192.168.7.0/29", "192.168.7.0/29", "192.168.7.1" },
                { "10.0.0.0/8", "10.0.0.0/8", "10.0.0.1" },
                { "172.16.0.8/29", "172.16.0.8/29", "172.16.0.9" },
                { "10.88.0.1/16", NULL, NULL },
                { "10.88.0.0", NULL, NULL },
                { "10.88.0.0/30", NULL, NULL },
                { "10.0.0.0/7", NULL, NULL },
                { "10.88.0/16", NULL, NULL },
                { "10.88.0.0/", NULL, NULL },
                { "10.88.0.0/16x", NULL, NULL },
                { "fd00::/64", NULL, NULL },
                { "", NULL, NULL },
                { "10.88.0.0/-1", NULL, NULL },
                { "10.88.0.0/99999999999999999999", NULL, NULL },
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char subnet[24] = "untouched";
                char gateway[16] = "untouched";
                struct cc_err err = CC_ERR_INIT;
                int r = doctor_subnet_parse(cases[i].text, subnet, gateway, &err);

                if (cases[i].subnet) {
                        assert_int_equal(r, 0);
                        assert_string_equal(subnet, cases[i].subnet);
                        assert_string_equal(gateway, cases[i].gateway);
                } else {
                        if (r != -CC_INVALID)
                                fail_msg("\"%s\" was taken", cases[i].text);
                        assert_string_equal(subnet, "untouched");
                        assert_non_null(strstr(err.msg, "invalid subnet"));
                }
        }
}

static void verdicts(void **state)
{
        (void)state;
        assert_string_equal(doctor_verdict_name(DOCTOR_PASS), "pass");
        assert_string_equal(doctor_verdict_name(DOCTOR_WARN), "warn");
        assert_string_equal(doctor_verdict_name(DOCTOR_FAIL), "fail");
}

static void reflink(void **state)
{
        char dir[] = "/tmp/cocoon-test-doctor-XXXXXX";

        (void)state;
        assert_non_null(mkdtemp(dir));
        assert_in_range(doctor_reflink(dir) + 1, 0, 2);
        /* Empty again, or this fails. */
        assert_int_equal(rmdir(dir), 0);
        assert_int_equal(doctor_reflink(dir), -1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(subnets),
                cmocka_unit_test(verdicts),
                cmocka_unit_test(reflink),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
