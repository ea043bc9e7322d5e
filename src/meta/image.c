/* Image rows: one per ref, one per digest, and the blobs that a digest pins (state.md §2). */
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "meta/internal.h"

static const struct record_type *type_of(const char *kind)
{
        return strcmp(kind, IMAGE_OCI) == 0 ? &image_oci_type : &image_cloudimg_type;
}

static const char *digest_of(const char *kind, const struct image_record *image)
{
        return strcmp(kind, IMAGE_OCI) == 0 ? image->manifest_digest : image->content_sum;
}

/* One statement with up to four text parameters and no result. */
static int run4(struct meta *m, const char *sql, const char *a, const char *b, const char *c,
                const char *d, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        const char *const args[] = { a, b, c, d };
        int r = meta_prepare(m, sql, &s, err);

        if (r < 0)
                return r;
        for (int i = 0; i < 4 && args[i]; i++)
                meta_bind(s, i + 1, args[i]);
        return meta_run(m, s, err);
}

/* A digest that lost its last ref goes with its pins; the blobs themselves are gc's. */
static int drop_unreferenced(struct meta *m, const char *kind, struct cc_err *err)
{
        return run4(m,
                    "DELETE FROM images WHERE kind = ?1 AND NOT EXISTS (SELECT 1 FROM image_refs r "
                    "WHERE r.kind = images.kind AND r.digest = images.digest)",
                    kind, NULL, NULL, NULL, err);
}

static int put_blobs(struct meta *m, const char *kind, const char *digest,
                     const struct cc_strv *blobs, struct cc_err *err)
{
        const char *hex;
        int r = run4(m, "DELETE FROM image_blobs WHERE kind = ?1 AND digest = ?2", kind, digest,
                     NULL, NULL, err);

        cc_strv_foreach (blobs, i, hex) {
                if (r == 0)
                        r = meta_tombstone_refuse(m, "blob", hex, err);
                if (r == 0)
                        r = run4(m,
                                 "INSERT OR IGNORE INTO image_blobs(kind, digest, hex) "
                                 "VALUES(?1, ?2, ?3)",
                                 kind, digest, hex, NULL, err);
        }
        return r;
}

int meta_image_put(struct meta *m, const char *kind, const struct image_record *image,
                   const struct cc_strv *blobs, struct cc_err *err)
{
        const char *digest = digest_of(kind, image);
        CC_JSON json_t *json = NULL;
        CC_FREE char *text = NULL;
        int r = meta_need_write(m, err);

        if (r == 0 && (cc_isempty(image->ref) || cc_isempty(digest)))
                r = cc_fail(err, CC_INVALID, "store: image record without ref or digest");
        if (r == 0)
                r = record_check(type_of(kind), image, err);
        if (r < 0)
                return r;
        json = record_dump(type_of(kind), image, RECORD_STORE);
        text = cc_json_compact(json);
        r = run4(m,
                 "INSERT INTO images(kind, digest, data) VALUES(?1, ?2, ?3) "
                 "ON CONFLICT(kind, digest) DO UPDATE SET data = excluded.data",
                 kind, digest, text, NULL, err);
        if (r == 0)
                r = run4(m,
                         "INSERT INTO image_refs(kind, ref, digest, data) VALUES(?1, ?2, ?3, ?4) "
                         "ON CONFLICT(kind, ref) DO UPDATE SET digest = excluded.digest, "
                         "data = excluded.data",
                         kind, image->ref, digest, text, err);
        if (r == 0)
                r = put_blobs(m, kind, digest, blobs, err);
        return r < 0 ? r : drop_unreferenced(m, kind, err);
}

static int load(const char *kind, const char *text, struct image_record *ret, struct cc_err *err)
{
        return record_parse(type_of(kind), text, strlen(text), ret, err);
}

int meta_image_get(struct meta *m, const char *kind, const char *ref, struct image_record *ret,
                   struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, "SELECT data FROM image_refs WHERE kind = ?1 AND ref = ?2", &s,
                             err);

        if (r < 0)
                return r;
        meta_bind(s, 1, kind);
        meta_bind(s, 2, ref);
        r = meta_step(m, s, err);
        if (r == 0)
                return -CC_NOT_FOUND;
        return r < 0 ? r : load(kind, meta_text(s, 0), ret, err);
}

struct item {
        const char *kind;
        struct image_record image;
};

static int by_kind_and_creation(const void *a, const void *b)
{
        const struct item *x = a;
        const struct item *y = b;
        int c = strcmp(x->kind, y->kind);

        if (c != 0)
                return c;
        if (x->image.created_at != y->image.created_at)
                return x->image.created_at < y->image.created_at ? -1 : 1;
        return strcmp(x->image.ref ? x->image.ref : "", y->image.ref ? y->image.ref : "");
}

struct items {
        struct item *v;
        size_t n;
};

static void items_free(struct items *items)
{
        for (size_t i = 0; i < items->n; i++)
                image_record_clear(&items->v[i].image);
        free(items->v);
}

/* The creation time is only in the record, so all are read before any is given out. */
static int read_all(struct meta *m, const char *kind, struct items *items, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, "SELECT kind, data FROM image_refs WHERE ?1 IS NULL OR kind = ?1",
                             &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, kind);
        while ((r = meta_step(m, s, err)) > 0) {
                struct item item = { .kind = strcmp(meta_text(s, 0), IMAGE_OCI) == 0
                                                     ? IMAGE_OCI
                                                     : IMAGE_CLOUDIMG };

                r = load(item.kind, meta_text(s, 1), &item.image, err);
                if (r < 0)
                        return r;
                items->v = xreallocarray(items->v, items->n + 1, sizeof(*items->v));
                items->v[items->n++] = item;
        }
        return r;
}

int meta_image_each(struct meta *m, const char *kind, meta_image_fn fn, void *ctx,
                    struct cc_err *err)
{
        CC_CLEANUP(items_free) struct items items = { 0 };
        int r = read_all(m, kind, &items, err);

        if (r == 0 && items.n)
                qsort(items.v, items.n, sizeof(*items.v), by_kind_and_creation);
        for (size_t i = 0; i < items.n && r == 0; i++)
                r = fn(ctx, items.v[i].kind, &items.v[i].image, err);
        return r;
}

int meta_image_ref_delete(struct meta *m, const char *kind, const char *ref, struct cc_err *err)
{
        int r = meta_need_write(m, err);

        if (r == 0)
                r = run4(m, "DELETE FROM image_refs WHERE kind = ?1 AND ref = ?2", kind, ref, NULL,
                         NULL, err);
        return r < 0 ? r : drop_unreferenced(m, kind, err);
}

int meta_blob_pinned(struct meta *m, const char *hex, bool *ret, struct cc_err *err)
{
        return meta_exists(m, SQL_BLOB_PINNED, hex, NULL, ret, err);
}
