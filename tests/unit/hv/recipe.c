/* qemu.json: what a spec becomes, the round trip, and refusals of what came from elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/json.h"
#include "hv/qemu/recipe.h"

static const struct hv_disk disks[] = {
        { .path = "/r/oci/blobs/00ff.erofs",
          .serial = "cocoon-layer0",
          .format = "raw",
          .ro = true,
          .role = "layer" },
        { .path = "/r/run/cow.raw", .serial = "cocoon-cow", .format = "raw", .role = "cow" },
        { .path = "/r/run/data-d.raw",
          .serial = "a-serial-of-more-than-20-bytes",
          .format = "raw",
          .role = "data" },
};
static const struct hv_nic nics[] = {
        { .mac = "02:00:00:00:00:01", .num_queues = 8, .queue_size = 512 },
        { .tap = "t0",
          .mac = "02:00:00:00:00:02",
          .num_queues = 8,
          .queue_size = 1000,
          .mtu = 1450 },
};

static const struct qemu_host host = { .version = "7.2.22",
                                       .machine = "pc-q35-7.2",
                                       .fw_size = 262144 };

static struct vm_spec spec(void)
{
        return (struct vm_spec){
                .cpu = 4,
                .memory = 1000000000,
                .kernel = "/k",
                .disks = disks,
                .n_disks = CC_ARRAY_LEN(disks),
                .nics = nics,
                .n_nics = CC_ARRAY_LEN(nics),
        };
}

static void test_make(void **state)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe r = { 0 };
        struct vm_spec s = spec();
        bool clamped;

        (void)state;
        qemu_recipe_make(&s, &host, &r, &clamped);
        assert_true(clamped); /* 1000 is no power of two */
        assert_true(r.memory % (1 << 20) == 0 && r.memory >= 1000000000);
        assert_string_equal(r.accel, "tcg");
        assert_string_equal(r.cpu, "max");
        assert_string_equal(r.boot, "direct");
        assert_true(r.watchdog && r.rng && r.vmgenid && !r.balloon && !r.vsock);
        assert_string_equal(qemu_recipe_disk(&r, 0)->blob, "00ff");
        assert_null(qemu_recipe_disk(&r, 0)->file);
        assert_string_equal(qemu_recipe_disk(&r, 1)->file, "cow.raw");
        assert_int_equal(strlen(qemu_recipe_disk(&r, 2)->serial), QEMU_SERIAL_LEN);
        assert_int_equal(qemu_recipe_disk(&r, 1)->queues, 4);
        assert_int_equal(qemu_recipe_nic(&r, 0)->pairs, 1); /* user-mode has one queue */
        assert_int_equal(qemu_recipe_nic(&r, 1)->pairs, 4);
        assert_int_equal(qemu_recipe_nic(&r, 1)->queue_size, 512);
        assert_int_equal(qemu_recipe_nic(&r, 1)->mtu, 1450);
        qemu_recipe_clear(&r);

        s.n_nics = 1;
        s.disk_queue_size = 4096;
        qemu_recipe_make(&s, &host, &r, &clamped);
        assert_true(clamped);
        assert_int_equal(qemu_recipe_disk(&r, 0)->queue_size, 1024);
        qemu_recipe_clear(&r);
        s.disk_queue_size = 0;
        qemu_recipe_make(&s, &host, &r, &clamped);
        assert_false(clamped);
}

static void test_clamp(void **state)
{
        (void)state;
        assert_int_equal(qemu_clamp_pow2(1, 256, 1024), 256);
        assert_int_equal(qemu_clamp_pow2(511, 256, 1024), 256);
        assert_int_equal(qemu_clamp_pow2(512, 256, 1024), 512);
        assert_int_equal(qemu_clamp_pow2(INT64_MAX, 256, 1024), 1024);
}

static void test_round_trip(void **state)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe a = { 0 };
        QEMU_RECIPE_CLEANUP struct qemu_recipe b = { 0 };
        CC_FREE char *first = NULL;
        CC_FREE char *second = NULL;
        struct vm_spec s = spec();
        struct qemu_host h = host;
        struct cc_err err = CC_ERR_INIT;
        bool clamped;

        (void)state;
        h.kvm = true;
        h.balloon = true;
        h.vars_size = 540672;
        s.kernel = NULL;
        s.hugepages = true;
        qemu_recipe_make(&s, &h, &a, &clamped);
        first = qemu_recipe_text(&a);
        if (qemu_recipe_parse(first, strlen(first), &b, &err) < 0)
                fail_msg("%s", err.msg);
        second = qemu_recipe_text(&b);
        assert_string_equal(first, second);
        assert_true(b.hugepages && b.balloon && qemu_recipe_uefi(&b) && qemu_recipe_kvm(&b));
}

