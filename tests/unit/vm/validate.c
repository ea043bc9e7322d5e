/* What a create request may say: limits, names and exclusions with their texts (cli.md §4.2). */
#include "unit.h"

#include <string.h>
#include <unistd.h>

#include "vm/internal.h"

#define GIB (INT64_C(1) << 30)

static const struct hv_driver full = {
        .name = "full",
        .caps = ~0u,
};
static const struct hv_driver bare = { .name = "firecracker", .caps = HV_CAP_DIRECT_BOOT };

static struct vm_request good(void)
{
        return (struct vm_request){
                .image = "tiny",
                .driver = "",
                .name = "",
                .cpu = 1,
                .memory = GIB,
                .storage = 10 * GIB,
                .nics = 1,
                .network = "",
                .bridge = "",
                .user = "root",
                .password = "cocoon",
        };
}

static void expect(const struct vm_request *req, const struct hv_driver *drv, const char *want)
{
        struct cc_err err = CC_ERR_INIT;
        int r = vm_validate(req, drv, &err);

        if (!want) {
                if (r != 0)
                        fail_msg("refused: %s", err.msg);
                return;
        }
        assert_true(r < 0);
        if (!strstr(err.msg, want))
                fail_msg("got \"%s\", want \"%s\"", err.msg, want);
}

#define REFUSES(change, text)                                                                      \
        do {                                                                                       \
                struct vm_request req = good();                                                    \
                change;                                                                            \
                expect(&req, &full, text);                                                         \
        } while (0)

static void limits(void **state)
{
        char cores[64];

        REFUSES((void)req, NULL);
        REFUSES(req.cpu = 0, "cpu must be at least 1, got 0");
        (void)snprintf(cores, sizeof(cores), "requested 4096 vCPUs exceeds host cores (%ld)",
                       sysconf(_SC_NPROCESSORS_ONLN));
        REFUSES(req.cpu = 4096, cores);
        REFUSES(req.memory = 512 << 20, NULL);
        REFUSES(req.memory = (512 << 20) - 1, "--memory 536870911B below 512MiB minimum");
        REFUSES(req.memory = 100 << 20, "--memory 100MiB below 512MiB minimum");
        REFUSES(req.storage = 9 * GIB, "--storage 9GiB below 10GiB minimum");
        REFUSES(req.nics = 0, NULL);
        REFUSES(req.nics = -1, "nics must be between 0 and");
        REFUSES(req.nics = INT64_MAX, "nics must be between 0 and");
        REFUSES(req.queue_size = -1, "queue size must not be negative, got -1");
        REFUSES(req.disk_queue_size = -7, "disk queue size must not be negative, got -7");
        REFUSES(req.cpu_weight = 5, "--cpu-weight");
}

static void names(void **state)
{
        REFUSES(req.name = "-x", "invalid VM name \"-x\"");
        REFUSES(req.name = "a/b", "invalid VM name");
        REFUSES(req.name = "Web_1.x-y", NULL);
        REFUSES(req.user = "Root", "invalid user \"Root\"");
        REFUSES(req.password = "a;b", "password contains a character");
        REFUSES(req.password = "a'b", "password contains a character");
        REFUSES(req.password = "a\nb", "password contains a character");
        REFUSES(req.password = "", NULL);
}

static void the_password_is_never_shown(void **state)
{
        struct vm_request req = good();
        struct cc_err err = CC_ERR_INIT;

        req.password = "sec;ret";
        assert_true(vm_validate(&req, &full, &err) < 0);
        assert_null(strstr(err.msg, "sec"));
        assert_null(strstr(err.hint, "sec"));
}

static void exclusions(void **state)
{
        struct vm_request fc = good();

        REFUSES((req.bridge = "br0", req.network = "n"),
                "--bridge and --network are mutually exclusive");
        fc.windows = true;
        expect(&fc, &bare, "--windows: backend firecracker: backend does not support --windows");
        fc.driver = "firecracker";
        expect(&fc, &bare, "--fc and --windows are mutually exclusive: ");
        fc.windows = false;
        fc.shared_memory = true;
        expect(&fc, &bare, "--fc and --shared-memory are mutually exclusive: ");
        fc.shared_memory = false;
        fc.hugepages = true;
        expect(&fc, &bare, "--fc and --hugepages are mutually exclusive: ");
}

