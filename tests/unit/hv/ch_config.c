/*
 * Cloud Hypervisor's machine in its two forms against golden files: <name>.argv, one argument a
 * line, and <name>.json. After a deliberate change run the test with COCOON_UPDATE_GOLDEN=1 and
 * read the diff.
 */
#include "hv/ch/config.h"

#include <string.h>

#include "hv/ch/install.h"
#include "unit.h"

#define GIB (INT64_C(1) << 30)

struct machine {
        struct vm_spec spec;
        struct hv_disk disks[CH_SLOTS + 1];
        struct hv_nic nics[CH_SLOTS + 1];
        struct ch_host host;
        struct cc_strv names;
};

/* Not the first processors, and not without a gap: as on a host with an affinity mask. */
static const int some_cpus[] = { 2, 3, 7 };

static void init(struct machine *m)
{
        *m = (struct machine){
                .host = { .firmware = "/r/firmware/CLOUDHV.fd",
                          .api_socket = "/r/run/cloudhypervisor/ID/api.sock",
                          .serial_socket = "/r/run/cloudhypervisor/ID/serial.sock",
                          .online_cpus = 16,
                          .cpus = some_cpus,
                          .n_cpus = CC_ARRAY_LEN(some_cpus) },
        };
        m->disks[0] = (struct hv_disk){ .path = "/r/oci/blobs/aa.erofs",
                                        .serial = "cocoon-layer0",
                                        .format = "raw",
                                        .ro = true,
                                        .role = "layer" };
        m->disks[1] = (struct hv_disk){ .path = "/r/run/cloudhypervisor/ID/cow.raw",
                                        .serial = "cocoon-cow",
                                        .format = "raw",
                                        .direct = true,
                                        .role = "cow" };
        m->nics[0] = (struct hv_nic){
                .tap = "tapID-0", .mac = "02:AA:bb:cc:dd:ee", .num_queues = 4, .queue_size = 0
        };
        m->spec = (struct vm_spec){
                .id = "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                .name = "web",
                .run_dir = "/r/run/cloudhypervisor/ID",
                .log_dir = "/r/log/cloudhypervisor/ID",
                .cpu = 2,
                .memory = 2 * GIB,
                .kernel = "/r/oci/boot/aa/vmlinuz",
                .initrd = "/r/oci/boot/aa/initrd.img",
                .cmdline = "console=hvc0 loglevel=3 boot=cocoon-overlay "
                           "cocoon.layers=cocoon-layer0 cocoon.cow=cocoon-cow rw",
                .disks = m->disks,
                .n_disks = 2,
                .nics = m->nics,
                .n_nics = 1,
        };
}

static void uefi(struct machine *m)
{
        m->spec.kernel = m->spec.initrd = m->spec.cmdline = NULL;
        m->disks[0] = (struct hv_disk){ .path = "/r/run/cloudhypervisor/ID/overlay.qcow2",
                                        .format = "qcow2",
                                        .boot = true,
                                        .direct = true, /* which an overlay does not get */
                                        .role = "cow" };
        m->disks[1] = (struct hv_disk){ .path = "/r/run/cloudhypervisor/ID/data-db.raw",
                                        .serial = "db",
                                        .format = "raw",
                                        .direct = true,
                                        .role = "data" };
        m->disks[2] = (struct hv_disk){ .path = "/r/run/cloudhypervisor/ID/cidata.img",
                                        .format = "raw",
                                        .ro = true,
                                        .role = "cidata" };
        m->spec.n_disks = 3;
}

static void compare(const char *name, const char *ext, const char *got)
{
        const char *root = getenv("COCOON_SOURCE_ROOT");
        CC_FREE char *path =
                xasprintf("%s/tests/unit/hv/golden/%s.%s", root ? root : ".", name, ext);
        CC_FREE char *want = NULL;
        struct cc_err err = CC_ERR_INIT;

        if (getenv("COCOON_UPDATE_GOLDEN"))
                assert_ok(cc_publish(path, got, strlen(got), 0644, &err));
        assert_ok(cc_read_file(path, 1 << 20, &want, NULL, &err));
        if (strcmp(want, got) != 0)
                fail_msg("differs from %s:\n%s", path, got);
}

static void golden_of(struct ch_config *c, const char *name)
{
        struct cc_err err = CC_ERR_INIT;
        CC_STRV struct cc_strv argv = { 0 };
        CC_JSON json_t *j = NULL;
        CC_FREE char *lines = NULL;
        CC_FREE char *text = NULL;
        CC_FREE char *json = NULL;

        assert_ok(ch_config_argv(c, "cloud-hypervisor", &argv, &err));
        lines = cc_strv_join(&argv, "\n");
        text = xasprintf("%s\n", lines);
        compare(name, "argv", text);
        if (c->serial == CH_TTY_TTY || c->console == CH_TTY_TTY)
                return;
        assert_ok(ch_config_json(c, &j, &err));
        json = cc_json_pretty(j);
        compare(name, "json", json);
}

