/* The table engine and every record table: round trips, key order, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/json.h"
#include "model/decode.h"
#include "model/image.h"
#include "model/record.h"
#include "model/vm.h"

static json_t *sample_object(const struct record_type *type, unsigned hidden);

/* A non-empty value for the field, so that every key must survive. */
static json_t *sample(const struct field *f, unsigned hidden)
{
        switch (f->type) {
        case FIELD_STR:
                return json_pack("s+", f->name, "-value");
        case FIELD_INT:
                return json_integer(INT64_MAX - (int64_t)strlen(f->name));
        case FIELD_BOOL:
                return json_true();
        case FIELD_TRISTATE:
                return json_false();
        case FIELD_TIME:
                return json_string("2026-04-05T06:07:08.123456789Z");
        case FIELD_SET:
                return json_pack("{s:{},s:{}}", "a", "b");
        case FIELD_STRS:
                return json_pack("[s,s]", "z", "a");
        case FIELD_OBJECT:
        case FIELD_PTR:
                return sample_object(f->sub, hidden);
        case FIELD_ARRAY:
                return json_pack("[o,o]", sample_object(f->sub, hidden),
                                 sample_object(f->sub, hidden));
        case FIELD_JSON:
                return json_pack("{s:s}", "k", "v");
        }
        fail();
        return NULL;
}

static json_t *sample_object(const struct record_type *type, unsigned hidden)
{
        json_t *j = json_object();

        for (size_t i = 0; i < type->n; i++)
                if (!(type->fields[i].flags & hidden))
                        json_object_set_new(j, type->fields[i].name,
                                            sample(type->fields + i, hidden));
        if (type->extra != SIZE_MAX)
                json_object_set_new(j, "x_unknown", json_pack("{s:[i,n]}", "deep", 1));
        return j;
}

