/* snapshot.json: what it holds, what of it is believed, and the limits of a configuration. */
#include "unit.h"

#include <string.h>

#include "base/json.h"
#include "snap/snap.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID  "AAAAAAAAAAAAAAAAAAAAAAAAAA"

static void fill(struct snapshot_record *s)
{
        s->id = xstrdup(ID);
        s->name = xstrdup("lib/base:1");
        s->description = xstrdup("text");
        s->hypervisor = xstrdup("qemu");
        s->nics = 2;
        s->config.cpu = 1;
        s->config.memory = INT64_C(512) << 20;
        s->config.storage = INT64_C(10) << 30;
        s->config.image = xstrdup("tiny");
        s->config.image_type = xstrdup("oci");
        cc_strv_add(&s->image_blob_ids, HEX);
        s->created_at = 1;
        s->source_vm_id = xstrdup(ID);
        s->bytes = 5;
        s->last_accessed_at = 6;
        s->pending = true;
        s->data_dir = xstrdup("/somewhere");
}

static void round_trip(void **state)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        SNAP_ENVELOPE_CLEANUP struct snap_envelope files = { 0 };
        SNAP_ENVELOPE_CLEANUP struct snap_envelope back = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct snap_file *f;
        CC_FREE char *text = NULL;

        (void)state;
        fill(&s);
        f = record_array_add(&snap_file_type, &files.files);
        f->name = xstrdup("memory.bin");
        f->size = 7;
        text = snap_envelope_text(&s, &files.files);
        assert_true(cc_endswith(text, "}\n"));
        assert_null(strstr(text, "created_at"));
        assert_null(strstr(text, "source_vm_id"));
        assert_null(strstr(text, "data_dir"));
        assert_null(strstr(text, "pending"));
        assert_null(strstr(text, "bytes"));
        assert_null(strstr(text, "accessed"));
        assert_ok(snap_envelope_parse(text, strlen(text), &back, &err));
        assert_string_equal(back.config.name, "lib/base:1");
        assert_string_equal(back.config.description, "text");
        assert_int_equal(back.config.nics, 2);
        assert_int_equal(back.config.config.memory, INT64_C(512) << 20);
        assert_true(cc_strv_has(&back.config.image_blob_ids, HEX));
        assert_true(back.has_files);
        assert_int_equal(back.files.len, 1);
        assert_ok(snap_config_check(&back.config, &err));
}

/* What upstream writes: no files, keys that we do not know, nothing of ours. */
static void upstreams(void **state)
{
        static const char text[] =
                "{\"version\":1,\"config\":{\"cpu\":1,\"memory\":1073741824,"
                "\"storage\":10737418240,\"image\":\"ubuntu:24.04\",\"id\":\"x\",\"name\":\"n\","
                "\"image_blob_ids\":{\"" HEX "\":{}},\"nic_mtus\":[1500],\"nics\":1,"
                "\"pending\":true,\"data_dir\":\"/etc\",\"source_vm_id\":\"../..\"}}";
        SNAP_ENVELOPE_CLEANUP struct snap_envelope e = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *again = NULL;

        (void)state;
        assert_ok(snap_envelope_parse(text, sizeof(text) - 1, &e, &err));
        assert_false(e.has_files);
        assert_false(e.config.pending);
        assert_null(e.config.data_dir);
        assert_null(e.config.source_vm_id);
        assert_null(e.config.hypervisor);
        assert_ok(snap_config_check(&e.config, &err));
        again = snap_envelope_text(&e.config, NULL);
        assert_non_null(strstr(again, "nic_mtus"));
        assert_null(strstr(again, "files"));
}

