/*
 * QEMU's command line against golden files, one argument a line. After a deliberate change run the
 * test with COCOON_UPDATE_GOLDEN=1 and read the diff.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "hv/qemu/argv.h"

#define GIB (INT64_C(1) << 30)

struct machine {
        struct vm_spec spec;
        struct hv_disk disks[QEMU_MAX_DISKS + 1];
        struct hv_nic nics[QEMU_MAX_NICS];
        struct hv_forward forwards[2];
        struct qemu_host host;
        struct qemu_bindings bind;
        struct cc_strv names; /* owns generated strings */
};

static void init(struct machine *m)
{
        *m = (struct machine){
                .host = { .version = "7.2.22", .machine = "pc-q35-7.2", .fw_size = 262144 },
                .bind = { .binary = "qemu-system-x86_64",
                          .fw_code = "/usr/share/seabios/bios-256k.bin",
                          .uuid = "01234567-89ab-4cde-8f01-23456789abcd",
                          .generation = "fedcba98-7654-4321-8fed-cba987654321" },
        };
        m->disks[0] = (struct hv_disk){ .path = "/r/oci/blobs/aa.erofs",
                                        .serial = "cocoon-layer0",
                                        .format = "raw",
                                        .ro = true,
                                        .role = "layer" };
        m->disks[1] = (struct hv_disk){ .path = "/r/run/qemu/ID/cow.raw",
                                        .serial = "cocoon-cow",
                                        .format = "raw",
                                        .direct = true,
                                        .role = "cow" };
        m->spec = (struct vm_spec){
                .id = "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                .name = "web",
                .run_dir = "/r/run/qemu/ID",
                .log_dir = "/r/log/qemu/ID",
                .cpu = 2,
                .memory = GIB,
                .kernel = "/r/oci/boot/aa/vmlinuz",
                .initrd = "/r/oci/boot/aa/initrd.img",
                .cmdline = "console=ttyS0 loglevel=3 boot=cocoon-overlay "
                           "cocoon.layers=cocoon-layer0 cocoon.cow=cocoon-cow rw",
                .disks = m->disks,
                .n_disks = 2,
                .nics = m->nics,
                .forwards = m->forwards,
        };
        m->bind.spec = &m->spec;
}

static void clear(struct machine *m)
{
        cc_strv_free(&m->names);
}

static int build(struct machine *m, struct cc_strv *argv, struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe r = { 0 };
        bool clamped;

        qemu_recipe_make(&m->spec, &m->host, &r, &clamped);
        return qemu_argv(&r, &m->bind, argv, err);
}

/* Every value of a JSON option must parse, and no device may appear twice at an address. */
static void check_json(const struct cc_strv *argv)
{
        CC_JSON json_t *seen = json_object();

        for (size_t i = 1; i < argv->len; i++) {
                CC_JSON json_t *j = NULL;
                CC_FREE char *place = NULL;
                const char *bus;
                const char *addr;

                if (argv->v[i][0] != '{')
                        continue;
                assert_int_equal(cc_json_parse(argv->v[i], strlen(argv->v[i]), "option", &j, NULL),
                                 0);
                bus = json_string_value(json_object_get(j, "bus"));
                addr = json_string_value(json_object_get(j, "addr"));
                if (!bus || !addr)
                        continue;
                place = xasprintf("%s %s", bus, addr);
                assert_null(json_object_get(seen, place));
                json_object_set_new(seen, place, json_true());
        }
}

static void golden(struct machine *m, const char *name)
{
        const char *root = getenv("COCOON_SOURCE_ROOT");
        CC_FREE char *path = xasprintf("%s/tests/unit/hv/golden/%s.argv", root ? root : ".", name);
        CC_STRV struct cc_strv argv = { 0 };
        CC_FREE char *lines = NULL;
        CC_FREE char *got = NULL;
        CC_FREE char *want = NULL;
        struct cc_err err = CC_ERR_INIT;

        if (build(m, &argv, &err) < 0)
                fail_msg("%s", err.msg);
        check_json(&argv);
        lines = cc_strv_join(&argv, "\n");
        got = xasprintf("%s\n", lines);
        if (getenv("COCOON_UPDATE_GOLDEN"))
                assert_int_equal(cc_publish(path, got, strlen(got), 0644, NULL), 0);
        if (cc_read_file(path, 1 << 20, &want, NULL, &err) < 0)
                fail_msg("%s", err.msg);
        if (strcmp(want, got) != 0)
                fail_msg("differs from %s:\n%s", path, got);
}

static void user_nic(struct machine *m)
{
        m->nics[0] =
                (struct hv_nic){ .mac = "02:00:00:00:00:01", .num_queues = 4, .queue_size = 512 };
        m->spec.n_nics = 1;
}

static void test_direct(void **state)
{
        struct machine m;

        (void)state;
        init(&m);
        golden(&m, "direct");
        user_nic(&m);
        m.forwards[0] = (struct hv_forward){ 8080, 80 };
        m.forwards[1] = (struct hv_forward){ 2222, 22 };
        m.spec.n_forwards = 2;
        golden(&m, "direct-user-net");
        clear(&m);
}

