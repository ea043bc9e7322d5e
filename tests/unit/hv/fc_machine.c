/*
 * Firecracker's machine as requests, against golden files: one line a request. After a deliberate
 * change run the test with COCOON_UPDATE_GOLDEN=1 and read the diff. And the limits of a machine.
 */
#include "hv/fc/machine.h"

#include <string.h>

#include "base/id.h"
#include "unit.h"

#define MIB (INT64_C(1) << 20)

struct machine {
        struct vm_spec spec;
        struct hv_disk disks[20];
        struct hv_nic nics[20];
        struct fc_host host;
};

static void init(struct machine *m)
{
        *m = (struct machine){ .host = { .io_uring = true, .nic_mtu = true } };
        m->disks[0] = (struct hv_disk){
                .path = "/r/a.erofs", .format = "raw", .ro = true, .role = "layer"
        };
        m->disks[1] = (struct hv_disk){
                .path = "/r/b.erofs", .format = "raw", .ro = true, .role = "layer"
        };
        m->disks[2] = (struct hv_disk){
                .path = "/r/run/cow.raw", .format = "raw", .direct = true, .role = "cow"
        };
        m->disks[3] =
                (struct hv_disk){ .path = "/r/run/data-db.raw", .format = "raw", .role = "data" };
        m->nics[0] = (struct hv_nic){
                .tap = "tapID-0", .mac = "02:aa:bb:cc:dd:01", .num_queues = 2, .mtu = 1450
        };
        m->nics[1] = (struct hv_nic){ .tap = "tapID-1", .mac = "02:aa:bb:cc:dd:02" };
        m->spec = (struct vm_spec){
                .id = "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                .name = "web",
                .run_dir = "/r/run",
                .log_dir = "/r/log",
                .cpu = 2,
                .memory = 1024 * MIB,
                .kernel = "/r/vmlinux",
                .initrd = "/r/initrd.img",
                .cmdline = "console=ttyS0 rw",
                .disks = m->disks,
                .n_disks = 4,
                .nics = m->nics,
                .n_nics = 2,
        };
}

static void golden(const struct machine *m, const char *name)
{
        const char *root = getenv("COCOON_SOURCE_ROOT");
        CC_FREE char *path =
                xasprintf("%s/tests/unit/hv/golden/fc-%s.requests", root ? root : ".", name);
        FC_REQUESTS struct fc_requests q = { 0 };
        CC_BUF struct cc_buf got = { 0 };
        CC_FREE char *want = NULL;
        struct cc_err err = CC_ERR_INIT;

        assert_ok(fc_machine_requests(&m->spec, &m->host, &q, &err));
        for (size_t i = 0; i < q.n; i++)
                cc_buf_printf(&got, "%s %s %s\n", q.v[i].method, q.v[i].target, q.v[i].body);
        if (getenv("COCOON_UPDATE_GOLDEN"))
                assert_ok(cc_publish(path, got.data, got.len, 0644, &err));
        assert_ok(cc_read_file(path, 1 << 20, &want, NULL, &err));
        if (strcmp(want, got.data) != 0)
                fail_msg("differs from %s:\n%s", path, got.data);
}

static void full_machine(void **state)
{
        struct machine m;

        init(&m);
        golden(&m, "full");
}

/* Version and host take away what they do not know; below 256 MiB there is no balloon. */
static void bare_machine(void **state)
{
        struct machine m;

        init(&m);
        m.host = (struct fc_host){ 0 };
        m.spec.memory = 128 * MIB;
        m.spec.initrd = NULL;
        m.spec.cmdline = "";
        m.spec.n_nics = 0;
        m.spec.n_disks = 3;
        golden(&m, "bare");
        init(&m);
        m.spec.no_balloon = true;
        m.nics[0].mtu = 67;
        m.nics[1].mtu = 65536;
        golden(&m, "no-balloon");
}

static void odd_text(void **state)
{
        struct machine m;
        FC_REQUESTS struct fc_requests q = { 0 };
        struct cc_err err = CC_ERR_INIT;

        init(&m);
        m.disks[3].path = "/r/\"quoted\\\n\t\x01.raw";
        m.nics[0].tap = "tap\"";
        golden(&m, "odd-text");
        m.disks[3].path = "/r/\xff.raw";
        assert_int_equal(fc_machine_requests(&m.spec, &m.host, &q, &err), -CC_INVALID);
        assert_string_equal(err.msg, "PUT /drives/drive_3: a path or name is not valid UTF-8");
        assert_null(q.v);
        init(&m);
        m.spec.initrd = "\xff";
        assert_int_equal(fc_machine_requests(&m.spec, &m.host, &q, &err), -CC_INVALID);
}