static void hostile(void **state)
{
        static const struct {
                const char *text, *wanted;
        } rows[] = {
                { "", "snapshot.json" },
                { "[]", "not an object" },
                { "{}", "unsupported snapshot archive version 0" },
                { "{\"version\":2,\"config\":{}}", "unsupported snapshot archive version 2" },
                { "{\"version\":\"1\",\"config\":{}}", "version" },
                { "{\"version\":1}", "no config" },
                { "{\"version\":1,\"config\":[]}", "no config" },
                { "{\"version\":1,\"config\":{\"cpu\":\"2\"}}", "cpu" },
                { "{\"version\":1,\"config\":{\"image_blob_ids\":[1]}}", "image_blob_ids" },
                { "{\"version\":1,\"config\":{},\"files\":{}}", "not a list" },
                { "{\"version\":1,\"config\":{},\"files\":[null]}", "" },
                { "{\"version\":1,\"config\":{},\"files\":[{\"name\":\"../x\",\"size\":1}]}",
                  "malformed" },
                { "{\"version\":1,\"config\":{},\"files\":[{\"name\":\"x\",\"size\":-1}]}",
                  "malformed" },
                { "{\"version\":1,\"config\":{},\"files\":[{\"name\":\"x\",\"size\":1,"
                  "\"sha256\":\"zz\"}]}",
                  "malformed" },
                { "{\"version\":1,\"config\":{},\"files\":[{\"name\":\"x\",\"size\":1},"
                  "{\"name\":\"x\",\"size\":1}]}",
                  "listed twice" },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                SNAP_ENVELOPE_CLEANUP struct snap_envelope e = { 0 };
                struct cc_err err = CC_ERR_INIT;

                if (snap_envelope_parse(rows[i].text, strlen(rows[i].text), &e, &err) >= 0)
                        fail_msg("accepted: %s", rows[i].text);
                if (!strstr(err.msg, rows[i].wanted))
                        fail_msg("%s: %s", rows[i].text, err.msg);
        }
}

static void limits(void **state)
{
        struct {
                int64_t cpu, memory, storage, queue, nics;
                const char *type, *blob, *wanted;
        } rows[] = {
                { 0, 1 << 30, INT64_C(10) << 30, 0, 0, "oci", HEX, "cpu" },
                { -1, 1 << 30, INT64_C(10) << 30, 0, 0, "oci", HEX, "cpu" },
                { 100000, 1 << 30, INT64_C(10) << 30, 0, 0, "oci", HEX, "host cores" },
                { 1, 1 << 20, INT64_C(10) << 30, 0, 0, "oci", HEX, "memory" },
                { 1, INT64_MAX, INT64_C(10) << 30, 0, 0, "oci", HEX, "memory" },
                { 1, 1 << 30, 0, 0, 0, "oci", HEX, "storage" },
                { 1, 1 << 30, INT64_MAX, 0, 0, "oci", HEX, "storage" },
                { 1, 1 << 30, INT64_C(10) << 30, -1, 0, "oci", HEX, "queue_size" },
                { 1, 1 << 30, INT64_C(10) << 30, 0, -1, "oci", HEX, "nics" },
                { 1, 1 << 30, INT64_C(10) << 30, 0, 1000, "oci", HEX, "nics" },
                { 1, 1 << 30, INT64_C(10) << 30, 0, 0, "floppy", HEX, "image_type" },
                { 1, 1 << 30, INT64_C(10) << 30, 0, 0, "oci", "../../x", "image_blob_ids" },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;

                s.config.cpu = rows[i].cpu;
                s.config.memory = rows[i].memory;
                s.config.storage = rows[i].storage;
                s.config.queue_size = rows[i].queue;
                s.config.image_type = xstrdup(rows[i].type);
                s.nics = rows[i].nics;
                cc_strv_add(&s.image_blob_ids, rows[i].blob);
                assert_int_equal(snap_config_check(&s, &err), -CC_INVALID);
                if (!strstr(err.msg, rows[i].wanted))
                        fail_msg("row %zu: %s", i, err.msg);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(round_trip),
                cmocka_unit_test(upstreams),
                cmocka_unit_test(hostile),
                cmocka_unit_test(limits),
        };

        return cmocka_run_group_tests_name("snap/envelope", tests, NULL, NULL);
}