static void round_trip(const struct record_type *type)
{
        CC_FREE void *rec = xcalloc(1, type->size);
        CC_FREE void *copy = xcalloc(1, type->size);
        CC_JSON json_t *in = sample_object(type, FIELD_SHOWN);
        CC_JSON json_t *out = NULL;
        CC_JSON json_t *copied = NULL;
        CC_JSON json_t *shown = NULL;
        CC_JSON json_t *empty = json_object();
        CC_FREE char *in_text = cc_json_compact(in);
        CC_FREE char *out_text = NULL;
        struct cc_err err = CC_ERR_INIT;

        if (record_load(type, in, rec, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(record_check(type, rec, &err), 0);
        out = record_dump(type, rec, RECORD_STORE);
        out_text = cc_json_compact(out);
        assert_string_equal(in_text, out_text);

        record_copy(type, copy, rec);
        record_clear(type, rec);
        copied = record_dump(type, copy, RECORD_STORE);
        assert_true(json_equal(in, copied));
        shown = record_dump(type, copy, RECORD_PUBLIC);
        assert_null(json_object_get(shown, "x_unknown"));
        for (size_t i = 0; i < type->n; i++)
                if (type->fields[i].flags & FIELD_STORED)
                        assert_null(json_object_get(shown, type->fields[i].name));
        record_clear(type, copy);

        /* Empty: only what is always written comes out, and it loads again. */
        assert_int_equal(record_load(type, empty, rec, &err), 0);
        json_decref(out);
        out = record_dump(type, rec, RECORD_STORE);
        for (size_t i = 0; i < type->n; i++) {
                bool there = json_object_get(out, type->fields[i].name);
                unsigned flags = type->fields[i].flags;

                assert_int_equal(there, (flags & FIELD_ALWAYS) && !(flags & FIELD_SHOWN));
        }
        record_clear(type, rec);
        assert_int_equal(record_load(type, out, rec, &err), 0);
        record_clear(type, rec);
}

static void every_table_round_trips(void **state)
{
        (void)state;
        round_trip(&vm_record_type);
        round_trip(&vm_config_type);
        round_trip(&nic_type);
        round_trip(&nic_network_type);
        round_trip(&vm_disk_type);
        round_trip(&image_layer_type);
        round_trip(&image_oci_type);
        round_trip(&image_cloudimg_type);
}

/* Every field refuses every JSON type that is not its own, and names itself. */
static void wrong_types_are_named(const struct record_type *type)
{
        const char *const values[] = { "\"s\"", "7", "7.5", "true", "{\"a\":1}", "[[]]" };

        for (size_t i = 0; i < type->n; i++) {
                const struct field *f = type->fields + i;
                unsigned accepted = 0;

                for (size_t k = 0; k < CC_ARRAY_LEN(values); k++) {
                        CC_FREE void *rec = xcalloc(1, type->size);
                        CC_FREE void *zero = xcalloc(1, type->size);
                        CC_FREE char *text = xasprintf("{\"%s\":%s}", f->name, values[k]);
                        CC_JSON json_t *j = json_loads(text, 0, NULL);
                        struct cc_err err = CC_ERR_INIT;

                        if (record_load(type, j, rec, &err) == 0) {
                                accepted++;
                                record_clear(type, rec);
                                continue;
                        }
                        assert_int_equal(err.class, CC_INVALID);
                        assert_non_null(strstr(err.msg, f->name));
                        assert_memory_equal(rec, zero, type->size);
                }
                if (f->type != FIELD_JSON)
                        assert_in_range(accepted, 0, 1);
        }
}

static void types_are_checked(void **state)
{
        (void)state;
        wrong_types_are_named(&vm_record_type);
        wrong_types_are_named(&vm_config_type);
        wrong_types_are_named(&nic_type);
        wrong_types_are_named(&nic_network_type);
        wrong_types_are_named(&vm_disk_type);
        wrong_types_are_named(&image_oci_type);
        wrong_types_are_named(&image_cloudimg_type);
        wrong_types_are_named(&image_layer_type);
}

static void null_is_absent_but_not_in_arrays(void **state)
{
        struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_JSON json_t *ok = json_loads("{\"ref\":null,\"layers\":null,\"size\":null}", 0, NULL);
        CC_JSON json_t *bad = json_loads("{\"ref\":\"a\",\"layers\":[{},null]}", 0, NULL);

        (void)state;
        assert_int_equal(record_load(&image_oci_type, ok, &image, &err), 0);
        assert_null(image.ref);
        assert_int_equal(image.layers.len, 0);
        image_record_clear(&image);
        assert_int_equal(record_load(&image_oci_type, bad, &image, &err), -CC_INVALID);
        assert_string_equal(err.msg, "image record: layers[1] is null");
        assert_null(image.ref);
}

static void image_clear_frees_both_kinds(void **state)
{
        struct image_record image = IMAGE_RECORD_INIT;

        (void)state;
        image.ref = xstrdup("r");
        image.content_sum = xstrdup("c");
        image.manifest_digest = xstrdup("m");
        record_array_add(&image_layer_type, &image.layers);
        image_layer_at(&image, 0)->digest = xstrdup("d");
        image_record_clear(&image); /* the address sanitizer judges */
        assert_null(image.content_sum);
}

static void strings_that_json_cannot_hold(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct vm_disk *disk = record_array_add(&vm_disk_type, &vm.storage_configs);
        CC_JSON json_t *j = NULL;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(disk->direct_io, -1);
        disk->path = xstrdup("/a/\xff");
        assert_int_equal(record_check(&vm_record_type, &vm, &err), -CC_INVALID);
        assert_string_equal(err.msg, "vm record: storage_configs[0].path is not valid UTF-8");
        /* Still printable. */
        j = record_dump(&vm_disk_type, disk, RECORD_PUBLIC);
        assert_string_equal(json_string_value(json_object_get(j, "path")), "/a/?");
}

/* Both readers must agree on this text: accept alike and give the same record. */
static bool readers_agree(const struct record_type *type, const char *text, size_t n)
{
        CC_FREE void *fast = xcalloc(1, type->size);
        CC_FREE void *strict = xcalloc(1, type->size);
        CC_JSON json_t *json = json_loadb(text, n, JSON_DECODE_ANY, NULL);
        struct cc_err err = CC_ERR_INIT;
        int a = record_parse(type, text, n, fast, &err);
        int b = json ? record_load(type, json, strict, &err) : -CC_INVALID;

        if (a != b)
                fail_msg("%d != %d for %s", a, b, text);
        if (a == 0) {
                CC_JSON json_t *x = record_dump(type, fast, RECORD_STORE);
                CC_JSON json_t *y = record_dump(type, strict, RECORD_STORE);

                if (!json_equal(x, y))
                        fail_msg("different records for %s", text);
        }
        record_clear(type, fast);
        record_clear(type, strict);
        return a == 0;
}

static void the_fast_reader_agrees(void **state)
{
        static const char *const special[] = {
                "{}",
                "",
                " ",
                "{",
                "{}x",
                "[]",
                "null",
                "{\"id\":\"a\\u0041\\n\\/\"}",
                "{\"id\":\"a\",\"id\":\"b\"}",
                "{\"\\u0069d\":\"x\"}",
                "{\"pid\":01}",
                "{\"pid\":-0}",
                "{\"pid\":- 1}",
                "{\"pid\":1e3}",
                "{\"pid\":1.0}",
                "{\"pid\":9223372036854775807}",
                "{\"pid\":9223372036854775808}",
                "{\"pid\":123456789012345678}",
                "{\"id\":\"\xc3\xa9\"}",
                "{\"id\":\"\xc3\"}",
                "{\"id\":\"\xed\xa0\x80\"}",
                "{\"id\":\"\t\"}",
                "{\"id\":\"\\q\"}",
                "{\"first_booted\":truefalse}",
                "{\"id\":nullx}",
                "{\"id\":null}",
                "{\"network_configs\":[null,{}]}",
                "{\"network_configs\":[nul]}",
                "{\"storage_configs\":[null]}",
                "{\"storage_configs\":[{},]}",
                "{\"snapshot_ids\":{\"b\":{},\"a\":{}}}",
                "{\"snapshot_ids\":{\"a\":{},\"a\":{}}}",
                "{\"snapshot_ids\":{\"a\":null}}",
                "{\"snapshot_ids\":{\"a\":{\"x\":1}}}",
                "{\"config\":{\"labels\":[1,{\"a\":\"]\"}],\"publish\":[\"a\",\"b\"]}}",
                "{\"x\":1,\"x\":2}",
                "{\"x\":[[[[]]]]}",
                "{\"x\":[}",
                "{\"x\":tru}",
                "{\"x\":,}",
                "{ \"id\" : \"a\" ,\n\"x\" : -1.5e+3 }",
                "{\"id\" \"a\"}",
                "{\"id\":\"a\" \"x\":1}",
                "{\"created_at\":\"2026-01-02T03:04:05+01:00\"}",
                "{\"created_at\":\"no\"}",
        };
        CC_JSON json_t *whole = sample_object(&vm_record_type, 0);
        CC_FREE char *text = cc_json_compact(whole);
        size_t n = strlen(text);
        unsigned accepted = 0;
        uint32_t seed = 1;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(special); i++)
                readers_agree(&vm_record_type, special[i], strlen(special[i]));
        assert_true(readers_agree(&vm_record_type, text, n));
        for (size_t cut = 0; cut < n; cut += 7) {
                CC_FREE char *part = xstrndup(text, cut);

                assert_false(readers_agree(&vm_record_type, part, cut));
        }
        for (int i = 0; i < 4000; i++) {
                static const char bytes[] = "\"{}[]:,\\0a \x01\xc3\x7f-n";
                CC_FREE char *bad = xstrdup(text);

                seed = seed * 1664525 + 1013904223;
                bad[(seed >> 8) % n] = bytes[(seed >> 3) % (sizeof(bytes) - 1)];
                accepted += readers_agree(&vm_record_type, bad, n);
        }
        assert_in_range(accepted, 100, 3900); /* both sides of the comparison were seen */
}

/* What we store must not need the slow reader, or listing takes several times as long. */
static void our_own_documents_are_read_fast(void **state)
{
        CC_JSON json_t *whole = sample_object(&vm_record_type, FIELD_SHOWN);
        const char *const sets[] = { "{\"snapshot_ids\":{\"b\":{},\"c\":{},\"a\":{}}}", "{}" };
        CC_FREE char *text = NULL;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        (void)state;
        json_object_set_new(whole, "pid", json_integer(0));
        json_object_set_new(whole, "vsock_cid", json_integer(-3));
        json_object_del(whole, "network_configs");
        json_object_del(whole, "config");
        json_object_del(whole, "proc");
        json_object_del(whole, "transition_generation");
        text = cc_json_compact(whole);
        assert_true(record_decode(&vm_record_type, text, strlen(text), &vm));
        for (size_t i = 0; i < CC_ARRAY_LEN(sets); i++) {
                vm_record_clear(&vm);
                assert_true(record_decode(&vm_record_type, sets[i], strlen(sets[i]), &vm));
        }
        assert_int_equal(vm.snapshot_ids.len, 0);
}

/* The brief reader leaves out what is marked and what is unknown, and nothing else. */
static void brief_is_the_rest(void **state)
{
        static const char rest[] = "{\"id\":\"A\",\"state\":\"stopped\",\"config\":{\"cpu\":2,"
                                   "\"name\":\"n\",\"labels\":{\"k\":\"v\"}},\"network_configs\":"
                                   "[{\"mac\":\"m\"},null],\"proc\":{\"pid\":7}";
        static const char more[] =
                ",\"storage_configs\":[{\"path\":\"}]\\\"\"},{}],\"boot_config\":"
                "{\"cmdline\":\"x\"},\"image_blob_ids\":{\"aa\":{}},"
                "\"snapshot_ids\":{\"B\":{}},\"newer\":{\"a\":[1,null]}";
        static const char *const bad[] = { "{\"id\":7}", "{\"boot_config\":{}", "{}x",
                                           "{\"boot_config\":[1,}" };
        CC_FREE char *text = xasprintf("%s%s}", rest, more);
        CC_FREE char *plain = xasprintf("%s}", rest);
        VM_RECORD struct vm_record want = VM_RECORD_INIT;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_JSON json_t *a = NULL;
        CC_JSON json_t *b = NULL;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(record_parse(&vm_record_type, plain, strlen(plain), &want, &err), 0);
        assert_int_equal(record_parse_brief(&vm_record_type, text, strlen(text), &vm, &err), 0);
        a = record_dump(&vm_record_type, &want, RECORD_STORE);
        b = record_dump(&vm_record_type, &vm, RECORD_STORE);
        assert_true(json_equal(a, b));
        vm_record_clear(&vm);
        /* What it cannot read is the strict reader's, with its words. */
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                assert_int_equal(
                        record_parse_brief(&vm_record_type, bad[i], strlen(bad[i]), &vm, &err),
                        -CC_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_table_round_trips),
                cmocka_unit_test(types_are_checked),
                cmocka_unit_test(null_is_absent_but_not_in_arrays),
                cmocka_unit_test(image_clear_frees_both_kinds),
                cmocka_unit_test(strings_that_json_cannot_hold),
                cmocka_unit_test(the_fast_reader_agrees),
                cmocka_unit_test(our_own_documents_are_read_fast),
                cmocka_unit_test(brief_is_the_rest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