static void labels_and_ports(void **state)
{
        struct cc_strv list = { 0 };
        struct vm_request req = good();

        cc_strv_add(&list, "tier=web");
        cc_strv_add(&list, "empty=");
        req.labels = &list;
        expect(&req, &full, NULL);
        cc_strv_add(&list, "novalue");
        expect(&req, &full, "label \"novalue\" is not key=value");
        cc_strv_free(&list);
        cc_strv_add(&list, "=x");
        expect(&req, &full, "label \"=x\" is not key=value");
        cc_strv_free(&list);

        req = good();
        cc_strv_add(&list, "8080:80");
        cc_strv_add(&list, "8081:80");
        req.publish = &list;
        expect(&req, &full, NULL);
        cc_strv_add(&list, "8080:81");
        expect(&req, &full, "host port 8080 is published twice");
        cc_strv_free(&list);
        cc_strv_add(&list, "0:80");
        expect(&req, &full, "0:80");
        cc_strv_free(&list);
}

static void data_disk_texts(void **state)
{
        static const struct {
                struct vm_data_disk disk;
                const char *want;
        } rows[] = {
                { { .size = 0 }, "--data-disk: size= required" },
                { { .size = 8 << 20 }, "--data-disk: size 8MiB below 16MiB minimum" },
                { { .size = GIB, .name = (char *)"X" }, "--data-disk: invalid name \"X\"" },
                { { .size = GIB, .name = (char *)"cocoon-x" }, "--data-disk: invalid name" },
                { { .size = GIB, .fstype = (char *)"xfs" },
                  "--data-disk: unsupported fstype \"xfs\"" },
                { { .size = GIB, .fstype = (char *)"none", .mount = (char *)"/x" },
                  "--data-disk: fstype=none requires empty mount" },
                { { .size = GIB, .mount = (char *)"x" },
                  "--data-disk: mount \"x\" is not absolute" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct vm_request req = good();
                struct vm_data_disk disk = rows[i].disk;
                struct record_array disks = { 0 };
                int64_t *sizes = NULL;
                struct cc_err err = CC_ERR_INIT;

                req.data_disks = &disk;
                req.n_data_disks = 1;
                assert_true(vm_data_disks(&req, &disks, &sizes, &err) < 0);
                if (!strstr(err.msg, rows[i].want))
                        fail_msg("got \"%s\", want \"%s\"", err.msg, rows[i].want);
                assert_int_equal(disks.len, 0);
                assert_null(sizes);
        }
}

static void data_disk_defaults(void **state)
{
        struct vm_data_disk disks[] = {
                { .size = GIB, .direct_io = -1 },
                { .size = 2 * GIB, .name = (char *)"data1", .mount = (char *)"" },
                { .size = 3 * GIB, .fstype = (char *)"none", .direct_io = 1 },
        };
        struct vm_request req = good();
        struct vm_record vm = VM_RECORD_INIT;
        int64_t *sizes = NULL;
        struct cc_err err = CC_ERR_INIT;

        req.data_disks = disks;
        req.n_data_disks = 3;
        assert_ok(vm_data_disks(&req, &vm.storage_configs, &sizes, &err));
        assert_int_equal(vm.storage_configs.len, 3);
        assert_string_equal(vm_disk_at(&vm, 0)->serial, "data2"); /* data1 is asked for below */
        assert_string_equal(vm_disk_at(&vm, 0)->mount_point, "/mnt/data2");
        assert_string_equal(vm_disk_at(&vm, 0)->fstype, "ext4");
        assert_int_equal(vm_disk_at(&vm, 0)->direct_io, -1);
        assert_string_equal(vm_disk_at(&vm, 1)->serial, "data1");
        assert_true(cc_isempty(vm_disk_at(&vm, 1)->mount_point));
        assert_string_equal(vm_disk_at(&vm, 2)->serial, "data3");
        assert_true(cc_isempty(vm_disk_at(&vm, 2)->mount_point));
        assert_int_equal(vm_disk_at(&vm, 2)->direct_io, 1);
        assert_int_equal(sizes[2], 3 * GIB);
        free(sizes);
        vm_record_clear(&vm);
}

static void data_disk_duplicates(void **state)
{
        struct vm_data_disk disks[] = { { .size = GIB, .name = (char *)"a" },
                                        { .size = GIB, .name = (char *)"a" } };
        struct vm_request req = good();
        struct record_array out = { 0 };
        int64_t *sizes = NULL;
        struct cc_err err = CC_ERR_INIT;

        req.data_disks = disks;
        req.n_data_disks = 2;
        assert_true(vm_data_disks(&req, &out, &sizes, &err) < 0);
        assert_string_equal(err.msg, "--data-disk: name \"a\" duplicated");
        req.n_data_disks = 1000000;
        assert_true(vm_data_disks(&req, &out, &sizes, &err) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(limits),
                cmocka_unit_test(names),
                cmocka_unit_test(the_password_is_never_shown),
                cmocka_unit_test(exclusions),
                cmocka_unit_test(labels_and_ports),
                cmocka_unit_test(data_disk_texts),
                cmocka_unit_test(data_disk_defaults),
                cmocka_unit_test(data_disk_duplicates),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
