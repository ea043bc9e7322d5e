/*
 * The API of cloud-hypervisor: what every request is answered in every state, and what vm.info then
 * shows. On the double and on the real program, whose guest halts at its first instruction: that
 * needs a KVM that can run one.
 */
#include <glob.h>

#include "support.h"

#define FAIL(what, ...) "[\"Error from API\",\"" what "\"," __VA_ARGS__ "]"
#define DEVMGR          "\"Error from device manager\","

/* A VmConfig: kernel, one disk, and further members. */
#define VM(disk, more)                                                                             \
        "{\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":2},\"memory\":{\"size\":67108864},"             \
        "\"payload\":{\"kernel\":\"k\",\"cmdline\":\"x\"},\"serial\":{\"mode\":\"Off\"},"          \
        "\"console\":{\"mode\":\"Off\"},\"disks\":[" disk "]" more "}"
#define COW "{\"path\":\"cow.raw\",\"image_type\":\"Raw\",\"serial\":\"cocoon-cow\"}"

static void must_run(const char *config)
{
        ANSWER struct answer a = { 0 };

        put("vm.create", config, 204, "");
        a = ask("PUT", "vm.boot", NULL);
        if (a.status == 204)
                return;
        if (!is_double() && strstr(a.body, "KVM"))
                skip_because("KVM runs no guest here");
        fail_msg("vm.boot: %d %s", a.status, a.body);
}

static void test_without_vm(void **state)
{
        static const struct {
                const char *endpoint, *body;
                int status;
                const char *answer;
        } rows[] = {
                { "vm.boot", NULL, 404, FAIL("The VM could not boot", "\"VM config is missing\"") },
                { "vm.pause", NULL, 500,
                  FAIL("The VM could not be paused", "\"VM is not running\"") },
                { "vm.resume", NULL, 500,
                  FAIL("The VM could not resume", "\"VM is not running\"") },
                { "vm.shutdown", NULL, 500,
                  FAIL("The VM could not shutdown", "\"VM is not running\"") },
                { "vm.reboot", NULL, 404,
                  FAIL("The VM could not reboot", "\"VM is not created\"") },
                { "vm.power-button", NULL, 500,
                  FAIL("Error triggering power button", "\"VM is not running\"") },
                { "vm.delete", NULL, 204, "" },
                { "vm.snapshot", "{\"destination_url\":\"file:///nope\"}", 500,
                  FAIL("The VM could not be snapshotted", "\"VM is not running\"") },
                { "vm.restore", "{\"source_url\":\"file:///nope\"}", 500,
                  FAIL("The VM could not be restored",
                       "\"Cannot restore VM\",\"Failed to send migratable component snapshot\","
                       "\"Destination is not a directory: \\\"/nope\\\"\"") },
                { "vm.restore", "{\"source_url\":\"/nope\"}", 500,
                  FAIL("The VM could not be restored",
                       "\"Cannot restore VM\",\"Failed to send migratable component snapshot\","
                       "\"Could not extract path from URL: /nope\"") },
                { "vm.add-disk", "{\"path\":\"x\"}", 404,
                  FAIL("The disk could not be added to the VM", "\"VM is not created\"") },
                { "vm.add-net", "{\"tap\":\"x\"}", 404,
                  FAIL("The network device could not be added to the VM",
                       "\"VM is not created\"") },
                { "vm.add-fs", "{\"tag\":\"a\",\"socket\":\"b\"}", 404,
                  FAIL("The fs could not be added to the VM", "\"VM is not created\"") },
                { "vm.add-device", "{\"path\":\"/x\"}", 404,
                  FAIL("The device could not be added to the VM", "\"VM is not created\"") },
                { "vm.remove-device", "{\"id\":\"x\"}", 404,
                  FAIL("The device could not be removed from the VM", "\"VM is not created\"") },
                { "vm.resize", "{\"desired_vcpus\":1}", 404,
                  FAIL("The VM could not be resized", "\"VM is not created\"") },
                { "nowhere", NULL, 404, "[\"Not Found\"]" },
                { "vm.info", NULL, 400, "[\"Bad Request\"]" },
                { "vm.boot", "{}", 400, "[\"Bad Request\"]" },
                { "vm.add-disk", NULL, 400, "[\"Bad Request\"]" },
                { "vm.create", NULL, 400, "" },
        };
        struct vmm v = vmm_start("");

        (void)state;
        get("vm.info", 404, FAIL("The VM info is not available", "\"VM is not created\""));
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                put(rows[i].endpoint, rows[i].body, rows[i].status, rows[i].answer);
        get("vm.boot", 400, "[\"Bad Request\"]");
        get("vm.create", 400, "[\"Bad Request\"]");
        put("vmm.shutdown", NULL, 200, "");
        assert_int_equal(vmm_wait(v), 0);
        assert_false(cc_exists("a.sock"));
}