static void golden(const struct machine *m, const char *name)
{
        struct cc_err err = CC_ERR_INIT;
        CH_CONFIG struct ch_config c = { 0 };

        assert_ok(ch_config_make(&m->spec, &m->host, &c, &err));
        golden_of(&c, name);
}

static void test_direct(void **state)
{
        struct machine m;

        init(&m);
        golden(&m, "ch-direct");
}

static void test_uefi(void **state)
{
        struct machine m;

        init(&m);
        uefi(&m);
        golden(&m, "ch-uefi");
}

static void test_windows(void **state)
{
        struct machine m;

        init(&m);
        uefi(&m);
        m.spec.n_disks = 1;
        m.spec.n_nics = 0;
        m.spec.windows = true;
        m.spec.cpu = 4;
        golden(&m, "ch-windows");
}

/* Every switch that is off by default, one vCPU, no NIC, little memory, sizes of its own. */
static void test_options(void **state)
{
        struct machine m;

        init(&m);
        m.spec.cpu = 1;
        m.spec.memory = 255 << 20; /* too little for a balloon */
        m.spec.shared_memory = m.spec.hugepages = m.spec.no_watchdog = true;
        m.spec.disk_queue_size = 128;
        m.spec.n_nics = 0;
        golden(&m, "ch-options");
}

static void test_mergeable(void **state)
{
        struct machine m;

        init(&m);
        m.spec.mergeable = m.spec.no_balloon = true;
        m.spec.initrd = NULL;
        m.spec.n_disks = 0;
        m.nics[0].queue_size = 1024;
        m.nics[0].num_queues = 0;
        golden(&m, "ch-mergeable");
}

/* Commas and brackets structure the flags unless they are quoted; JSON needs no care. */
static void test_odd_paths(void **state)
{
        struct machine m;

        init(&m);
        m.disks[0].path = "/r/a,b[1]=c/layer.erofs";
        m.disks[1].path = "/r/with space/cow.raw";
        golden(&m, "ch-odd-paths");
}

static void test_terminal(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CH_CONFIG struct ch_config direct = { 0 };
        CH_CONFIG struct ch_config firmware = { 0 };
        struct machine m;

        init(&m);
        assert_ok(ch_config_make(&m.spec, &m.host, &direct, &err));
        ch_config_on_terminal(&direct);
        golden_of(&direct, "ch-terminal-direct");
        uefi(&m);
        assert_ok(ch_config_make(&m.spec, &m.host, &firmware, &err));
        ch_config_on_terminal(&firmware);
        golden_of(&firmware, "ch-terminal-uefi");
}

/* What only `vm debug` asks for. */
static void test_debug_sizes(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CH_CONFIG struct ch_config c = { 0 };
        struct machine m;

        init(&m);
        m.spec.max_cpu = 8;
        m.spec.balloon = 100 << 20;
        assert_ok(ch_config_make(&m.spec, &m.host, &c, &err));
        assert_int_equal(c.max_vcpus, 8);
        assert_int_equal(c.balloon, 100 << 20);
        m.spec.balloon = m.spec.memory;
        {
                CH_CONFIG struct ch_config refused = { 0 };

                assert_int_equal(ch_config_make(&m.spec, &m.host, &refused, &err), -CC_INVALID);
        }
}

static void test_affinity(void **state)
{
        struct machine m;
        struct cc_err err = CC_ERR_INIT;
        CH_CONFIG struct ch_config c = { 0 };
        CC_JSON json_t *j = NULL;

        /* Without a mask nothing is pinned; the host may have fewer CPUs than it says. */
        init(&m);
        m.host.n_cpus = 0;
        m.host.online_cpus = 1;
        assert_ok(ch_config_make(&m.spec, &m.host, &c, &err));
        assert_int_equal(c.max_vcpus, 2);
        assert_ok(ch_disk_json(&c, &c.disks[1], &j, &err));
        assert_null(json_object_get(j, "queue_affinity"));
}

/* Returns the class of the refusal. */
static int refused(const struct machine *m, const char *says)
{
        struct cc_err err = CC_ERR_INIT;
        CH_CONFIG struct ch_config c = { 0 };
        CC_STRV struct cc_strv argv = { 0 };
        int r = ch_config_make(&m->spec, &m->host, &c, &err);

        if (r == 0)
                r = ch_config_argv(&c, "cloud-hypervisor", &argv, &err);
        if (r == 0 || !strstr(err.msg, says))
                fail_msg("expected \"%s\", got %d \"%s\"", says, r, err.msg);
        assert_int_equal(argv.len, 0);
        return r;
}

