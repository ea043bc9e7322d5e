/* The provider cni with the built-in network, in a network of the test's own. */
#include "sandbox.h"

#include "net/builtin.h"
#include "net/lease.h"
#include "net/nft.h"

static struct sandbox box;
static bool have_box;

static const struct net_provider *const cni = &net_provider_cni;

static void need_box(void)
{
        if (!have_box) {
                print_message("reason: needs root, namespaces and /dev/net/tun\n");
                skip();
        }
}

static void assert_clean(void)
{
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(sandbox_links(&box), 1); /* lo */
        assert_int_equal(sandbox_namespaces(), 0);
        assert_int_equal(sandbox_rows(&box), 0);
        /* The table is gone as well: publishing has nowhere to go. */
        assert_int_equal(nft_publish("10.88.0.9", 1, 1, &err), -CC_NOT_FOUND);
}

static void test_add_delete(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct net_link link;
        struct cc_err err = CC_ERR_INIT;
        struct nic *nic;

        (void)state;
        need_box();
        sandbox_vm(&vm, 2);
        must(sandbox_add(&box, cni, &vm, 2, E));
        assert_string_equal(vm.net_backend, "cni");
        assert_string_equal(vm.config.network, "cocoon-builtin");
        assert_int_equal(vm.network_configs.len, 2);
        nic = vm_nic(&vm, 0);
        assert_int_equal(nic->num_queues, 4);
        assert_int_equal(nic->queue_size, 512);
        assert_int_equal(nic->mtu, 1500);
        assert_int_equal(nic->network->prefix, 16);
        assert_string_equal(nic->network->gateway, "10.88.0.1");
        assert_string_equal(nic->netns_path, vm.netns_path);
        assert_string_not_equal(nic->network->ip, vm_nic(&vm, 1)->network->ip);
        assert_string_not_equal(nic->mac, vm_nic(&vm, 1)->mac);
        assert_int_equal(sandbox_rows(&box), 2);
        must(link_get(box.sk, "cocoon0", &link, E));
        must(cni->verify(&box.env, &vm, E));
        must(cni->quiesce(&box.env, &vm, E));
        must(cni->unquiesce(&box.env, &vm, E));

        /* One NIC goes, the namespace and the other stay. */
        must(cni->remove(&box.env, &vm, (const size_t[]){ 1 }, 1, E));
        assert_int_equal(cni->verify(&box.env, &vm, &err), -CC_NOT_FOUND);
        assert_int_equal(sandbox_rows(&box), 1);
        must(cni->delete (&box.env, &vm, E));
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

static void test_no_nics(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(sandbox_add(&box, cni, &vm, 0, E));
        assert_true(netns_exists(vm.netns_path));
        assert_int_equal(sandbox_links(&box), 1); /* no bridge for nobody */
        must(cni->verify(&box.env, &vm, E));
        must(cni->unquiesce(&box.env, &vm, E));
        must(cni->quiesce(&box.env, &vm, E));
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

static void test_other_network(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        cc_strset(&vm.config.network, "podnet");
        assert_int_equal(cni->prepare(&box.env, &vm, &err), -CC_NOT_FOUND);
        assert_string_equal(err.msg, "conflist \"podnet\" not found (available: cocoon-builtin)");
        assert_clean();
}

/* Everything or nothing, whichever step fails, and with a NIC that was complete before. */
static void test_rollback(void **state)
{
        static const char *const labels[] = { "net.lease:error", "net.veth:error",
                                              "net.wire:error" };

        (void)state;
        need_box();
        for (size_t i = 0; i < CC_ARRAY_LEN(labels); i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;
                struct net_spec specs[2] = { { .index = 0 }, { .index = 1 } };
                struct record_array nics = { 0 };
                struct cc_err err = CC_ERR_INIT;
                int r;

                sandbox_vm(&vm, 1);
                must(cni->prepare(&box.env, &vm, E));
                assert_int_equal(setenv("COCOON_FAILPOINT", labels[i], 1), 0);
                r = cni->add(&box.env, &vm, specs, 2, &nics, &err);
                assert_int_equal(unsetenv("COCOON_FAILPOINT"), 0);
                assert_int_equal(r, -CC_INTERNAL);
                assert_non_null(strstr(err.msg, vm.id));
                assert_int_equal(nics.len, 0);
                assert_int_equal(sandbox_rows(&box), 0);
                assert_int_equal(sandbox_links(&box), 1);
                assert_int_equal(sandbox_namespaces(), 1);
                must(cni->delete (&box.env, &vm, E));
                assert_clean();
        }
}

/* A second NIC that cannot be made takes the first one with it. */
static void test_rollback_second(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct netns_fds f = NETNS_FDS_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(cni->prepare(&box.env, &vm, E));
        /* eth1 is taken by somebody else's device. */
        must(netns_open(vm.netns_path, false, &f, E));
        must(link_add_bridge(f.sk, "eth1", "02:00:00:00:00:01", E));
        netns_close(&f);
        assert_int_equal(sandbox_add(&box, cni, &vm, 2, &err), -CC_CONFLICT);
        assert_non_null(strstr(err.msg, "eth1"));
        assert_int_equal(vm.network_configs.len, 0);
        assert_int_equal(sandbox_rows(&box), 0);
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

/* After a reboot, and after somebody removed parts: the same MAC and address. */
static void test_recover(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record other = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *ip = NULL;
        CC_FREE char *mac = NULL;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(sandbox_add(&box, cni, &vm, 2, E));
        ip = xstrdup(vm_nic(&vm, 0)->network->ip);
        mac = xstrdup(vm_nic(&vm, 0)->mac);

        must(netns_delete(vm.netns_path, E));
        must(link_delete(box.sk, "cocoon0", E));
        assert_int_equal(cni->verify(&box.env, &vm, &err), -CC_NOT_FOUND);
        must(cni->recover(&box.env, &vm, E));
        must(cni->verify(&box.env, &vm, E));
        assert_string_equal(vm_nic(&vm, 0)->network->ip, ip);
        assert_string_equal(vm_nic(&vm, 0)->mac, mac);

        /* Only the bridge gone: the TAPs are still there. */
        must(link_delete(box.sk, "cocoon0", E));
        assert_int_equal(cni->verify(&box.env, &vm, &err), -CC_NOT_FOUND);
        must(cni->recover(&box.env, &vm, E));
        must(cni->verify(&box.env, &vm, E));

        /* The lease lost and the address given to another VM: refused, with the address. */
        must(netns_delete(vm.netns_path, E));
        must(link_delete(box.sk, "cocoon0", E));
        must(lease_drop_all(box.meta, vm.id, E));
        sandbox_vm(&other, 1);
        {
                struct builtin_net net = { .subnet = 10u << 24 | 88u << 16 };
                uint32_t want;
                uint32_t got;

                net.gateway = net.subnet + 1;
                assert_true(builtin_parse(ip, &want));
                must(lease_take(box.meta, &net, other.id, 0, want, &got, E));
        }
        err = (struct cc_err)CC_ERR_INIT;
        assert_int_equal(cni->recover(&box.env, &vm, &err), -CC_CONFLICT);
        assert_non_null(strstr(err.msg, ip));
        must(cni->delete (&box.env, &vm, E));
        must(cni->delete (&box.env, &other, E));
        assert_clean();
}

static void test_publish(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record other = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        sandbox_vm(&other, 1);
        cc_strv_add(&vm.config.publish, "8080:80");
        cc_strv_add(&vm.config.publish, "2222:22");
        cc_strv_add(&other.config.publish, "9090:80");
        cc_strv_add(&other.config.publish, "2222:22");
        must(sandbox_add(&box, cni, &vm, 1, E));
        must(sandbox_add(&box, cni, &other, 1, E));
        must(cni->unquiesce(&box.env, &vm, E));
        must(cni->unquiesce(&box.env, &vm, E)); /* again: not a conflict with itself */
        assert_int_equal(cni->unquiesce(&box.env, &other, &err), -CC_CONFLICT);
        assert_string_equal(err.msg, "port 2222 is already published by another VM");
        assert_int_equal(nft_publish("10.88.0.9", 9090, 80, &err), 0); /* nothing half done */
        must(nft_unpublish("10.88.0.9", E));

        /* Once the first is stopped the second may have the port. */
        must(cni->quiesce(&box.env, &vm, E));
        must(cni->unquiesce(&box.env, &other, E));
        must(cni->delete (&box.env, &other, E));
        must(cni->unquiesce(&box.env, &vm, E));
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

/* A subnet that the host uses is left alone. */
static void test_subnet(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct net_link lan;

        (void)state;
        need_box();
        must(link_add_bridge(box.sk, "lan0", "02:00:00:00:00:01", E));
        must(link_get(box.sk, "lan0", &lan, E));
        must(link_add_address(box.sk, lan.index, htonl(10u << 24 | 88u << 16 | 3u << 8 | 1), 24,
                              E));
        sandbox_vm(&vm, 1);
        must(sandbox_add(&box, cni, &vm, 1, E));
        assert_string_equal(vm_nic(&vm, 0)->network->gateway, "10.89.0.1");
        must(cni->delete (&box.env, &vm, E));
        must(link_delete(box.sk, "lan0", E));
        assert_clean();
}

static void test_lease(void **state)
{
        struct builtin_net *net = xcalloc(1, sizeof(*net));
        struct cc_err err = CC_ERR_INIT;
        uint32_t a;
        uint32_t b;

        (void)state;
        need_box();
        net->subnet = 10u << 24 | 88u << 16;
        net->gateway = net->subnet + 1;
        must(lease_take(box.meta, net, "VM1", 0, 0, &a, E));
        must(lease_take(box.meta, net, "VM1", 0, 0, &b, E));
        assert_int_equal(a, b);
        must(lease_take(box.meta, net, "VM1", 1, 0, &b, E));
        assert_int_not_equal(a, b);
        assert_int_equal(lease_take(box.meta, net, "VM2", 0, a, &b, &err), -CC_CONFLICT);
        assert_int_equal(lease_take(box.meta, net, "VM2", 0, net->gateway, &b, &err), -CC_CONFLICT);
        must(lease_drop(box.meta, "VM1", 0, E));
        must(lease_take(box.meta, net, "VM2", 0, a, &b, E));

        /* All but one address used by devices on the bridge. */
        memset(net->used, 0xff, sizeof(net->used));
        assert_int_equal(lease_take(box.meta, net, "VM3", 0, 0, &b, &err), -CC_NO_SPACE);
        net->used[0x1234 / 8] &= (uint8_t) ~(1u << 0x1234 % 8);
        must(lease_take(box.meta, net, "VM3", 0, 0, &b, E));
        assert_int_equal(b, net->subnet | 0x1234);
        must(lease_drop_all(box.meta, "VM1", E));
        must(lease_drop_all(box.meta, "VM2", E));
        must(lease_drop_all(box.meta, "VM3", E));
        assert_int_equal(sandbox_rows(&box), 0);
        free(net);
}

static void test_cycles(void **state)
{
        (void)state;
        need_box();
        for (int i = 0; i < 100; i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;

                sandbox_vm(&vm, 1);
                must(sandbox_add(&box, cni, &vm, 2, E));
                must(cni->delete (&box.env, &vm, E));
        }
        assert_clean();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_add_delete),      cmocka_unit_test(test_no_nics),
                cmocka_unit_test(test_other_network),   cmocka_unit_test(test_rollback),
                cmocka_unit_test(test_rollback_second), cmocka_unit_test(test_recover),
                cmocka_unit_test(test_publish),         cmocka_unit_test(test_subnet),
                cmocka_unit_test(test_lease),           cmocka_unit_test(test_cycles),
        };
        int r;

        have_box = sandbox_enter(&box);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        sandbox_leave(&box);
        return r;
}