/* Windows is never given a balloon, whatever is configured (cli.md §4.2). */
static void test_windows(void **state)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe r = { 0 };
        struct vm_spec s = spec();
        struct qemu_host h = host;
        bool clamped;

        (void)state;
        h.balloon = true;
        s.windows = true;
        qemu_recipe_make(&s, &h, &r, &clamped);
        assert_false(r.balloon);
}

/* A valid recipe with one value replaced must be refused, whole. */
static void refuse(const char *path, json_t *value)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe a = { 0 };
        QEMU_RECIPE_CLEANUP struct qemu_recipe b = { 0 };
        CC_STRV struct cc_strv keys = { 0 };
        CC_FREE char *text = NULL;
        CC_FREE char *bad = NULL;
        CC_JSON json_t *j = NULL;
        struct vm_spec s = spec();
        struct cc_err err = CC_ERR_INIT;
        json_t *at;
        bool clamped;

        qemu_recipe_make(&s, &host, &a, &clamped);
        text = qemu_recipe_text(&a);
        assert_int_equal(cc_json_parse(text, strlen(text), "recipe", &j, NULL), 0);
        at = j;
        cc_split(path, ".", &keys);
        for (size_t i = 0; i + 1 < keys.len; i++)
                at = json_is_array(at) ? json_array_get(at, strtoul(keys.v[i], NULL, 10))
                                       : json_object_get(at, keys.v[i]);
        json_object_set_new(at, keys.v[keys.len - 1], value);
        bad = cc_json_pretty(j);
        if (qemu_recipe_parse(bad, strlen(bad), &b, &err) != -CC_INVALID)
                fail_msg("%s was accepted", path);
        assert_null(b.machine);
}

static void test_hostile(void **state)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe r = { 0 };

        (void)state;
        assert_int_equal(qemu_recipe_parse("", 0, &r, NULL), -CC_INVALID);
        assert_int_equal(qemu_recipe_parse("{}", 2, &r, NULL), -CC_INVALID);
        assert_int_equal(qemu_recipe_parse("[]", 2, &r, NULL), -CC_INVALID);
        refuse("version", json_integer(2));
        refuse("arch", json_string("aarch64"));
        refuse("machine", json_string("pc-q35-7.2,usb=on"));
        refuse("machine", json_string(""));
        refuse("machine", json_null());
        refuse("cpu", json_string("host -S"));
        refuse("accel", json_string("xen"));
        refuse("boot", json_string("net"));
        refuse("vcpus", json_integer(0));
        refuse("vcpus", json_integer(INT64_MAX));
        refuse("vcpus", json_string("4"));
        refuse("memory", json_integer(-1));
        refuse("memory", json_integer(4097));
        refuse("memory", json_integer(INT64_MAX));
        refuse("ports", json_integer(1 << 30));
        refuse("agent_ports", json_integer(5));
        refuse("fw_size", json_integer(-1));
        refuse("disks.1.file", json_string("../../etc/shadow"));
        refuse("disks.1.file", json_string(".."));
        refuse("disks.1.file", json_null());
        refuse("disks.0.blob", json_string("a/b"));
        refuse("disks.1.format", json_string("vmdk"));
        refuse("disks.1.queues", json_integer(0));
        refuse("disks.1.queue_size", json_integer(1000));
        refuse("disks.1.serial", json_string("123456789012345678901"));
        refuse("nics.0.kind", json_string("socket"));
        refuse("nics.0.pairs", json_integer(65));
        refuse("nics.0.queue_size", json_integer(2048));
        refuse("nics.1.mtu", json_integer(65536));
        refuse("nics", json_string("none"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_make),       cmocka_unit_test(test_clamp),
                cmocka_unit_test(test_round_trip), cmocka_unit_test(test_windows),
                cmocka_unit_test(test_hostile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
