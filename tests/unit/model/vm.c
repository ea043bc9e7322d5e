/* The VM record: printed shape (cli.md §5.2), network fallback, storage invariants, states. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/json.h"
#include "model/vm.h"

static void parse(const char *text, struct vm_record *vm)
{
        struct cc_err err = CC_ERR_INIT;

        if (vm_record_parse(text, strlen(text), vm, &err) < 0)
                fail_msg("%s", err.msg);
}

static void refused(const char *text, const char *message)
{
        struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(vm_record_parse(text, strlen(text), &vm, &err), -CC_INVALID);
        assert_string_equal(err.msg, message);
        assert_null(vm.id);
}

static void public_shape(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_JSON json_t *j = NULL;
        CC_FREE char *text = NULL;
        struct vm_disk *disk;
        struct nic *nic;

        (void)state;
        setenv("TZ", "UTC", 1);
        tzset();
        vm.id = xstrdup("AAAAAAAAAAAAAAAAAAAAAAAAAA");
        vm.hypervisor = xstrdup("qemu");
        vm.state = xstrdup("running");
        vm.config.cpu = 2;
        vm.config.memory = 1 << 30;
        vm.config.name = xstrdup("web");
        vm.pid = 42;
        vm.socket_path = xstrdup("/s");
        vm.vsock_cid = 7;
        nic = record_array_add(&nic_type, &vm.network_configs);
        nic->mac = xstrdup("02:00:00:00:00:01");
        disk = record_array_add(&vm_disk_type, &vm.storage_configs);
        disk->path = xstrdup("/p");
        disk->role = xstrdup("layer");
        disk->serial = xstrdup("cocoon-layer0");
        disk->ro = true;
        vm.created_at = vm.updated_at = INT64_C(1767225600500000000);
        vm.run_dir = xstrdup("/run/x");
        vm.boot_config.cmdline = xstrdup("quiet");
        j = record_dump(&vm_record_type, &vm, RECORD_PUBLIC);
        text = cc_json_compact(j);
        assert_string_equal(text,
                            "{\"id\":\"AAAAAAAAAAAAAAAAAAAAAAAAAA\",\"hypervisor\":\"qemu\","
                            "\"state\":\"running\","
                            "\"config\":{\"cpu\":2,\"memory\":1073741824,\"name\":\"web\"},"
                            "\"pid\":42,\"socket_path\":\"/s\","
                            "\"network_configs\":[{\"tap\":\"\",\"mac\":\"02:00:00:00:00:01\","
                            "\"num_queues\":0,\"queue_size\":0}],"
                            "\"storage_configs\":[{\"path\":\"/p\",\"ro\":true,"
                            "\"serial\":\"cocoon-layer0\",\"role\":\"layer\"}],"
                            "\"created_at\":\"2026-01-01T00:00:00.5Z\","
                            "\"updated_at\":\"2026-01-01T00:00:00.5Z\"}");
}

static void stored_text(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record again = VM_RECORD_INIT;
        CC_FREE char *text = NULL;

        (void)state;
        parse("{\"id\":\"X\",\"pid\":12,\"run_dir\":\"/r\",\"hibernating\":true,"
              "\"proc\":{\"pid\":12,\"starttime\":99},"
              "\"config\":{\"name\":\"n\",\"future\":[1]},\"snapshot_ids\":{\"B\":{},\"A\":{}}}",
              &vm);
        text = vm_record_text(&vm);
        parse(text, &again);
        assert_int_equal(again.pid, 0); /* never stored */
        assert_string_equal(again.run_dir, "/r");
        assert_int_equal(again.proc->starttime, 99);
        assert_string_equal(again.snapshot_ids.v[0], "A");
        assert_non_null(strstr(text, "\"hibernating\":true"));
        assert_non_null(strstr(text, "\"future\":[1]"));
}

static void refusals_name_the_vm(void **state)
{
        (void)state;
        refused("{\"id\":\"X\",\"config\":{\"name\":\"web\"},\"network_configs\":[{},{\"mac\":1}]}",
                "vm web: vm record: network_configs[1].mac is not a string");
        refused("{\"id\":\"X\",\"storage_configs\":[null]}",
                "vm X: vm record: storage_configs[0] is null");
        refused("{\"id\":\"X\",\"config\":{\"labels\":{\"a\":1}}}",
                "vm X: vm record: config.labels.a is not a string");
        refused("[]", "vm record: the document is not an object");
        refused("{\"id\":\"X\",\"created_at\":\"yesterday\"}",
                "vm X: vm record: created_at is not an RFC 3339 time");
}