static void ids(void **state)
{
        /* A name of letters would run out after z, or repeat itself. */
        static const struct {
                size_t i;
                const char *id;
        } rows[] = { { 0, "drive_0" },      { 25, "drive_25" },   { 26, "drive_26" },
                     { 27, "drive_27" },    { 701, "drive_701" }, { 702, "drive_702" },
                     { 9999, "drive_9999" } };
        char id[32];

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                fc_drive_id(rows[i].i, id);
                assert_string_equal(id, rows[i].id);
        }
        fc_nic_id(13, id);
        assert_string_equal(id, "eth13");
}

static void refuse(const struct machine *m, enum cc_class class, const char *text)
{
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(fc_machine_check(&m->spec, &err), -(int)class);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
}

static void features(void **state)
{
        struct machine m;
        struct cc_err err = CC_ERR_INIT;
        const struct {
                bool *flag;
                const char *name;
        } rows[] = {
                { &m.spec.windows, "--windows" },
                { &m.spec.shared_memory, "--shared-memory" },
                { &m.spec.hugepages, "--hugepages" },
                { &m.spec.mergeable, "--mergeable" },
                { &m.spec.no_watchdog, "--no-watchdog" },
        };

        init(&m);
        assert_ok(fc_machine_check(&m.spec, &err));
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                init(&m);
                *rows[i].flag = true;
                refuse(&m, CC_UNSUPPORTED, rows[i].name);
        }
        init(&m);
        m.spec.kernel = NULL;
        refuse(&m, CC_UNSUPPORTED, "requires OCI images (direct kernel boot)");
        init(&m);
        m.spec.cpu = 32;
        assert_ok(fc_machine_check(&m.spec, &err));
        m.spec.cpu = 33;
        refuse(&m, CC_UNSUPPORTED, "at most 32 vCPUs, got 33");
        init(&m);
        m.disks[3].format = "qcow2";
        refuse(&m, CC_UNSUPPORTED, "only raw disks");
        init(&m);
        m.nics[1].tap = NULL;
        refuse(&m, CC_UNSUPPORTED, "NIC 1: there is no user-mode network stack");
}

static void device_budget(void **state)
{
        struct machine m;
        struct cc_err err = CC_ERR_INIT;

        init(&m);
        for (size_t i = 4; i < 20; i++)
                m.disks[i] = m.disks[3];
        m.spec.n_nics = 1;
        m.spec.n_disks = 13;
        assert_ok(fc_machine_check(&m.spec, &err));
        m.spec.n_disks = 14;
        refuse(&m, CC_UNSUPPORTED,
               "14 disks + 1 NICs + 3 (balloon, entropy, vsock) = 18 devices, at most 17 fit");
        m.spec.no_balloon = true;
        assert_ok(fc_machine_check(&m.spec, &err));
        m.spec.n_nics = 2;
        m.spec.pci = true;
        assert_ok(fc_machine_check(&m.spec, &err));
        m.spec.pci = false;
        refuse(&m, CC_UNSUPPORTED,
               "14 disks + 2 NICs + 2 (entropy, vsock) = 18 devices, at most 17 fit");
}

/* What Firecracker adds to the line counts: 4 disks, 2 NICs, balloon, entropy, vsock. */
static void command_line_budget(void **state)
{
        struct machine m;
        struct cc_err err = CC_ERR_INIT;
        char line[2048];
        size_t most = FC_CMDLINE_MAX - 8 - 9 * 35;

        init(&m);
        memset(line, 'x', sizeof(line));
        line[most] = '\0';
        m.spec.cmdline = line;
        assert_ok(fc_machine_check(&m.spec, &err));
        line[most] = 'x';
        line[most + 1] = '\0';
        refuse(&m, CC_INVALID, "would be 2049 bytes long");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(full_machine),
                cmocka_unit_test(bare_machine),
                cmocka_unit_test(odd_text),
                cmocka_unit_test(ids),
                cmocka_unit_test(features),
                cmocka_unit_test(device_budget),
                cmocka_unit_test(command_line_budget),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
