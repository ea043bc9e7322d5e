/* The kernel command line contract of images.md §6 and network.md §8. */
#include "unit.h"

#include <string.h>

#include "vm/internal.h"

static const struct hv_driver serial_driver = {
        .name = "a",
        .console_prefix = "console=hvc0 loglevel=3",
        .caps = HV_CAP_SERIAL_NAMES,
};

static const struct hv_driver order_driver = {
        .name = "b",
        .console_prefix = "console=ttyS0 reboot=k",
};

static const struct hv_driver emulating_driver = {
        .name = "c",
        .console_prefix = "console=ttyS0 loglevel=3",
        .caps = HV_CAP_SERIAL_NAMES | HV_CAP_EMULATION,
};

static void add_disk(struct vm_record *vm, const char *role, const char *serial, const char *mount)
{
        struct vm_disk *d = record_array_add(&vm_disk_type, &vm->storage_configs);

        d->role = xstrdup(role);
        d->serial = xstrdup(serial);
        d->mount_point = xstrdup0(mount);
}

static void add_nic(struct vm_record *vm, const char *mac, const char *ip, int prefix,
                    const char *gateway)
{
        struct nic *nic = record_array_add(&nic_type, &vm->network_configs);

        nic->mac = xstrdup(mac);
        if (!ip)
                return;
        nic->network = xcalloc(1, sizeof(*nic->network));
        nic->network->ip = xstrdup(ip);
        nic->network->prefix = prefix;
        nic->network->gateway = xstrdup0(gateway);
}

