/* VM rows: insert, update, delete, conflicts, references, order, changes. */
#include "helper.h"

#include "base/timeutil.h"

static int refuse(struct store *s, struct vm_record *vm,
                  int (*op)(struct meta *, struct vm_record *, struct cc_err *))
{
        int r;

        s->err = (struct cc_err)CC_ERR_INIT;
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        r = op(s->m, vm, &s->err);
        meta_rollback(s->m);
        assert_true(r < 0);
        assert_int_equal(s->err.class, -r);
        return r;
}

static void insert_and_get(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record got = VM_RECORD_INIT;
        int64_t seq;

        vm_init(&vm, "web");
        cc_strv_add(&vm.image_blob_ids, "aa");
        cc_strv_add(&vm.image_blob_ids, "bb");
        IN_TX(s, meta_vm_insert(s->m, &vm, &s->err));
        assert_string_equal(vm.state, "creating");
        assert_true(vm.created_at > 0 && vm.created_at == vm.updated_at);
        assert_int_equal(vm.transition_generation, 1);
        assert_string_equal(vm.last_transition_reason, "create");

        assert_int_equal(meta_vm_get(s->m, vm.id, &got, &s->err), 0);
        assert_string_equal(got.config.name, "web");
        assert_int_equal(got.created_at, vm.created_at);
        assert_int_equal(got.image_blob_ids.len, 2);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vm_blobs"), 2);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms WHERE id8 = substr(id, 1, 8) AND "
                                        "backend = 'qemu' AND state = 'creating' AND seq = 1"),
                         1);
        assert_int_equal(meta_seq(s->m, &seq, &s->err), 0);
        assert_int_equal(seq, 1);
        store_is_sound(s);
}

static int update_plain(struct meta *m, struct vm_record *vm, struct cc_err *err)
{
        return meta_vm_update(m, vm, NULL, err);
}

static void update(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record got = VM_RECORD_INIT;
        VM_RECORD struct vm_record other = VM_RECORD_INIT;

        vm_init(&vm, "web");
        cc_strv_add(&vm.image_blob_ids, "aa");
        IN_TX(s, meta_vm_insert(s->m, &vm, &s->err));
        cc_strset(&vm.state, "running");
        vm.image_blob_ids.v[0][0] = 'c';
        cc_strv_add(&vm.snapshot_ids, "SNAP");
        vm.proc = xcalloc(1, sizeof(*vm.proc));
        vm.proc->pid = 7;
        IN_TX(s, meta_vm_update(s->m, &vm, "boot", &s->err));
        assert_int_equal(vm.transition_generation, 2);
        IN_TX(s, meta_vm_update(s->m, &vm, NULL, &s->err));
        assert_int_equal(meta_vm_get(s->m, vm.id, &got, &s->err), 0);
        assert_string_equal(got.state, "running");
        assert_int_equal(got.transition_generation, 2);
        assert_string_equal(got.last_transition_reason, "boot");
        assert_int_equal(got.proc->pid, 7);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vm_blobs WHERE hex = 'ca'"), 1);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vm_blobs"), 1);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vm_snapshots"), 1);
        assert_int_equal(store_count(s, "SELECT seq FROM vms"), 3);

        /* A taken name and a row that is gone. */
        add_vm(s, "db", NULL);
        cc_strset(&vm.config.name, "db");
        assert_int_equal(refuse(s, &vm, update_plain), -CC_CONFLICT);
        vm_init(&other, "nobody");
        other.state = xstrdup("stopped");
        assert_int_equal(refuse(s, &other, update_plain), -CC_NOT_FOUND);
        assert_string_equal(s->err.code, "vm_not_found");
        assert_non_null(strstr(s->err.msg, "vm not found"));
        store_is_sound(s);
}

static void delete_leaves_a_trace(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record got = VM_RECORD_INIT;

        vm_init(&vm, "web");
        cc_strv_add(&vm.image_blob_ids, "aa");
        IN_TX(s, meta_vm_insert(s->m, &vm, &s->err));
        IN_TX(s, meta_vm_delete(s->m, vm.id, &s->err));
        assert_int_equal(meta_vm_get(s->m, vm.id, &got, &s->err), -CC_NOT_FOUND);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vm_blobs"), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vm_gone WHERE name = 'web'"), 1);
        IN_TX(s, meta_vm_delete(s->m, vm.id, &s->err)); /* absent is fine */
        assert_int_equal(store_count(s, "SELECT count(*) FROM vm_gone"), 1);
        /* The name is free at once. */
        add_vm(s, "web", NULL);
}