/* network.md §1: the VM stays visible and removable, verbs that need NICs refuse it. */
static void null_nic(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        parse("{\"id\":\"X\",\"config\":{\"name\":\"web\"},\"network_configs\":[{\"mac\":\"m\"},"
              "null]}",
              &vm);
        assert_int_equal(vm.network_configs.len, 2);
        assert_int_equal(vm_nics_check(&vm, &err), -CC_INVALID);
        assert_string_equal(err.msg, "vm web: network_configs[1] is null or has no MAC");
        vm_nic(&vm, 1)->mac = xstrdup("m");
        assert_int_equal(vm_nics_check(&vm, &err), 0);
}

static void network_fallback(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct nic *nic;

        (void)state;
        assert_string_equal(vm_net_backend(&vm), "");
        assert_string_equal(vm_netns_path(&vm), "");
        assert_string_equal(vm_net_bridge(&vm), "");
        nic = record_array_add(&nic_type, &vm.network_configs);
        assert_string_equal(vm_net_backend(&vm), "cni");
        assert_string_equal(vm_netns_path(&vm), "");
        nic->backend = xstrdup("bridge");
        nic->bridge_dev = xstrdup("br0");
        nic->netns_path = xstrdup("/n");
        assert_string_equal(vm_net_backend(&vm), "bridge");
        assert_string_equal(vm_netns_path(&vm), "/n");
        assert_string_equal(vm_net_bridge(&vm), "br0");
        vm.net_backend = xstrdup("user");
        vm.netns_path = xstrdup("/vm");
        vm.net_bridge_dev = xstrdup("br1");
        assert_string_equal(vm_net_backend(&vm), "user");
        assert_string_equal(vm_netns_path(&vm), "/vm");
        assert_string_equal(vm_net_bridge(&vm), "br1");
}

static void disk_is(const char *json, const char *fault)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_FREE char *text = xasprintf("{\"id\":\"X\",\"storage_configs\":[%s]}", json);
        struct cc_err err = CC_ERR_INIT;
        int r;

        parse(text, &vm);
        r = vm_disks_check(&vm, &err);
        if (!fault) {
                if (r < 0)
                        fail_msg("%s", err.msg);
                return;
        }
        assert_int_equal(r, -CC_INVALID);
        if (!strstr(err.msg, fault))
                fail_msg("%s lacks %s", err.msg, fault);
}

static void storage_invariants(void **state)
{
        (void)state;
        disk_is("{\"path\":\"/p\",\"role\":\"layer\",\"ro\":true}", NULL);
        disk_is("{\"path\":\"/p\",\"role\":\"cow\"}", NULL);
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"serial\":\"d1\",\"fstype\":\"ext4\","
                "\"mount_point\":\"/mnt\",\"direct_io\":false}",
                NULL);
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"serial\":\"d1\",\"fstype\":\"none\"}", NULL);
        disk_is("{\"role\":\"cow\"}", "has no path");
        disk_is("{\"path\":\"/p\",\"role\":\"layer\"}", "must be read-only");
        disk_is("{\"path\":\"/p\",\"role\":\"cidata\"}", "must be read-only");
        disk_is("{\"path\":\"/p\",\"role\":\"cow\",\"ro\":true}", "must be writable");
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"ro\":true}", "must be writable");
        disk_is("{\"path\":\"/p\",\"role\":\"cow\",\"direct_io\":true}", "direct_io");
        disk_is("{\"path\":\"/p\",\"role\":\"what\"}", "unknown role");
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"serial\":\"cocoon-x\",\"fstype\":\"none\"}",
                "invalid serial");
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"serial\":\"d\",\"fstype\":\"xfs\"}",
                "file system");
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"serial\":\"d\",\"fstype\":\"none\","
                "\"mount_point\":\"/m\"}",
                "no file system");
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"serial\":\"d\",\"fstype\":\"ext4\","
                "\"mount_point\":\"m\"}",
                "invalid mount point");
        disk_is("{\"path\":\"/p\",\"role\":\"data\",\"serial\":\"d\",\"fstype\":\"ext4\","
                "\"mount_point\":\"/m\\nx\"}",
                "invalid mount point");
}

static void states(void **state)
{
        enum vm_state s;

        (void)state;
        for (int i = 0; i < VM_STATE_MAX; i++) {
                assert_int_equal(vm_state_parse(vm_state_name((enum vm_state)i), &s), 0);
                assert_int_equal(s, i);
        }
        assert_int_equal(vm_state_parse(VM_STATE_STALE, &s), -CC_INVALID);
        assert_int_equal(vm_state_parse(NULL, &s), -CC_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(public_shape),
                cmocka_unit_test(stored_text),
                cmocka_unit_test(refusals_name_the_vm),
                cmocka_unit_test(null_nic),
                cmocka_unit_test(network_fallback),
                cmocka_unit_test(storage_invariants),
                cmocka_unit_test(states),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