static void test_refusals(void **state)
{
        struct machine m;

        init(&m);
        m.disks[1].format = "vhdx";
        assert_int_equal(refused(&m, "format \"vhdx\" is not known"), -CC_INVALID);
        m.disks[1].format = NULL;
        assert_int_equal(refused(&m, "format \"\" is not known"), -CC_INVALID);
        init(&m);
        m.disks[1].serial = "123456789012345678901";
        assert_int_equal(refused(&m, "longer than 20 bytes"), -CC_INVALID);
        init(&m);
        m.disks[0].path = "/r/quo\"te";
        assert_int_equal(refused(&m, "quotation mark"), -CC_INVALID);
        init(&m);
        m.spec.disk_queue_size = 2;
        assert_int_equal(refused(&m, "disk queue size 2 is not a power of two"), -CC_INVALID);
        m.spec.disk_queue_size = 65536;
        assert_int_equal(refused(&m, "disk queue size 65536"), -CC_INVALID);
        init(&m);
        m.nics[0].queue_size = 500;
        assert_int_equal(refused(&m, "network queue size 500 is not"), -CC_INVALID);
        init(&m);
        m.nics[0].num_queues = 6;
        assert_int_equal(refused(&m, "a pair for each of 2 vCPUs"), -CC_INVALID);
        init(&m);
        m.nics[0].tap = NULL;
        assert_int_equal(refused(&m, "no user-mode network"), -CC_UNSUPPORTED);
        init(&m);
        m.spec.mergeable = m.spec.shared_memory = true;
        assert_int_equal(refused(&m, "--mergeable and --shared-memory"), -CC_INVALID);
        m.spec.shared_memory = false;
        m.spec.hugepages = true;
        assert_int_equal(refused(&m, "--mergeable and --hugepages"), -CC_INVALID);
}

/* 31 slots: rng, console, balloon and watchdog take four by default. */
static void test_slots(void **state)
{
        struct machine m;
        struct cc_err err = CC_ERR_INIT;

        init(&m);
        for (size_t i = 0; i < CH_SLOTS; i++)
                m.disks[i] = m.disks[0];
        m.spec.n_disks = CH_SLOTS - 5;
        golden(&m, "ch-full");
        m.spec.n_disks++;
        assert_int_equal(refused(&m, "27 disks, 1 NICs and 4 other devices need more than the 31"),
                         -CC_UNSUPPORTED);
        m.spec.no_watchdog = true;
        {
                CH_CONFIG struct ch_config c = { 0 };

                assert_ok(ch_config_make(&m.spec, &m.host, &c, &err));
        }
        m.spec.n_disks++;
        assert_int_equal(refused(&m, "PCI slots"), -CC_UNSUPPORTED);
}

static void test_not_utf8(void **state)
{
        struct machine m;
        struct cc_err err = CC_ERR_INIT;
        CH_CONFIG struct ch_config c = { 0 };
        json_t *j = NULL;

        init(&m);
        m.disks[1].path = "/r/\xff.raw";
        assert_ok(ch_config_make(&m.spec, &m.host, &c, &err));
        assert_int_equal(ch_config_json(&c, &j, &err), -CC_INVALID);
        assert_null(j);
}

static void test_net_id(void **state)
{
        CC_FREE char *id = ch_net_id("02:AA:bb:Cc:0d:ee");

        assert_string_equal(id, "cocoon-net-02aabbcc0dee");
}

static void test_version(void **state)
{
        static const struct {
                const char *text, *version;
                int major, minor;
        } rows[] = {
                { "cloud-hypervisor v53.0\n", "53.0", 53, 0 },
                { "cloud-hypervisor v53.0.1\nfeatures: kvm\n", "53.0.1", 53, 0 },
                { "cloud-hypervisor v52.1-4-gabc123-dirty", "52.1-4-gabc123-dirty", 52, 1 },
                { "cloud-hypervisor 54", "54", 54, 0 },
                { "cloud-hypervisor v9.0\n", "9.0", 9, 0 },
                { "cloud-hypervisor vdev\n", "unknown", CH_MIN_MAJOR, CH_MIN_MINOR },
                { "cloud-hypervisor \n", "unknown", CH_MIN_MAJOR, CH_MIN_MINOR },
        };
        CH_INSTALL struct ch_install other = { 0 };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CH_INSTALL struct ch_install v = { 0 };

                assert_int_equal(ch_version_parse(rows[i].text, &v), 0);
                assert_string_equal(v.version, rows[i].version);
                assert_int_equal(v.major, rows[i].major);
                assert_int_equal(v.minor, rows[i].minor);
        }
        assert_int_equal(ch_version_parse("QEMU emulator version 7.2", &other), -CC_INVALID);
        assert_int_equal(ch_version_parse("", &other), -CC_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_direct),      cmocka_unit_test(test_uefi),
                cmocka_unit_test(test_windows),     cmocka_unit_test(test_options),
                cmocka_unit_test(test_mergeable),   cmocka_unit_test(test_odd_paths),
                cmocka_unit_test(test_terminal),    cmocka_unit_test(test_affinity),
                cmocka_unit_test(test_debug_sizes), cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_slots),       cmocka_unit_test(test_not_utf8),
                cmocka_unit_test(test_net_id),      cmocka_unit_test(test_version),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