static void conflicts(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        VM_RECORD struct vm_record bad = VM_RECORD_INIT;
        char id[CC_ID_LEN + 1] = "";
        struct tombstone t = { .kind = "blob",
                               .id = "dead",
                               .lease_id = "L",
                               .payload = "{}",
                               .phase = TOMBSTONE_DELETING };
        CC_FREE char *want = NULL;

        add_vm(s, "web", id);
        vm_init(&vm, "web");
        assert_int_equal(refuse(s, &vm, meta_vm_insert), -CC_CONFLICT);
        want = xasprintf("vm name \"web\" already exists (id: %s)", id);
        assert_string_equal(s->err.msg, want);
        assert_string_equal(s->err.code, "name_taken");

        cc_strset(&vm.config.name, "web2");
        memcpy(vm.id, id, 8);
        assert_int_equal(refuse(s, &vm, meta_vm_insert), -CC_CONFLICT);
        assert_string_equal(s->err.code, "id8_taken");

        vm.id[0] = vm.id[0] == 'A' ? 'B' : 'A';
        cc_strv_add(&vm.image_blob_ids, "dead");
        IN_TX(s, meta_tombstone_put(s->m, &t, &s->err));
        assert_int_equal(refuse(s, &vm, meta_vm_insert), -CC_CONFLICT);
        assert_string_equal(s->err.code, "being_removed");
        cc_strv_free(&vm.image_blob_ids);
        t.kind = "vm";
        t.id = vm.id;
        IN_TX(s, meta_tombstone_put(s->m, &t, &s->err));
        assert_int_equal(refuse(s, &vm, meta_vm_insert), -CC_CONFLICT);
        assert_null(strstr(s->err.msg, "not found"));

        vm_init(&bad, "x\xff");
        assert_int_equal(refuse(s, &bad, meta_vm_insert), -CC_INVALID);
        cc_strset(&bad.id, "short");
        assert_int_equal(refuse(s, &bad, meta_vm_insert), -CC_INVALID);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 1);
}

/* No name is NULL in the column: any number of VMs may have none. */
static void nameless(void **state)
{
        struct store *s = *state;

        add_vm(s, "", NULL);
        add_vm(s, NULL, NULL);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms WHERE name IS NULL"), 2);
}

