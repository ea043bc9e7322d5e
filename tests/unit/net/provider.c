/* Choosing a network, the user provider's records, and --publish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hv/driver.h"
#include "net/provider.h"

static const struct net_env env;

static const struct net_provider *choose(const char *network, const char *bridge, int64_t nics,
                                         unsigned caps, int expect, struct cc_err *err)
{
        const struct net_provider *p = NULL;
        int r = net_provider_choose(&env, network, bridge, nics, caps, &p, err);

        assert_int_equal(r, expect);
        return p;
}

static void test_choose(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_string_equal(choose("user", "", 1, HV_CAP_USER_NET, 0, &err)->name, "user");
        assert_null(choose("podnet", "", 1, HV_CAP_USER_NET, -CC_NOT_FOUND, &err));
        assert_string_equal(err.msg,
                            "conflist \"podnet\" not found (available: cocoon-builtin, user)");
        err = (struct cc_err)CC_ERR_INIT;
        assert_null(choose("usr", "", 0, HV_CAP_USER_NET, -CC_NOT_FOUND, &err));
        assert_string_equal(err.hint, "did you mean \"user\"?");
        err = (struct cc_err)CC_ERR_INIT;
        assert_null(choose("user", "", 1, 0, -CC_UNSUPPORTED, &err));
        assert_non_null(strstr(err.msg, "no user-mode network stack"));
}

/* The module is beside the program, not beside this test: a provider in it is refused by name. */
static void test_choose_module(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_null(choose("", "br0", 1, HV_CAP_USER_NET, -CC_UNAVAILABLE, &err));
        assert_non_null(strstr(err.msg, "network provider bridge: module cocoon-net.so"));
        err = (struct cc_err)CC_ERR_INIT;
        assert_null(choose("cocoon-builtin", "", 1, 0, -CC_UNAVAILABLE, &err));
        assert_non_null(strstr(err.msg, "network provider cni: module cocoon-net.so"));
}

/* Last: who may not change the host gets the user-mode stack. */
static void test_choose_unprivileged(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        if (geteuid() == 0)
                assert_int_equal(setresuid(65534, 65534, 65534), 0);
        assert_string_equal(choose("", "", 1, HV_CAP_USER_NET, 0, &err)->name, "user");
        assert_string_equal(choose(NULL, NULL, 0, HV_CAP_USER_NET, 0, &err)->name, "user");
        assert_null(choose("", "", 0, 0, 0, &err));
        assert_null(choose("", "", 1, 0, -CC_UNSUPPORTED, &err));
        assert_non_null(strstr(err.hint, "--nics 0"));
}

static void test_find(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        const struct net_provider *p = NULL;

        (void)state;
        assert_int_equal(net_provider_find("user", &p, &err), 0);
        assert_string_equal(p->name, "user");
        assert_int_equal(net_provider_find("", &p, &err), 0);
        assert_null(p);
        assert_int_equal(net_provider_find("tokenring", &p, &err), -CC_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "tokenring"));
}

static void test_user_records(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const struct net_spec specs[] = { { .index = 0 }, { .index = 1, .num_queues = 2 } };
        const struct net_provider *p = NULL;
        struct record_array nics = { 0 };
        struct net_spec again;
        struct nic *a;
        struct nic *b;

        (void)state;
        vm.config.cpu = 4;
        assert_int_equal(net_provider_find("user", &p, NULL), 0);
        assert_int_equal(p->prepare(&env, &vm, NULL), 0);
        assert_string_equal(vm.net_backend, "user");
        assert_string_equal(vm.config.network, "user");
        assert_int_equal(p->add(&env, &vm, specs, 2, &nics, NULL), 0);
        assert_int_equal(nics.len, 2);
        a = nics.v;
        b = a + 1;
        assert_int_equal(a->num_queues, 8);
        assert_int_equal(b->num_queues, 2);
        assert_int_equal(a->queue_size, 512);
        assert_string_equal(a->backend, "user");
        assert_string_equal(a->tap, "");
        assert_null(a->network);
        assert_int_equal(strlen(a->mac), 17);
        assert_string_not_equal(a->mac, b->mac);

        /* Recovery keeps the recorded identity. */
        again = (struct net_spec){ .index = 0, .existing = a };
        {
                struct record_array more = { 0 };

                assert_int_equal(p->add(&env, &vm, &again, 1, &more, NULL), 0);
                assert_string_equal(((struct nic *)more.v)->mac, a->mac);
                record_clear(&nic_type, more.v);
                free(more.v);
        }
        assert_int_equal(p->verify(&env, &vm, NULL), 0);
        assert_int_equal(p->delete (&env, &vm, NULL), 0);
        record_clear(&nic_type, a);
        record_clear(&nic_type, b);
        free(nics.v);
}

static void test_publish(void **state)
{
        static const char *const bad[] = {
                "",          ":",      "80",      "80:",     ":80",
                "0:80",      "80:0",   "65536:1", "1:65536", "a:80",
                "80:22:tcp", "+80:22", "80: 22",  "0x50:22", "127.0.0.1:80:22",
                "080000:1",  "-1:1",
        };
        struct cc_err err = CC_ERR_INIT;
        uint16_t host = 7;
        uint16_t guest = 7;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                assert_int_equal(net_publish_parse(bad[i], &host, &guest, &err), -CC_USAGE);
                assert_int_equal(host, 7);
                assert_int_equal(guest, 7);
        }
        assert_int_equal(net_publish_parse("8080:80", &host, &guest, &err), 0);
        assert_int_equal(host, 8080);
        assert_int_equal(guest, 80);
        assert_int_equal(net_publish_parse("1:65535", &host, &guest, &err), 0);
        assert_int_equal(guest, 65535);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_choose),  cmocka_unit_test(test_choose_module),
                cmocka_unit_test(test_find),    cmocka_unit_test(test_user_records),
                cmocka_unit_test(test_publish), cmocka_unit_test(test_choose_unprivileged),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