static void test_taps(void **state)
{
        struct machine m;

        (void)state;
        init(&m);
        for (size_t i = 0; i < QEMU_MAX_NICS; i++) {
                cc_strv_addf(&m.names, "tapABCDEFGH-%zu", i);
                cc_strv_addf(&m.names, "02:00:00:00:00:%02zx", i);
                m.nics[i] = (struct hv_nic){ .tap = m.names.v[2 * i],
                                             .mac = m.names.v[2 * i + 1],
                                             .num_queues = i == 7 ? 2 : 4,
                                             .queue_size = 512,
                                             .mtu = i == 0 ? 1450 : 0 };
        }
        m.spec.n_nics = QEMU_MAX_NICS;
        golden(&m, "direct-8-taps");
        m.host.kvm = true;
        m.bind.vhost_net = true;
        m.spec.n_nics = 2;
        golden(&m, "kvm-vhost");
        clear(&m);
}

static void test_uefi(void **state)
{
        struct machine m;

        (void)state;
        init(&m);
        m.spec.kernel = m.spec.initrd = m.spec.cmdline = NULL;
        m.disks[0] = (struct hv_disk){ .path = "/r/run/qemu/ID/overlay.qcow2",
                                       .format = "qcow2",
                                       .direct = true,
                                       .boot = true,
                                       .role = "cow" };
        m.disks[1] = (struct hv_disk){
                .path = "/r/run/qemu/ID/cidata.img", .format = "raw", .ro = true, .role = "cidata"
        };
        m.bind.fw_code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
        m.bind.fw_vars = "/r/run/qemu/ID/efivars.fd";
        m.bind.io_uring = true;
        user_nic(&m);
        golden(&m, "uefi");
        m.host.kvm = true;
        m.host.balloon = true;
        m.spec.windows = true;
        m.spec.no_watchdog = true;
        m.spec.n_nics = 0;
        golden(&m, "uefi-windows-kvm");
        clear(&m);
}

static void test_40_layers(void **state)
{
        struct machine m;

        (void)state;
        init(&m);
        for (size_t i = 0; i < 40; i++) {
                cc_strv_addf(&m.names, "/r/oci/blobs/%064zx.erofs", i);
                cc_strv_addf(&m.names, "cocoon-layer%zu", i);
                m.disks[i] = (struct hv_disk){ .path = m.names.v[2 * i],
                                               .serial = m.names.v[2 * i + 1],
                                               .format = "raw",
                                               .ro = true,
                                               .role = "layer" };
        }
        m.disks[40] = (struct hv_disk){ .path = "/r/run/qemu/ID/cow.raw",
                                        .serial = "cocoon-cow",
                                        .format = "raw",
                                        .role = "cow" };
        m.spec.n_disks = 41;
        golden(&m, "direct-40-layers");
        clear(&m);
}

/* What a user or a file system can put into strings stays one value. */
static void test_hostile_strings(void **state)
{
        struct machine m;
        CC_STRV struct cc_strv argv = { 0 };
        CC_FREE char *needle = NULL;
        struct cc_err err = CC_ERR_INIT;
        bool name = false;
        bool disk = false;
        bool log = false;

        (void)state;
        init(&m);
        m.spec.name = "a,debug-threads=off";
        m.spec.log_dir = "/r/log,logappend=off";
        m.disks[1].path = "/r/\",\"x\":\"y";
        assert_int_equal(build(&m, &argv, &err), 0);
        check_json(&argv);
        needle = qemu_argv_needle(m.spec.log_dir);
        for (size_t i = 0; i < argv.len; i++) {
                name = name || cc_streq(argv.v[i], "guest=a,,debug-threads=off,debug-threads=on");
                disk = disk || strstr(argv.v[i], "\"/r/\\\",\\\"x\\\":\\\"y\"");
                log = log || (cc_startswith(argv.v[i], "socket,id=ser0") &&
                              cc_endswith(argv.v[i], needle));
        }
        assert_true(name && disk && log);
        assert_string_equal(needle, "logfile=/r/log,,logappend=off/console.log,logappend=on");

        m.disks[1].path = "/r/\xff\xfe";
        cc_strv_free(&argv);
        assert_int_equal(build(&m, &argv, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "UTF-8"));
        assert_int_equal(argv.len, 0);
        clear(&m);
}

static void test_recipe_must_fit(void **state)
{
        struct machine m;
        QEMU_RECIPE_CLEANUP struct qemu_recipe r = { 0 };
        CC_STRV struct cc_strv argv = { 0 };
        struct cc_err err = CC_ERR_INIT;
        bool clamped;

        (void)state;
        init(&m);
        user_nic(&m);
        qemu_recipe_make(&m.spec, &m.host, &r, &clamped);
        m.nics[0].tap = "tap0";
        assert_int_equal(qemu_argv(&r, &m.bind, &argv, &err), -CC_INVALID);
        m.spec.n_nics = 0;
        assert_int_equal(qemu_argv(&r, &m.bind, &argv, &err), -CC_INVALID);
        m.nics[0].tap = NULL;
        m.spec.n_nics = 1;
        m.spec.n_disks = 1;
        assert_int_equal(qemu_argv(&r, &m.bind, &argv, &err), -CC_INVALID);
        assert_int_equal(argv.len, 0);
        clear(&m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_direct),
                cmocka_unit_test(test_taps),
                cmocka_unit_test(test_uefi),
                cmocka_unit_test(test_40_layers),
                cmocka_unit_test(test_hostile_strings),
                cmocka_unit_test(test_recipe_must_fit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