/* Bodies that are no VmConfig. */
static void test_malformed_bodies(void **state)
{
        static const struct {
                const char *endpoint, *body, *why;
        } rows[] = {
                { "vm.create", "{", "EOF while parsing an object" },
                { "vm.create", "nope", "expected ident" },
                { "vm.create", "{}x", "trailing characters" },
                { "vm.create", "{\"cpus\":{\"boot_vcpus\":\"1\"}}",
                  "invalid type: string \\\"1\\\", expected u32" },
                { "vm.create", "{\"cpus\":{\"boot_vcpus\":1}}", "missing field `max_vcpus`" },
                { "vm.create", "{\"cpus\":{\"boot_vcpus\":-1,\"max_vcpus\":1}}",
                  "invalid value: integer `-1`, expected u32" },
                { "vm.create", "{\"cpus\":{\"boot_vcpus\":4294967296,\"max_vcpus\":1}}",
                  "invalid value: integer `4294967296`, expected u32" },
                { "vm.create", "{\"cpus\":{\"boot_vcpus\":1.5,\"max_vcpus\":1}}",
                  "invalid type: floating point `1.5`, expected u32" },
                { "vm.create", "{\"memory\":{}}", "missing field `size`" },
                { "vm.create", "{\"memory\":{\"size\":1,\"shared\":1}}",
                  "invalid type: integer `1`, expected a boolean" },
                { "vm.create", "{\"disks\":{}}", "invalid type: map, expected a sequence" },
                { "vm.create", "{\"disks\":[{\"image_type\":\"Bogus\"}]}",
                  "unknown variant `Bogus`, expected one of `FixedVhd`, `Qcow2`, `Raw`, `Vhdx`, "
                  "`Unknown`" },
                { "vm.create", "{\"disks\":[{\"path\":1}]}",
                  "invalid type: integer `1`, expected path string" },
                { "vm.create", "{\"disks\":[{\"num_queues\":-1}]}",
                  "invalid value: integer `-1`, expected usize" },
                { "vm.create", "{\"disks\":[{\"queue_size\":70000}]}",
                  "invalid value: integer `70000`, expected u16" },
                { "vm.create", "{\"disks\":[{\"queue_affinity\":[{\"queue_index\":0}]}]}",
                  "missing field `host_cpus`" },
                { "vm.create", "{\"net\":[{\"mac\":\"zz\"}]}",
                  "The provided MAC address is invalid: parsing of zz into a MAC address failed" },
                { "vm.create", "{\"serial\":{}}", "missing field `mode`" },
                { "vm.create", "{\"serial\":{\"mode\":\"off\"}}",
                  "unknown variant `off`, expected one of `Off`, `Pty`, `Tty`, `File`, `Socket`, "
                  "`Null`" },
                { "vm.create", "{\"vsock\":{\"cid\":3}}", "missing field `socket`" },
                { "vm.create", "{\"payload\":5}",
                  "invalid type: integer `5`, expected struct PayloadConfig" },
                { "vm.create", "{\"watchdog\":\"yes\"}",
                  "invalid type: string \\\"yes\\\", expected a boolean" },
                { "vm.restore", "{}", "missing field `source_url`" },
                { "vm.restore",
                  "{\"source_url\":\"file:///x\",\"memory_restore_mode\":\"CopyOnWrite\"}",
                  "unknown variant `CopyOnWrite`, expected `Copy` or `OnDemand`" },
                { "vm.snapshot", "{}", "missing field `destination_url`" },
                { "vm.remove-device", "{}", "missing field `id`" },
                { "vm.add-fs", "{\"tag\":\"x\"}", "missing field `socket`" },
        };
        struct vmm v = vmm_start("");

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *answer =
                        xasprintf("[\"Failed to deserialize JSON\",\"%s\"]", rows[i].why);

                put(rows[i].endpoint, rows[i].body, 400, answer);
        }
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* vm.create stores, vm.boot checks. */
static void test_invalid_configurations(void **state)
{
#define INVALID(why) FAIL("The VM could not boot", "\"Failed to validate config\",\"" why "\"")
        static const struct {
                const char *config, *answer;
        } rows[] = {
                { "{\"memory\":{\"size\":67108864},\"console\":{\"mode\":\"Off\"}}",
                  INVALID("Payload configuration is not bootable\",\"No bootitem provided: neither "
                          "firmware nor kernel") },
                { VM("{\"path\":\"cow.raw\",\"num_queues\":2}", ""),
                  INVALID("Queue count (2) must not exceed boot vCPUs (1)") },
                { VM("{\"path\":\"cow.raw\",\"id\":\"a\"},{\"path\":\"layer.raw\",\"id\":\"a\"}",
                     ""),
                  INVALID("Identifier a is not unique") },
                { VM(COW, ",\"net\":[{\"tap\":\"x\",\"id\":\"__n\"}]"),
                  INVALID("Identifier __n is not invalid") },
                { VM(COW, ",\"balloon\":{\"size\":67108864}"),
                  INVALID("Balloon size (67108864) greater than RAM (67108864)") },
                { VM(COW, ",\"devices\":[{\"path\":\"/x\"},{\"path\":\"/x\"}]"),
                  INVALID("Duplicated device path: /x") },
                { VM(COW, ",\"devices\":[{}]"),
                  INVALID("VFIO device config must specify `path=` or `fd=`") },
                { VM(COW, ",\"vsock\":{\"cid\":4294967295,\"socket\":\"v\"}"),
                  INVALID("4294967295 is a special VSOCK CID") },
                { VM(COW, ",\"fs\":[{\"tag\":\"a\",\"socket\":\"b\"}]"),
                  INVALID("Using vhost-user requires using shared memory or huge pages") },
                { VM("{\"path\":\"nope\",\"image_type\":\"Raw\"}", ""),
                  FAIL("The VM could not boot", DEVMGR
                       "\"Cannot open disk path\",\"I/O error (path=nope op=open)\",\"No such file "
                       "or directory (os error 2)\"") },
        };
        struct vmm v = vmm_start("");

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                put("vm.create", rows[i].config, 204, "");
                put("vm.boot", NULL, 500, rows[i].answer);
                expect_state("Created");
                put("vm.delete", NULL, 204, "");
        }
        /* A console that cannot be made is found at once, but the configuration stays. */
        put("vm.create", "{\"payload\":{\"kernel\":\"k\"},\"console\":{\"mode\":\"Socket\"}}", 500,
            FAIL("The VM could not be created", "\"Error creating console devices\",\"No socket "
                                                "option support for console device\""));
        expect_state("Created");
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

