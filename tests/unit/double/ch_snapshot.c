/*
 * Snapshots of the double: what they hold, what goes on from them, and that they notice what was
 * done to them.
 */
#include "double.h"

static char *url(const char *key)
{
        char cwd[512];

        assert_non_null(getcwd(cwd, sizeof(cwd)));
        return xasprintf("{\"%s\":\"file://%s/snap\"}", key, cwd);
}

/* A snapshot in ./snap, of a VM that is gone. */
static void take_snapshot(void)
{
        CC_FREE char *to = url("destination_url");
        struct vmm v = boot();
        struct stat st;

        guest_says("counter; echo memory >/dev/shm/f", "1\r\n");
        assert_int_equal(mkdir("snap", 0700), 0);
        put("vm.pause", NULL, 204, "");
        put("vm.snapshot", to, 204, "");
        put("vm.snapshot", to, 500,
            "[\"Error from API\",\"The VM could not be snapshotted\",\"Cannot send VM "
            "snapshot\",\"Failed to send migratable component snapshot\",\"Error creating VM "
            "config "
            "snapshot file\",\"File exists (os error 17)\"]");
        assert_int_equal(stat("snap/memory-ranges", &st), 0);
        assert_int_equal(st.st_size, 67108864);
        assert_true(st.st_blocks < 100);
        assert_int_equal(st.st_mode & 0777, 0600);
        put("vm.resume", NULL, 204, "");
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

static void test_snapshot_restore(void **state)
{
        CC_FREE char *from = url("source_url");
        CC_FREE char *bad = xasprintf("{\"source_url\":\"file://%s/snap\",\"prefault\":true,"
                                      "\"memory_restore_mode\":\"OnDemand\"}",
                                      (char *)*state);
        CC_JSON json_t *j = NULL;
        struct vmm v;

        take_snapshot();
        v = vmm_start("");
        put("vm.restore", bad, 500, NULL);
        get("vm.info", 404, NULL);
        put("vm.restore", from, 204, "");
        expect_state("Paused");
        put("vm.restore", from, 500, NULL);
        j = info();
        assert_non_null(json_object_get(json_object_get(j, "device_tree"), "_net2"));
        put("vm.resume", NULL, 204, "");
        guest_says("counter; cat /dev/shm/f; hostname", "2\r\nmemory\r\nweb\r\n");
        /* The next name goes on where the other left off. */
        put("vm.add-disk", "{\"path\":\"layer.raw\",\"readonly\":true,\"image_type\":\"Raw\"}", 200,
            "{\"id\":\"_disk3\",\"bdf\":\"0000:00:07.0\"}");
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* Put `value` at config.json's path "a.b", or at "disks.<n>.key"; NULL deletes. */
static void patch(const char *member, size_t index, const char *key, json_t *value)
{
        json_t *config = json_load_file("snap/config.json", 0, NULL);
        json_t *object = json_object_get(config, member);

        if (json_is_array(object) && !key)
                json_array_remove(object, index);
        else
                json_object_set_new(json_is_array(object) ? json_array_get(object, index) : object,
                                    key, value);
        assert_int_equal(json_dump_file(config, "snap/config.json", JSON_COMPACT), 0);
        json_decref(config);
}

static void restore_fails(const char *why)
{
        CC_FREE char *from = url("source_url");
        ANSWER struct answer a = ask("PUT", "vm.restore", from);

        if (a.status != 500 || !strstr(a.body, why))
                fail_msg("%d %s, wanted %s", a.status, a.body, why);
        get("vm.info", 404, NULL);
}

static void test_tampered_snapshot(void **state)
{
        struct vmm v;

        (void)state;
        take_snapshot();
        assert_int_equal(rename("snap", "good"), 0);
        v = vmm_start("");
        for (int i = 0; i < 9; i++) {
                assert_int_equal(system("rm -rf snap && cp -r good snap"), 0);
                switch (i) {
                case 0: /* paths may change, to what is there */
                        patch("disks", 1, "path", json_string("nope"));
                        restore_fails("I/O error (path=nope op=open)");
                        break;
                case 1:
                        patch("disks", 0, "id", json_string("other"));
                        restore_fails("device other has the saved state of _disk0");
                        break;
                case 2:
                        patch("disks", 1, "num_queues", json_integer(2));
                        restore_fails("device _disk1 was saved with another num_queues");
                        break;
                case 3:
                        patch("net", 0, "mac", json_string("02:00:00:00:00:08"));
                        restore_fails("device _net2 was saved with another mac");
                        break;
                case 4:
                        patch("disks", 0, NULL, NULL);
                        restore_fails("saved state of 6 devices, configured are 5");
                        break;
                case 5:
                        patch("memory", 0, "size", json_integer(33554432));
                        restore_fails("memory-ranges has 67108864 bytes, the guest 33554432");
                        break;
                case 6:
                        patch("memory", 0, "sise", json_integer(1));
                        restore_fails("unknown field `sise` in MemoryConfig");
                        break;
                case 7: /* a rewrite that loses precision */
                        assert_int_equal(
                                system("sed -i s/18446744073709551615/18446744073709551616/ "
                                       "snap/state.json"),
                                0);
                        restore_fails("state.json is not what the snapshot wrote");
                        break;
                default:
                        assert_int_equal(truncate("snap/memory-ranges", 0), 0);
                        restore_fails("memory-ranges has 0 bytes");
                }
        }
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* The disks of a VM that still runs are locked. */
static void test_restore_locked(void **state)
{
        struct vmm v, other;

        (void)state;
        take_snapshot();
        v = vmm_start("");
        put("vm.create",
            "{\"payload\":{\"kernel\":\"k\"},\"console\":{\"mode\":\"Off\"},\"disks\":[{\"path\":"
            "\"cow.raw\",\"image_type\":\"Raw\"}]}",
            204, "");
        put("vm.boot", NULL, 204, "");
        assert_int_equal(rename("a.sock", "b.sock"), 0);
        assert_int_equal(rename("a.sock.lock", "b.sock.lock"), 0);
        other = vmm_start("");
        restore_fails("Failed to get Write lock for disk image: cow.raw");
        assert_int_equal(vmm_end(v, SIGKILL), 128 + SIGKILL);
        {
                CC_FREE char *from = url("source_url");

                put("vm.restore", from, 204, "");
        }
        assert_int_equal(vmm_end(other, SIGTERM), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                double_test(test_snapshot_restore),
                double_test(test_tampered_snapshot),
                double_test(test_restore_locked),
        };

        no_knobs();
        return doubles_only(tests);
}
