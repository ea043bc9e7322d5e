/* Snapshot rows: names, references, pins, and the VMs that remember them. */
#include "helper.h"

#include "model/snapshot.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID1 "AAAAAAAAAAAAAAAAAAAAAAAAA2"
#define ID2 "AAAAAAAAAAAAAAAAAAAAAAAAA3"
#define VM  "BBBBBBBBBBBBBBBBBBBBBBBBBB"

static int insert(struct store *s, const char *id, const char *name, bool pending)
{
        SNAPSHOT_RECORD struct snapshot_record r = SNAPSHOT_RECORD_INIT;
        int e;

        s->err = (struct cc_err)CC_ERR_INIT;
        r.id = xstrdup(id);
        r.name = xstrdup(name);
        r.pending = pending;
        cc_strv_add(&r.image_blob_ids, HEX);
        if (meta_begin(s->m, META_DURABLE, &s->err) < 0)
                return -1;
        e = meta_snapshot_insert(s->m, &r, &s->err);
        if (e < 0)
                meta_rollback(s->m);
        return e < 0 ? e : meta_commit(s->m, &s->err);
}

static void names_and_references(void **state)
{
        struct store *s = *state;
        char id[27] = "";
        bool pending = false;

        assert_int_equal(insert(s, ID1, "one", false), 0);
        assert_int_equal(insert(s, ID2, "two", true), 0);
        assert_int_equal(insert(s, "CCCCCCCCCCCCCCCCCCCCCCCCCC", "one", true), -CC_CONFLICT);
        assert_string_equal(s->err.msg, "snapshot name \"one\" already in use by " ID1);
        assert_string_equal(s->err.code, "snapshot_name_taken");
        /* Names may be missing, many times. */
        assert_int_equal(insert(s, "CCCCCCCCCCCCCCCCCCCCCCCCCC", "", false), 0);
        assert_int_equal(insert(s, "DDDDDDDDDDDDDDDDDDDDDDDDDD", "", false), 0);

        assert_int_equal(meta_snapshot_resolve(s->m, "one", false, id, &s->err), 0);
        assert_string_equal(id, ID1);
        assert_int_equal(meta_snapshot_resolve(s->m, ID1, false, id, &s->err), 0);
        assert_int_equal(meta_snapshot_resolve(s->m, "CCC", false, id, &s->err), 0);
        assert_string_equal(id, "CCCCCCCCCCCCCCCCCCCCCCCCCC");
        /* A pending one is seen by rm only. */
        assert_int_equal(meta_snapshot_resolve(s->m, "two", false, id, &s->err), -CC_NOT_FOUND);
        assert_string_equal(s->err.msg, "snapshot not found");
        assert_int_equal(meta_snapshot_resolve(s->m, "two", true, id, &s->err), 0);
        assert_int_equal(meta_snapshot_resolve(s->m, "AAA", false, id, &s->err), 0);
        assert_int_equal(meta_snapshot_resolve(s->m, "AAA", true, id, &s->err), -CC_AMBIGUOUS);
        assert_int_equal(meta_snapshot_resolve(s->m, "A*", true, id, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_snapshot_resolve(s->m, "AA", true, id, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_snapshot_holder(s->m, "two", id, &pending, &s->err), 1);
        assert_true(pending);
        assert_int_equal(meta_snapshot_holder(s->m, "no", id, NULL, &s->err), 0);
        store_is_sound(s);
}

static void deletion_and_pins(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record again = VM_RECORD_INIT;
        SNAPSHOT_RECORD struct snapshot_record r = SNAPSHOT_RECORD_INIT;
        bool pinned = false;

        assert_int_equal(insert(s, ID1, "one", false), 0);
        assert_int_equal(insert(s, ID2, "two", false), 0);
        assert_int_equal(meta_blob_pinned(s->m, HEX, &pinned, &s->err), 0);
        assert_true(pinned);
        vm.id = xstrdup(VM);
        vm.config.name = xstrdup("vm");
        cc_strv_add(&vm.snapshot_ids, ID1);
        cc_strv_add(&vm.snapshot_ids, ID2);
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_vm_insert(s->m, &vm, &s->err), 0);
        assert_int_equal(meta_commit(s->m, &s->err), 0);

        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_snapshot_touch(s->m, ID2, 77, &s->err), 0);
        assert_int_equal(meta_snapshot_touch(s->m, "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", 77, &s->err), 0);
        assert_int_equal(meta_snapshot_delete(s->m, ID1, &s->err), 0);
        assert_int_equal(meta_snapshot_delete(s->m, ID1, &s->err), 0);
        assert_int_equal(meta_commit(s->m, &s->err), 0);

        assert_int_equal(meta_vm_get(s->m, VM, &again, &s->err), 0);
        assert_int_equal(again.snapshot_ids.len, 1);
        assert_string_equal(again.snapshot_ids.v[0], ID2);
        assert_int_equal(meta_blob_pinned(s->m, HEX, &pinned, &s->err), 0);
        assert_true(pinned);
        assert_int_equal(meta_snapshot_get(s->m, ID1, &r, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_snapshot_get(s->m, ID2, &r, &s->err), 0);
        assert_int_equal(r.last_accessed_at, 77);
        store_is_sound(s);
}

/* A blob on its way out cannot be pinned any more. */
static void tombstones(void **state)
{
        struct store *s = *state;
        const struct tombstone t = { .kind = "blob",
                                     .id = HEX,
                                     .lease_id = "l",
                                     .phase = TOMBSTONE_DELETING,
                                     .leased_at = 1,
                                     .payload = "{}" };

        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_tombstone_put(s->m, &t, &s->err), 0);
        assert_int_equal(meta_commit(s->m, &s->err), 0);
        assert_int_equal(insert(s, ID1, "one", true), -CC_CONFLICT);
        assert_string_equal(s->err.code, "being_removed");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(names_and_references, store_setup, store_teardown),
                cmocka_unit_test_setup_teardown(deletion_and_pins, store_setup, store_teardown),
                cmocka_unit_test_setup_teardown(tombstones, store_setup, store_teardown),
        };

        return cmocka_run_group_tests_name("meta/snapshot", tests, NULL, NULL);
}
