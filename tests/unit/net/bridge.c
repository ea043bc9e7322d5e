/* The provider bridge, in a network of the test's own. */
#include "sandbox.h"

#include "base/str.h"
#include "hv/launch.h"

static struct sandbox box;
static bool have_box;

static const struct net_provider *const bridge = &net_provider_bridge;

static void need_box(void)
{
        if (!have_box) {
                print_message("reason: needs root, namespaces and /dev/net/tun\n");
                skip();
        }
}

static void make_vm(struct vm_record *vm, const char *dev)
{
        sandbox_vm(vm, 2);
        vm->net_bridge_dev = xstrdup(dev);
}

static void test_ports(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct net_link dev;
        struct net_link port;
        struct nic *nic;
        char name[16];
        int fds[2];

        (void)state;
        need_box();
        must(link_add_bridge(box.sk, "br0", "02:00:00:00:00:01", E));
        must(link_get(box.sk, "br0", &dev, E));
        must(link_change(box.sk, &dev, &(struct link_change){ .mtu = 1300 }, E));
        make_vm(&vm, "br0");
        must(sandbox_add(&box, bridge, &vm, 2, E));
        assert_string_equal(vm.net_backend, "bridge");
        assert_true(cc_isempty(vm.netns_path));
        nic = vm_nic(&vm, 0);
        (void)snprintf(name, sizeof(name), "bt%.8s-0", vm.id);
        assert_string_equal(nic->tap, name);
        assert_string_equal(nic->bridge_dev, "br0");
        assert_null(nic->network);
        assert_int_equal(nic->mtu, 1300);
        must(link_get(box.sk, name, &port, E));
        assert_int_equal(port.master, dev.index);
        assert_int_equal(port.mtu, 1300);
        assert_true(port.flags & IFF_UP);
        must(hv_tap_open(NULL, name, 2, fds, E));
        close(fds[0]);
        close(fds[1]);

        must(bridge->verify(&box.env, &vm, E));
        must(bridge->quiesce(&box.env, &vm, E));
        must(link_get(box.sk, name, &port, E));
        assert_false(port.flags & IFF_UP);
        must(bridge->unquiesce(&box.env, &vm, E));

        /* The bridge was made anew: ports are attached again, with their MACs. */
        must(link_delete(box.sk, "br0", E));
        err = (struct cc_err)CC_ERR_INIT;
        assert_int_equal(bridge->verify(&box.env, &vm, &err), -CC_NOT_FOUND);
        assert_int_equal(bridge->recover(&box.env, &vm, &err), -CC_NOT_FOUND);
        assert_non_null(strstr(err.msg, "br0"));
        must(link_add_bridge(box.sk, "br0", "02:00:00:00:00:01", E));
        assert_int_equal(bridge->verify(&box.env, &vm, &err), -CC_NOT_FOUND);
        must(bridge->recover(&box.env, &vm, E));
        must(bridge->verify(&box.env, &vm, E));

        must(bridge->remove(&box.env, &vm, (const size_t[]){ 0 }, 1, E));
        assert_int_equal(link_get(box.sk, name, &port, &err), -CC_NOT_FOUND);
        /* The rest is found by listing, whatever index is missing, with or without the bridge. */
        must(link_delete(box.sk, "br0", E));
        must(bridge->delete (&box.env, &vm, E));
        must(bridge->delete (&box.env, &vm, E));
        assert_int_equal(sandbox_links(&box), 1);
}

static void test_refused(void **state)
{
        VM_RECORD struct vm_record absent = VM_RECORD_INIT;
        VM_RECORD struct vm_record wrong = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        make_vm(&absent, "br9");
        assert_int_equal(bridge->prepare(&box.env, &absent, &err), -CC_NOT_FOUND);
        assert_string_equal(err.msg, "--bridge: network device br9 does not exist");
        make_vm(&wrong, "lo");
        assert_int_equal(bridge->prepare(&box.env, &wrong, &err), -CC_INVALID);
        assert_string_equal(err.msg, "lo is not a bridge (type: device)");
}

static void test_rollback(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char name[16];
        int r;

        (void)state;
        need_box();
        must(link_add_bridge(box.sk, "br0", "02:00:00:00:00:01", E));
        make_vm(&vm, "br0");
        assert_int_equal(setenv("COCOON_FAILPOINT", "net.bridge:error", 1), 0);
        r = sandbox_add(&box, bridge, &vm, 2, &err);
        assert_int_equal(unsetenv("COCOON_FAILPOINT"), 0);
        assert_int_equal(r, -CC_INTERNAL);
        assert_int_equal(sandbox_links(&box), 2);

        /* NIC 0 succeeds, NIC 1 meets a device that cannot be a leftover of ours to open: a bridge
         * of that name is removed as one. */
        (void)snprintf(name, sizeof(name), "bt%.8s-0", vm.id);
        must(link_add_bridge(box.sk, name, "02:00:00:00:00:02", E));
        must(sandbox_add(&box, bridge, &vm, 2, E));
        must(bridge->verify(&box.env, &vm, E));
        must(bridge->delete (&box.env, &vm, E));
        must(link_delete(box.sk, "br0", E));
        assert_int_equal(sandbox_links(&box), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ports),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_rollback),
        };
        int r;

        have_box = sandbox_enter(&box);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        sandbox_leave(&box);
        return r;
}