static void base_vm(struct vm_record *vm)
{
        vm->id = xstrdup("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        vm->config.name = xstrdup("web");
        vm->boot_config.kernel_path = xstrdup("/k");
        add_disk(vm, "layer", "cocoon-layer0", NULL);
        add_disk(vm, "layer", "cocoon-layer1", NULL);
        add_disk(vm, "cow", "cocoon-cow", NULL);
}

static void check(const struct config *c, const struct hv_driver *drv, const struct vm_record *vm,
                  const char *want)
{
        CC_FREE char *got = vm_cmdline(c, drv, vm);

        assert_string_equal(got, want);
}

static void no_nics(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct config c = { .qemu_accel = (char *)"tcg", .run_dir = (char *)"/nonexistent" };

        base_vm(&vm);
        check(&c, &serial_driver, &vm,
              "console=hvc0 loglevel=3 boot=cocoon-overlay "
              "cocoon.layers=cocoon-layer1,cocoon-layer0 cocoon.cow=cocoon-cow "
              "clocksource=kvm-clock rw cocoon.hostname=web "
              "cocoon.instance=ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        check(&c, &order_driver, &vm,
              "console=ttyS0 reboot=k boot=cocoon-overlay cocoon.layers=/dev/vdb,/dev/vda "
              "cocoon.cow=/dev/vdc clocksource=kvm-clock rw cocoon.hostname=web "
              "cocoon.instance=ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        check(&c, &emulating_driver, &vm,
              "console=ttyS0 loglevel=3 boot=cocoon-overlay "
              "cocoon.layers=cocoon-layer1,cocoon-layer0 cocoon.cow=cocoon-cow no_timer_check rw "
              "cocoon.hostname=web cocoon.instance=ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static void many_disks_by_order(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_FREE char *got = NULL;
        struct config c = { .qemu_accel = (char *)"tcg" };

        vm.id = xstrdup("A");
        vm.config.name = xstrdup("n");
        for (int i = 0; i < 27; i++)
                add_disk(&vm, "layer", "x", NULL);
        add_disk(&vm, "cow", "x", NULL);
        got = vm_cmdline(&c, &order_driver, &vm);
        assert_non_null(strstr(got, "cocoon.layers=/dev/vdaa,/dev/vdz,/dev/vdy,"));
        assert_non_null(strstr(got, ",/dev/vda cocoon.cow=/dev/vdab "));
}

/* NIC 0 comes last among the ip= words, because guests keep only the last. */
static void static_and_dhcp(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct config c = { .qemu_accel = (char *)"tcg" };

        cc_strv_add(&c.dns_servers, "8.8.8.8");
        cc_strv_add(&c.dns_servers, "1.1.1.1");
        cc_strv_add(&c.dns_servers, "9.9.9.9");
        base_vm(&vm);
        add_nic(&vm, "02:00:00:00:00:01", "10.88.0.5", 16, "10.88.0.1");
        add_nic(&vm, "02:00:00:00:00:02", NULL, 0, NULL);
        add_nic(&vm, "02:00:00:00:00:03", "192.168.1.9", 32, NULL);
        check(&c, &emulating_driver, &vm,
              "console=ttyS0 loglevel=3 boot=cocoon-overlay "
              "cocoon.layers=cocoon-layer1,cocoon-layer0 cocoon.cow=cocoon-cow no_timer_check rw "
              "net.ifnames=0 cocoon.hostname=web "
              "ip=192.168.1.9:::255.255.255.255:web:eth2:off:8.8.8.8:1.1.1.1 "
              "ip=10.88.0.5::10.88.0.1:255.255.0.0:web:eth0:off:8.8.8.8:1.1.1.1 "
              "cocoon.net=0,02:00:00:00:00:01,10.88.0.5/16,10.88.0.1 "
              "cocoon.net=1,02:00:00:00:00:02,dhcp "
              "cocoon.net=2,02:00:00:00:00:03,192.168.1.9/32,- "
              "cocoon.instance=ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        cc_strv_free(&c.dns_servers);
}

static void data_disks(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct config c = { .qemu_accel = (char *)"tcg" };
        CC_FREE char *got = NULL;

        base_vm(&vm);
        add_disk(&vm, "data", "data1", "/mnt/data1");
        add_disk(&vm, "data", "raw", NULL);
        add_disk(&vm, "data", "odd", "/mnt/with blank");
        got = vm_cmdline(&c, &emulating_driver, &vm);
        assert_non_null(strstr(got, " cocoon.data=data1:/mnt/data1"));
        assert_null(strstr(got, "cocoon.data=raw"));
        assert_null(strstr(got, "odd")); /* a blank would start another kernel parameter */
}

static void limit_is_2048(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct config c = { .qemu_accel = (char *)"tcg" };
        struct cc_err err = CC_ERR_INIT;
        size_t len;

        base_vm(&vm);
        assert_ok(vm_rebuild_cmdline(&c, &emulating_driver, &vm, &err));
        len = strlen(vm.boot_config.cmdline);
        /* " cocoon.data=d:" and a path fill it up to the limit exactly. */
        {
                CC_FREE char *path = xcalloc(1, 4096);

                memset(path, 'p', 2047 - len - strlen(" cocoon.data=d:"));
                path[0] = '/';
                add_disk(&vm, "data", "d", path);
        }
        assert_ok(vm_rebuild_cmdline(&c, &emulating_driver, &vm, &err));
        assert_int_equal(strlen(vm.boot_config.cmdline), 2047);
        cc_strset(&vm_disk_at(&vm, 3)->serial, "dd");
        assert_int_equal(vm_rebuild_cmdline(&c, &emulating_driver, &vm, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "2048 bytes, the limit is 2047"));
        assert_int_equal(strlen(vm.boot_config.cmdline), 2047); /* untouched */
}

static void firmware_boot_has_none(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct config c = { .qemu_accel = (char *)"tcg" };
        struct cc_err err = CC_ERR_INIT;

        base_vm(&vm);
        cc_strset(&vm.boot_config.kernel_path, NULL);
        assert_ok(vm_rebuild_cmdline(&c, &emulating_driver, &vm, &err));
        assert_null(vm.boot_config.cmdline);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_nics),         cmocka_unit_test(many_disks_by_order),
                cmocka_unit_test(static_and_dhcp), cmocka_unit_test(data_disks),
                cmocka_unit_test(limit_is_2048),   cmocka_unit_test(firmware_boot_has_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