static void resolve(void **state)
{
        struct store *s = *state;
        char abc[27] = "ABCAAAAAAAAAAAAAAAAAAAAAAA";
        char abd[27] = "ABDAAAAAAAAAAAAAAAAAAAAAAA";
        char ab2[27] = "ABDB2AAAAAAAAAAAAAAAAAAAAA";
        char got[27];

        add_vm(s, "web", abc);
        add_vm(s, abc + 1, abd); /* a name that looks like nothing else */
        add_vm(s, "ABC", ab2);   /* a name that equals another VM's prefix */
        assert_int_equal(meta_vm_resolve(s->m, abc, got, &s->err), 0);
        assert_string_equal(got, abc);
        assert_int_equal(meta_vm_resolve(s->m, "web", got, &s->err), 0);
        assert_string_equal(got, abc);
        assert_int_equal(meta_vm_resolve(s->m, "ABC", got, &s->err), 0);
        assert_string_equal(got, ab2); /* a name beats a prefix */
        assert_int_equal(meta_vm_resolve(s->m, "ABCA", got, &s->err), 0);
        assert_string_equal(got, abc);
        assert_int_equal(meta_vm_resolve(s->m, "ABD", got, &s->err), -CC_AMBIGUOUS);
        assert_string_equal(s->err.msg, "ambiguous ref \"ABD\": multiple matches");
        assert_int_equal(meta_vm_resolve(s->m, "ABDB", got, &s->err), 0);
        assert_string_equal(got, ab2);
        assert_int_equal(meta_vm_resolve(s->m, "AB", got, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_vm_resolve(s->m, "", got, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_vm_resolve(s->m, "abc", got, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_vm_resolve(s->m, "\xff\xff\xff", got, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_vm_resolve(s->m, "wbe", got, &s->err), -CC_NOT_FOUND);
        assert_string_equal(s->err.msg, "vm wbe: vm not found");
        assert_string_equal(s->err.code, "vm_not_found");
        assert_string_equal(s->err.hint, "did you mean \"web\"?");
}

static void an_id_beats_a_name(void **state)
{
        struct store *s = *state;
        char first[27] = "";
        char got[27];

        add_vm(s, "one", first);
        add_vm(s, first, NULL);
        assert_int_equal(meta_vm_resolve(s->m, first, got, &s->err), 0);
        assert_string_equal(got, first);
}

static int collect(void *ctx, struct vm_record *vm, struct cc_err *err)
{
        cc_strv_add(ctx, vm->config.name);
        return 0;
}

static int stop_at_first(void *ctx, struct vm_record *vm, struct cc_err *err)
{
        ++*(int *)ctx;
        return 7;
}

static void each_by_creation(void **state)
{
        struct store *s = *state;
        CC_STRV struct cc_strv names = { 0 };
        CC_FREE char *joined = NULL;
        int calls = 0;

        for (int i = 0; i < 5; i++) {
                static const char *const name[] = { "c", "a", "e", "b", "d" };
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;

                vm_init(&vm, name[i]);
                vm.created_at = 1000 + name[i][0] * CC_NSEC_PER_SEC;
                IN_TX(s, meta_vm_insert(s->m, &vm, &s->err));
        }
        assert_int_equal(meta_vm_each(s->m, collect, &names, &s->err), 0);
        joined = cc_strv_join(&names, "");
        assert_string_equal(joined, "abcde");
        assert_int_equal(meta_vm_each(s->m, stop_at_first, &calls, &s->err), 7);
        assert_int_equal(calls, 1);
}

static int delete_it(void *ctx, struct vm_record *vm, struct cc_err *err)
{
        struct store *s = ctx;

        return meta_vm_delete(s->m, vm->id, err);
}

static void the_callback_may_write(void **state)
{
        struct store *s = *state;

        add_vm(s, "a", NULL);
        add_vm(s, "b", NULL);
        IN_TX(s, meta_vm_each(s->m, delete_it, s, &s->err));
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 0);
}

static void names_for_completion(void **state)
{
        struct store *s = *state;
        CC_STRV struct cc_strv names = { 0 };
        CC_FREE char *joined = NULL;

        add_vm(s, "web-2", NULL);
        add_vm(s, "web-1", NULL);
        add_vm(s, "db", NULL);
        add_vm(s, NULL, NULL);
        assert_int_equal(meta_vm_names(s->m, "web", 10, &names, &s->err), 0);
        joined = cc_strv_join(&names, " ");
        assert_string_equal(joined, "web-1 web-2");
        cc_strv_free(&names);
        assert_int_equal(meta_vm_names(s->m, "", 2, &names, &s->err), 0);
        assert_int_equal(names.len, 2);
}

/* A damaged row is an error that names the VM, never an empty list. */
static void damaged_rows(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record got = VM_RECORD_INIT;
        CC_STRV struct cc_strv names = { 0 };
        char id[27] = "";

        add_vm(s, "web", id);
        assert_int_equal(meta_exec(s->m, "UPDATE vms SET data = '{\"id\":7}'", &s->err), 0);
        assert_int_equal(meta_vm_get(s->m, id, &got, &s->err), -CC_INVALID);
        assert_non_null(strstr(s->err.msg, "id is not a string"));
        assert_int_equal(meta_vm_each(s->m, collect, &names, &s->err), -CC_INVALID);
        assert_non_null(strstr(s->err.msg, id));
        assert_null(strstr(s->err.msg, "not found"));
}

struct seen {
        struct cc_strv changed, gone;
};

static int saw(void *ctx, struct vm_record *vm, struct cc_err *err)
{
        cc_strv_add(&((struct seen *)ctx)->changed, vm->config.name);
        return 0;
}

static int saw_gone(void *ctx, const char *id, const char *name, struct cc_err *err)
{
        cc_strv_add(&((struct seen *)ctx)->gone, name);
        return 0;
}

static void changes(void **state)
{
        struct store *s = *state;
        struct seen seen = { 0 };
        char a[27] = "", b[27] = "";
        int64_t seq;
        bool complete;

        add_vm(s, "a", a);
        add_vm(s, "b", b);
        assert_int_equal(meta_seq(s->m, &seq, &s->err), 0);
        add_vm(s, "c", NULL);
        IN_TX(s, meta_vm_delete(s->m, a, &s->err));
        assert_int_equal(meta_changes(s->m, seq, saw, saw_gone, &seen, &complete, &s->err), 0);
        assert_true(complete);
        assert_int_equal(seen.changed.len, 1);
        assert_string_equal(seen.changed.v[0], "c");
        assert_int_equal(seen.gone.len, 1);
        assert_string_equal(seen.gone.v[0], "a");
        cc_strv_free(&seen.changed);
        cc_strv_free(&seen.gone);
        /* A number from another store's future. */
        assert_int_equal(meta_changes(s->m, 1000, saw, saw_gone, &seen, &complete, &s->err), 0);
        assert_false(complete);
        cc_strv_free(&seen.changed);
        cc_strv_free(&seen.gone);
}

static void old_deletions_are_forgotten(void **state)
{
        struct store *s = *state;
        struct seen seen = { 0 };
        bool complete;
        int64_t kept;

        assert_int_equal(meta_exec(s->m,
                                   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                                   "WHERE i < 12000) INSERT INTO vm_gone(seq, id) "
                                   "SELECT i, 'X' FROM n; "
                                   "UPDATE meta_kv SET v = '12000' WHERE k = 'seq'",
                                   &s->err),
                         0);
        assert_int_equal(meta_changes(s->m, 0, saw, saw_gone, &seen, &complete, &s->err), 0);
        assert_true(complete);
        assert_int_equal(seen.gone.len, 12000);
        cc_strv_free(&seen.gone);
        assert_int_equal(meta_begin(s->m, META_RELAXED, &s->err), 0);
        for (int i = 0; i < 500; i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;

                vm_init(&vm, NULL);
                assert_int_equal(meta_vm_insert(s->m, &vm, &s->err), 0);
                assert_int_equal(meta_vm_delete(s->m, vm.id, &s->err), 0);
        }
        assert_int_equal(meta_commit(s->m, &s->err), 0);
        kept = store_count(s, "SELECT count(*) FROM vm_gone");
        assert_in_range(kept, META_GONE_KEPT, META_GONE_KEPT + 500);
        assert_int_equal(meta_changes(s->m, 0, saw, saw_gone, &seen, &complete, &s->err), 0);
        assert_false(complete);
        assert_int_equal(seen.gone.len, kept);
        cc_strv_free(&seen.gone);
        assert_int_equal(meta_changes(s->m, 12000, saw, saw_gone, &seen, &complete, &s->err), 0);
        assert_true(complete);
        cc_strv_free(&seen.gone);
}

static void writes_need_a_transaction(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        vm_init(&vm, "web");
        assert_int_equal(meta_vm_insert(s->m, &vm, &s->err), -CC_INTERNAL);
        assert_int_equal(meta_begin(s->m, META_READ, &s->err), 0);
        assert_int_equal(meta_vm_insert(s->m, &vm, &s->err), -CC_INTERNAL);
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), -CC_INTERNAL);
        assert_int_equal(meta_commit(s->m, &s->err), 0);
        assert_int_equal(meta_commit(s->m, &s->err), -CC_INTERNAL);
        /* Rolled back is as if it never was. */
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_vm_insert(s->m, &vm, &s->err), 0);
        meta_rollback(s->m);
        meta_rollback(s->m);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 0);
        assert_int_equal(store_count(s, "SELECT v FROM meta_kv WHERE k = 'seq'"), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(insert_and_get),
                T(update),
                T(delete_leaves_a_trace),
                T(conflicts),
                T(nameless),
                T(resolve),
                T(an_id_beats_a_name),
                T(each_by_creation),
                T(the_callback_may_write),
                T(names_for_completion),
                T(damaged_rows),
                T(changes),
                T(old_deletions_are_forgotten),
                T(writes_need_a_transaction),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
