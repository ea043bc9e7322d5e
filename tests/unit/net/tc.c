/* The bytes of traffic control requests against those the kernel is known to take (network.md §5).
 * Needs no privileges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <netlink/attr.h>

#include "base/str.h"
#include "net/tc.h"

/* libnl marks nests since 3.6, which the kernel takes either way. */
static void unmark(struct nlattr *a, int n)
{
        int rest = n;

        for (; nla_ok(a, rest); a = nla_next(a, &rest))
                if (a->nla_type & NLA_F_NESTED) {
                        a->nla_type &= (uint16_t)~NLA_F_NESTED;
                        unmark(nla_data(a), nla_len(a));
                }
}

static void assert_bytes(struct nl_msg *msg, const char *want)
{
        struct nlmsghdr *h = nlmsg_hdr(msg);
        char got[1024];

        /* What the sender adds. */
        h->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
        h->nlmsg_seq = 1;
        h->nlmsg_pid = 0;
        unmark(nlmsg_attrdata(h, 20), nlmsg_attrlen(h, 20));
        assert_true(h->nlmsg_len * 2 < sizeof(got));
        cc_hex(h, h->nlmsg_len, got);
        assert_string_equal(got, want);
        nlmsg_free(msg);
}

static void test_redirect(void **state)
{
        (void)state;
        assert_bytes(tc_redirect_msg(2, 3),
                     "8c0000002c0005060100000000000000"
                     "00000000020000000000"
                     "00000000ffff00030100"
                     "0800010075333200"
                     "60000200"
                     "2400050001000100"
                     "00000000000000000000000000000000000000000000000000000000"
                     "38000700"
                     "34000100"
                     "0b0001006d69727265640000"
                     "24000200"
                     "20000200"
                     "0000000000000000"
                     "04000000"
                     "0000000000000000"
                     "01000000"
                     "03000000");
}

static void test_ingress(void **state)
{
        (void)state;
        assert_bytes(tc_ingress_msg(2), "34000000240005060100000000000000"
                                        "00000000020000000000fffff1ffffff00000000"
                                        "0c000100696e677265737300"
                                        "04000200");
}

static void test_noqueue(void **state)
{
        struct nl_msg *msg = tc_noqueue_msg(7);
        const uint8_t *p = nlmsg_data(nlmsg_hdr(msg));
        int32_t index;
        uint32_t parent;

        (void)state;
        memcpy(&index, p + 4, sizeof(index));
        memcpy(&parent, p + 12, sizeof(parent));
        assert_int_equal(index, 7);
        assert_int_equal(parent, 0xffffffff);
        assert_int_equal(nlmsg_hdr(msg)->nlmsg_flags & (NLM_F_CREATE | NLM_F_REPLACE),
                         NLM_F_CREATE | NLM_F_REPLACE);
        assert_string_equal((const char *)p + 20 + 4, "noqueue");
        nlmsg_free(msg);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_redirect),
                cmocka_unit_test(test_ingress),
                cmocka_unit_test(test_noqueue),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
