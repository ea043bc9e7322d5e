/* Image, network and tombstone rows, and the backup. */
#include "helper.h"

#include <sys/stat.h>

static void oci(struct image_record *image, const char *ref, const char *digest, int64_t created)
{
        image->ref = xstrdup(ref);
        image->manifest_digest = xstrdup(digest);
        image->created_at = created;
        image->size = 10;
}

static void put_image(struct store *s, const char *ref, const char *digest, int64_t created,
                      const char *blob)
{
        struct image_record image = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv blobs = { 0 };

        oci(&image, ref, digest, created);
        cc_strv_add(&blobs, blob);
        IN_TX(s, meta_image_put(s->m, IMAGE_OCI, &image, &blobs, &s->err));
        image_record_clear(&image);
}

static int64_t pins(struct store *s, const char *hex)
{
        CC_FREE char *sql =
                xasprintf("SELECT (SELECT count(*) FROM image_blobs WHERE hex = '%s') + "
                          "(SELECT count(*) FROM vm_blobs WHERE hex = '%s')",
                          hex, hex);
        int64_t n = store_count(s, sql);
        bool pinned = n == 0;

        assert_int_equal(meta_blob_pinned(s->m, hex, &pinned, &s->err), 0);
        assert_true(pinned == (n > 0));
        return n;
}

static int list_refs(void *ctx, const char *kind, struct image_record *image, struct cc_err *err)
{
        cc_strv_addf(ctx, "%s:%s", kind, image->ref);
        return 0;
}

static void images(void **state)
{
        struct store *s = *state;
        IMAGE_RECORD struct image_record got = IMAGE_RECORD_INIT;
        IMAGE_RECORD struct image_record cloud = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv refs = { 0 };
        CC_STRV struct cc_strv none = { 0 };
        CC_FREE char *joined = NULL;

        put_image(s, "b", "sha256:1", 2000, "aa");
        put_image(s, "a", "sha256:1", 3000, "aa");
        put_image(s, "c", "sha256:2", 1000, "aa");
        cloud.ref = xstrdup("http://x/y.img");
        cloud.content_sum = xstrdup("sha256:3");
        IN_TX(s, meta_image_put(s->m, IMAGE_CLOUDIMG, &cloud, &none, &s->err));

        assert_int_equal(meta_image_each(s->m, NULL, list_refs, &refs, &s->err), 0);
        joined = cc_strv_join(&refs, " ");
        assert_string_equal(joined, "cloudimg:http://x/y.img oci:c oci:b oci:a");
        cc_strv_free(&refs);
        assert_int_equal(meta_image_each(s->m, IMAGE_CLOUDIMG, list_refs, &refs, &s->err), 0);
        assert_int_equal(refs.len, 1);

        assert_int_equal(meta_image_get(s->m, IMAGE_OCI, "b", &got, &s->err), 0);
        assert_string_equal(got.manifest_digest, "sha256:1");
        assert_int_equal(got.size, 10);
        s->err = (struct cc_err)CC_ERR_INIT;
        assert_int_equal(meta_image_get(s->m, IMAGE_OCI, "x", &got, &s->err), -CC_NOT_FOUND);
        assert_int_equal(s->err.class, CC_OK); /* the caller words it */

        /* Two refs share a digest; the pins go with the last one. */
        assert_int_equal(pins(s, "aa"), 2);
        IN_TX(s, meta_image_ref_delete(s->m, IMAGE_OCI, "b", &s->err));
        assert_int_equal(pins(s, "aa"), 2);
        IN_TX(s, meta_image_ref_delete(s->m, IMAGE_OCI, "a", &s->err));
        assert_int_equal(pins(s, "aa"), 1);
        IN_TX(s, meta_image_ref_delete(s->m, IMAGE_OCI, "a", &s->err)); /* absent is fine */
        /* A ref that moves to another digest takes its old one along if nobody else names it. */
        put_image(s, "c", "sha256:9", 1000, "bb");
        assert_int_equal(pins(s, "aa"), 0);
        assert_int_equal(pins(s, "bb"), 1);
        assert_int_equal(store_count(s, "SELECT count(*) FROM images"), 2);
        store_is_sound(s);
}