static void test_defaults(void **state)
{
        static const char want[] =
                "{\"config\":{\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":2,\"kvm_hyperv\":false,"
                "\"max_phys_bits\":46,\"features\":{\"amx\":false},\"nested\":true,"
                "\"core_scheduling\":\"Vm\",\"profile\":\"Host\"},\"memory\":{\"size\":67108864,"
                "\"mergeable\":false,\"hotplug_method\":\"Acpi\",\"shared\":false,\"hugepages\":"
                "false,\"prefault\":false,\"reserve\":false,\"thp\":true},\"payload\":{\"kernel\":"
                "\"k\",\"cmdline\":\"x\"},\"disks\":[{\"pci_segment\":0,\"path\":\"cow.raw\","
                "\"readonly\":false,\"direct\":false,\"num_queues\":1,\"queue_size\":128,"
                "\"vhost_user\":false,\"disable_io_uring\":false,\"disable_aio\":false,\"serial\":"
                "\"cocoon-cow\",\"backing_files\":false,\"sparse\":true,\"image_type\":\"Raw\","
                "\"lock_granularity\":\"ByteRange\"}],\"net\":[{\"pci_segment\":0,\"tap\":\"t\","
                "\"mac\":\"02:aa:00:00:00:01\",\"num_queues\":2,\"queue_size\":256,\"vhost_user\":"
                "false,\"vhost_mode\":\"Client\",\"offload_tso\":true,\"offload_ufo\":true,"
                "\"offload_csum\":true}],\"rng\":{\"pci_segment\":0,\"src\":\"/dev/urandom\"},"
                "\"serial\":{\"mode\":\"Off\"},\"console\":{\"mode\":\"Off\",\"pci_segment\":0},"
                "\"debug_console\":{\"mode\":\"Off\",\"iobase\":233},\"pvpanic\":false,\"iommu\":"
                "false,\"watchdog\":false,\"landlock_enable\":false},\"state\":\"Created\","
                "\"memory_actual_size\":67108864}";
        struct vmm v = vmm_start("");

        (void)state;
        put("vm.create", VM(COW, ",\"net\":[{\"tap\":\"t\",\"mac\":\"02:AA:00:00:00:01\"}]"), 204,
            "");
        get("vm.info", 200, want);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* Devices of a VM that is not booted are rows of its configuration. */
static void test_created(void **state)
{
        struct vmm v = vmm_start("");
        CC_JSON json_t *j = NULL;

        (void)state;
        put("vm.create", VM(COW, ""), 204, "");
        put("vm.create", VM(COW, ""), 500,
            FAIL("The VM could not be created", "\"VM is already created\""));
        put("vm.restore", "{\"source_url\":\"file:///tmp\"}", 500,
            FAIL("The VM could not be restored", "\"VM is already created\""));
        put("vm.pause", NULL, 500, FAIL("The VM could not be paused", "\"VM is not running\""));
        put("vm.add-disk", "{\"path\":\"layer.raw\",\"id\":\"dd\"}", 204, "");
        put("vm.add-disk", "{\"path\":\"layer.raw\",\"id\":\"dd\"}", 500,
            FAIL("The disk could not be added to the VM",
                 "\"Failed to validate config\",\"Identifier dd is not unique\""));
        put("vm.add-net", "{\"tap\":\"x\",\"id\":\"n\"}", 204, "");
        j = info();
        assert_null(json_object_get(j, "device_tree"));
        assert_int_equal(json_array_size(json_object_get(json_object_get(j, "config"), "disks")),
                         2);
        put("vm.remove-device", "{\"id\":\"n\"}", 204, "");
        put("vm.remove-device", "{\"id\":\"n\"}", 500,
            FAIL("The device could not be removed from the VM",
                 "\"No device with id \\\"n\\\" to remove\""));
        put("vm.delete", NULL, 204, "");
        get("vm.info", 404, NULL);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

static void test_states(void **state)
{
        static const char paused[] =
                FAIL("The VM could not be paused",
                     "\"Cannot pause VM\",\"Failed to pause migratable component\",\"Invalid "
                     "transition: InvalidStateTransition(Paused, Paused)\"");
        static const char running[] =
                FAIL("The VM could not resume",
                     "\"Cannot resume VM\",\"Failed to resume migratable component\",\"Invalid "
                     "transition: InvalidStateTransition(Running, Running)\"");
        struct vmm v;

        (void)state;
        knob("POWER_BUTTON", "ignore");
        v = vmm_start("");
        must_run(VM(COW, ""));
        expect_state("Running");
        put("vm.boot", NULL, 500, FAIL("The VM could not boot", "\"VM is already created\""));
        put("vm.resume", NULL, 500, running);
        put("vm.snapshot", "{\"destination_url\":\"file:///nope\"}", 500,
            FAIL("The VM could not be snapshotted",
                 "\"Cannot snapshot VM\",\"Failed to snapshot migratable component\",\"Trying to "
                 "snapshot while VM is running\""));
        put("vm.pause", NULL, 204, "");
        put("vm.pause", NULL, 500, paused);
        expect_state("Paused");
        put("vm.power-button", NULL, 204, "");
        put("vm.resume", NULL, 204, "");
        put("vm.pause", NULL, 204, "");
        put("vm.shutdown", NULL, 204, "");
        expect_state("Created");
        put("vm.shutdown", NULL, 500, FAIL("The VM could not shutdown", "\"VM is not running\""));
        put("vm.boot", NULL, 204, "");
        put("vm.reboot", NULL, 204, "");
        expect_state("Running");
        put("vm.delete", NULL, 204, "");
        put("vmm.shutdown", NULL, 200, "");
        assert_int_equal(vmm_wait(v), 0);
        knob("POWER_BUTTON", NULL);
}

/* Without its kernel there is a VM that never ran, and holds its devices. */
static void test_failed_boot(void **state)
{
        struct vmm v = vmm_start("");

        (void)state;
        put("vm.create", "{\"payload\":{\"kernel\":\"nope\"},\"console\":{\"mode\":\"Off\"}}", 204,
            "");
        put("vm.boot", NULL, 500,
            FAIL("The VM could not boot",
                 "\"Cannot open kernel file\",\"No such file or directory (os error 2)\""));
        expect_state("Created");
        assert_true(in_tree("__rng"));
        put("vm.boot", NULL, 500, FAIL("The VM could not boot", "\"VM is already created\""));
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

#define LAYER(id)                                                                                  \
        "{\"path\":\"layer.raw\",\"readonly\":true,\"image_type\":\"Raw\",\"id\":\"" id "\"}"

static void test_hotplug(void **state)
{
        struct vmm v = vmm_start("");

        (void)state;
        must_run(VM(COW, ",\"watchdog\":true"));
        put("vm.add-disk", LAYER("dd"), 200, "{\"id\":\"dd\",\"bdf\":\"0000:00:04.0\"}");
        put("vm.add-disk", "{\"path\":\"layer.raw\",\"readonly\":true,\"image_type\":\"Raw\"}", 200,
            "{\"id\":\"_disk1\",\"bdf\":\"0000:00:05.0\"}");
        put("vm.add-disk", LAYER("dd"), 500,
            FAIL("The disk could not be added to the VM",
                 "\"Failed to validate config\",\"Identifier dd is not unique\""));
        put("vm.add-disk", "{\"path\":\"cow.raw\",\"image_type\":\"Raw\"}", 500,
            FAIL("The disk could not be added to the VM", DEVMGR
                 "\"Cannot lock images of all block devices\",\"Failed to get Write lock for disk "
                 "image: cow.raw\",\"The file is already locked\""));
        put("vm.add-disk", "{\"path\":\"layer.raw\",\"readonly\":true,\"image_type\":\"Qcow2\"}",
            500,
            FAIL("The disk could not be added to the VM", DEVMGR
                 "\"Disk image type does not match expected type: specified = qcow2, detected = "
                 "raw\""));
        put("vm.add-net", "{\"tap\":\"abcdefghijklmnop\"}", 500,
            FAIL("The network device could not be added to the VM", DEVMGR
                 "\"Cannot create virtio-net device\",\"Failed to open taps\",\"Open tap device "
                 "failed\",\"Interface name too long (max length is 15): abcdefghijklmnop\""));
        put("vm.remove-device", "{\"id\":\"nope\"}", 500,
            FAIL("The device could not be removed from the VM",
                 DEVMGR "\"Failed to find device corresponding to the given identifier: nope\""));
        put("vm.remove-device", "{\"id\":\"__rng\"}", 500,
            FAIL("The device could not be removed from the VM",
                 DEVMGR "\"Not allowed to remove this type of device from the VM: rng\""));
        assert_true(in_tree("dd"));
        assert_true(in_tree("_virtio-pci-dd"));
        assert_true(in_tree("_virtio-pci-__watchdog"));
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* The guest that halts never lets a device go: it is out of the configuration, in the tree. */
static void test_pending_eject(void **state)
{
        struct vmm v;

        (void)state;
        knob("ACK", "never");
        v = vmm_start("");
        must_run(VM(COW, ""));
        put("vm.add-disk", LAYER("dd"), 200, NULL);
        put("vm.remove-device", "{\"id\":\"dd\"}", 204, "");
        assert_true(in_tree("dd"));
        put("vm.remove-device", "{\"id\":\"dd\"}", 500,
            FAIL("The device could not be removed from the VM",
                 DEVMGR "\"Failed to find device corresponding to the given identifier: dd\""));
        put("vm.add-disk", LAYER("dd"), 500,
            FAIL("The disk could not be added to the VM",
                 DEVMGR "\"Invalid identifier as it is not unique: dd\""));
        put("vm.pause", NULL, 204, "");
        put("vm.resume", NULL, 204, "");
        /* A reboot makes the devices of the configuration, and no others. */
        put("vm.reboot", NULL, 204, "");
        assert_false(in_tree("dd"));
        assert_int_equal(vmm_end(v, SIGTERM), 0);
        knob("ACK", NULL);
}

/* Thirty-one slots; a pending device keeps its own, a device that found none stays in the tree. */
static void test_slots(void **state)
{
        struct vmm v;

        (void)state;
        knob("ACK", "never");
        v = vmm_start("");
        must_run(VM(COW, ""));
        for (int i = 3; i <= 31; i++) {
                CC_FREE char *disk =
                        xasprintf("{\"path\":\"layer.raw\",\"readonly\":true,\"image_type\":"
                                  "\"Raw\",\"id\":\"d%d\"}",
                                  i);
                CC_FREE char *answer =
                        xasprintf("{\"id\":\"d%d\",\"bdf\":\"0000:00:%02x.0\"}", i, (unsigned)i);

                put("vm.add-disk", disk, 200, answer);
        }
        put("vm.remove-device", "{\"id\":\"d7\"}", 204, "");
        put("vm.add-disk", LAYER("e"), 500,
            FAIL("The disk could not be added to the VM", DEVMGR
                 "\"Failed to find an available PCI device ID\",\"Could not find an available "
                 "device slot on the PCI bus\""));
        assert_true(in_tree("e"));
        assert_false(in_tree("_virtio-pci-e"));
        assert_int_equal(vmm_end(v, SIGTERM), 0);
        knob("ACK", NULL);
}

/* Child processes of all its threads. */
static size_t children(struct vmm v)
{
        CC_FREE char *pattern = xasprintf("/proc/%d/task/*/children", (int)v.pid);
        CC_STRV struct cc_strv pids = { 0 };
        glob_t g;

        assert_int_equal(glob(pattern, 0, NULL, &g), 0);
        for (size_t i = 0; i < g.gl_pathc; i++) {
                CC_FREE char *text = NULL;
                size_t len;

                if (cc_read_file(g.gl_pathv[i], 4096, &text, &len, NULL) == 0)
                        cc_split(text, " ", &pids);
        }
        globfree(&g);
        return pids.len;
}

/* Consoles and sockets: a new PTY with every boot, sockets that collide and go. */
static void test_consoles(void **state)
{
        static const char vm[] = "{\"payload\":{\"kernel\":\"k\"},\"memory\":{\"size\":67108864},"
                                 "\"console\":{\"mode\":"
                                 "\"Pty\"},\"serial\":{\"mode\":\"Socket\",\"socket\":\"s.sock\"},"
                                 "\"vsock\":{\"cid\":3,"
                                 "\"socket\":\"v.sock\"}}";
        CC_JSON json_t *j = NULL;
        struct vmm v = vmm_start("");
        const char *pty;
        struct stat st;

        (void)state;
        must_run(vm);
        j = info();
        pty = json_string_value(
                json_object_get(json_object_get(json_object_get(j, "config"), "console"), "file"));
        assert_int_equal(stat(pty, &st), 0);
        assert_true(S_ISCHR(st.st_mode));
        /* A helper with the same command line belongs to it, and to nothing else. */
        assert_int_equal(children(v), 1);
        assert_int_equal(stat("s.sock", &st), 0);
        assert_int_equal(stat("v.sock", &st), 0);
        put("vm.shutdown", NULL, 204, "");
        assert_int_equal(stat("v.sock", &st), -1);
        put("vm.boot", NULL, 204, "");
        put("vm.delete", NULL, 204, "");
        assert_int_equal(stat("s.sock", &st), -1);
        /* What a crash left behind is in the way. */
        assert_int_equal(mknod("s.sock", S_IFREG | 0600, 0), 0);
        put("vm.create", vm, 500,
            FAIL("The VM could not be created",
                 "\"Error creating console devices\",\"Error creating console device\",\"Address "
                 "already in use (os error 98)\""));
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                vmm_test(test_without_vm),
                vmm_test(test_malformed_bodies),
                vmm_test(test_invalid_configurations),
                vmm_test(test_defaults),
                vmm_test(test_created),
                vmm_test(test_states),
                vmm_test(test_failed_boot),
                vmm_test(test_hotplug),
                vmm_test(test_pending_eject),
                vmm_test(test_slots),
                vmm_test(test_consoles),
        };

        no_knobs();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