static void image_refusals(void **state)
{
        struct store *s = *state;
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv blobs = { 0 };
        struct tombstone t = { .kind = "blob", .id = "aa", .lease_id = "L", .payload = "{}" };

        oci(&image, "r", "", 1);
        cc_strv_add(&blobs, "aa");
        assert_int_equal(meta_image_put(s->m, IMAGE_OCI, &image, &blobs, &s->err), -CC_INTERNAL);
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_image_put(s->m, IMAGE_OCI, &image, &blobs, &s->err), -CC_INVALID);
        cc_strset(&image.manifest_digest, "sha256:1");
        assert_int_equal(meta_tombstone_put(s->m, &t, &s->err), 0);
        assert_int_equal(meta_image_put(s->m, IMAGE_OCI, &image, &blobs, &s->err), -CC_CONFLICT);
        meta_rollback(s->m);
        assert_int_equal(store_count(s, "SELECT count(*) FROM images"), 0);
}

/* VMs pin blobs in every state. */
static void vm_pins(void **state)
{
        struct store *s = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        vm_init(&vm, "web");
        cc_strv_add(&vm.image_blob_ids, "aa");
        IN_TX(s, meta_vm_insert(s->m, &vm, &s->err));
        put_image(s, "r", "sha256:1", 1, "aa");
        assert_int_equal(pins(s, "aa"), 2);
        IN_TX(s, meta_vm_delete(s->m, vm.id, &s->err));
        assert_int_equal(pins(s, "aa"), 1);
}

static int show_row(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        cc_strv_addf(ctx, "%s/%s/%s/%s", row->vm_id, row->if_name, row->type,
                     row->network ? row->network->ip : "-");
        return 0;
}

static int drop_row(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        struct store *s = ctx;

        return meta_network_delete(s->m, row->vm_id, row->if_name, err);
}

static void networks(void **state)
{
        struct store *s = *state;
        char ip[] = "10.0.0.2", id[] = "N1", id2[] = "N2", type[] = "net", vm[] = "V",
             eth0[] = "eth0", eth10[] = "eth10", eth2[] = "eth2";
        struct nic_network net = { .ip = ip, .prefix = 16 };
        struct meta_network row = { .id = id, .type = type, .vm_id = vm, .if_name = eth10 };
        CC_STRV struct cc_strv rows = { 0 };
        CC_FREE char *joined = NULL;

        IN_TX(s, meta_network_put(s->m, &row, &s->err));
        row.id = id2;
        row.if_name = eth2;
        IN_TX(s, meta_network_put(s->m, &row, &s->err));
        /* The intent is completed, and what others keep in the row stays. */
        assert_int_equal(meta_exec(s->m,
                                   "UPDATE networks SET data = "
                                   "json_set(data, '$.future', 1) WHERE id = 'N2'",
                                   &s->err),
                         0);
        row.network = &net;
        IN_TX(s, meta_network_put(s->m, &row, &s->err));
        assert_int_equal(store_count(s, "SELECT json_extract(data, '$.future') FROM networks "
                                        "WHERE id = 'N2'"),
                         1);
        assert_int_equal(meta_network_each(s->m, "V", show_row, &rows, &s->err), 0);
        joined = cc_strv_join(&rows, " ");
        assert_string_equal(joined, "V/eth2/net/10.0.0.2 V/eth10/net/-");
        cc_strv_free(&rows);

        /* One row a NIC. */
        row.if_name = eth10;
        assert_int_equal(meta_begin(s->m, META_RELAXED, &s->err), 0);
        assert_int_equal(meta_network_put(s->m, &row, &s->err), -CC_CONFLICT);
        meta_rollback(s->m);

        row.id = eth0;
        row.if_name = eth0;
        row.vm_id = type;
        IN_TX(s, meta_network_put(s->m, &row, &s->err));
        assert_int_equal(meta_network_each(s->m, NULL, show_row, &rows, &s->err), 0);
        assert_int_equal(rows.len, 3);
        IN_TX(s, meta_network_delete(s->m, "V", "eth2", &s->err));
        assert_int_equal(store_count(s, "SELECT count(*) FROM networks"), 2);
        IN_TX(s, meta_network_each(s->m, NULL, drop_row, s, &s->err));
        assert_int_equal(store_count(s, "SELECT count(*) FROM networks"), 0);
        store_is_sound(s);
}

static int show_stone(void *ctx, const struct tombstone *t, struct cc_err *err)
{
        cc_strv_addf(ctx, "%s/%s/%s/%d/%lld/%s", t->kind, t->id, t->lease_id, t->phase,
                     (long long)t->leased_at, t->payload);
        return 0;
}

static int drop_stone(void *ctx, const struct tombstone *t, struct cc_err *err)
{
        struct store *s = ctx;

        return meta_tombstone_delete(s->m, t->kind, t->id, err);
}

static void tombstones(void **state)
{
        struct store *s = *state;
        struct tombstone t = { .kind = "vm",
                               .id = "X",
                               .lease_id = "L1",
                               .leased_at = 5,
                               .phase = TOMBSTONE_LEASED,
                               .payload = "{}" };
        CC_STRV struct cc_strv seen = { 0 };

        IN_TX(s, meta_tombstone_put(s->m, &t, &s->err));
        /* The holder may go on to deleting, nobody else may touch it. */
        t.phase = TOMBSTONE_DELETING;
        t.payload = "{\"a\":1}";
        IN_TX(s, meta_tombstone_put(s->m, &t, &s->err));
        t.lease_id = "L2";
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_tombstone_put(s->m, &t, &s->err), -CC_CONFLICT);
        meta_rollback(s->m);
        assert_int_equal(meta_tombstone_get(s->m, "vm", "X", show_stone, &seen, &s->err), 0);
        assert_int_equal(meta_tombstone_get(s->m, "vm", "Y", show_stone, &seen, &s->err), 0);
        assert_int_equal(seen.len, 1);
        assert_string_equal(seen.v[0], "vm/X/L1/1/5/{\"a\":1}");
        t.id = "Y";
        IN_TX(s, meta_tombstone_put(s->m, &t, &s->err));
        IN_TX(s, meta_tombstone_each(s->m, drop_stone, s, &s->err));
        assert_int_equal(store_count(s, "SELECT count(*) FROM tombstones"), 0);
        IN_TX(s, meta_tombstone_delete(s->m, "vm", "Y", &s->err));
}

static void backup(void **state)
{
        struct store *s = *state;
        CC_FREE char *dest = cc_path_join(s->root, "copy.db");
        CC_FREE char *path = cc_path_join(s->root, "meta/meta.db");
        CC_FREE char *nowhere = cc_path_join(s->root, "no/such/dir/copy.db");
        CC_FREE char *listing = NULL;
        struct stat st;

        add_vm(s, "before", NULL);
        assert_int_equal(cc_publish(dest, "old", 3, 0644, NULL), 0);
        assert_int_equal(meta_backup(s->m, dest, &s->err), 0);
        assert_int_equal(stat(dest, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        add_vm(s, "after", NULL);

        assert_int_equal(meta_backup(s->m, nowhere, &s->err), -CC_NOT_FOUND);
        assert_int_equal(meta_begin(s->m, META_READ, &s->err), 0);
        assert_int_equal(meta_backup(s->m, dest, &s->err), -CC_INTERNAL);
        meta_rollback(s->m);
        listing = xasprintf("test $(ls -A %s | grep -c tmp) = 0", s->root);
        assert_int_equal(system(listing), 0);

        /* Putting the copy back is all a restore takes. */
        meta_checkpoint(s->m, true);
        store_close(s);
        assert_int_equal(rename(dest, path), 0);
        assert_int_equal(store_open(s), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms WHERE name = 'before'"), 1);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 1);
        assert_int_equal(store_count(s, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
        add_vm(s, "again", NULL);
        store_is_sound(s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(images), T(image_refusals), T(vm_pins), T(networks), T(tombstones), T(backup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
