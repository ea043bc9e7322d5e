/* Is the store sound (state.md §11, meta): what SQLite can tell, and whether what was derived from
 * the records still follows from them. Only reads; a row is never parsed by us. */
#include <string.h>

#include "base/alloc.h"
#include "meta/internal.h"

#define FINDINGS_MAX 20

/* A query that gives one text per finding; `format` has one %s for it. */
struct rule {
        const char *format, *sql;
};

#define DIFFER(left, right)                                                                        \
        "SELECT DISTINCT id FROM (SELECT * FROM (" left " EXCEPT " right                           \
        ") UNION ALL SELECT * FROM (" right " EXCEPT " left ")) LIMIT 21"
#define SET_OF(table, key)                                                                         \
        "SELECT t.id AS id, j.key AS k FROM " table " t, json_each(t.data, '$." key "') j"

/* Those behind a failing one of the first group would trip over the same damage. */
static const struct rule structure[] = {
        { "damaged: %s", "SELECT integrity_check FROM pragma_integrity_check(20) "
                         "WHERE integrity_check <> 'ok'" },
        { "row without its parent: %s", "SELECT \"table\" || ' row ' || coalesce(rowid, '?') FROM "
                                        "pragma_foreign_key_check LIMIT 21" },
        { "VM row %s is no JSON", "SELECT id FROM vms WHERE NOT json_valid(data) LIMIT 21" },
        { "snapshot row %s is no JSON",
          "SELECT id FROM snapshots WHERE NOT json_valid(data) LIMIT 21" },
        { "network row %s is no JSON",
          "SELECT id FROM networks WHERE NOT json_valid(data) LIMIT 21" },
        { "image row %s is no JSON",
          "SELECT ref FROM image_refs WHERE NOT json_valid(data) LIMIT 21" },
};

static const struct rule derived[] = {
        { "columns of VM row %s differ from its record",
          "SELECT id FROM vms WHERE id IS NOT json_extract(data, '$.id') "
          "OR id8 <> substr(id, 1, 8) OR state IS NOT json_extract(data, '$.state') "
          "OR name IS NOT nullif(coalesce(json_extract(data, '$.config.name'), ''), '') LIMIT 21" },
        { "columns of snapshot row %s differ from its record",
          "SELECT id FROM snapshots WHERE id IS NOT json_extract(data, '$.id') "
          "OR pending <> coalesce(json_extract(data, '$.pending'), 0) "
          "OR name IS NOT nullif(coalesce(json_extract(data, '$.name'), ''), '') LIMIT 21" },
        { "columns of network row %s differ from its record",
          "SELECT id FROM networks WHERE vm_id IS NOT json_extract(data, '$.vm_id') "
          "OR if_name IS NOT json_extract(data, '$.if_name') LIMIT 21" },
        { "blob pins of VM row %s differ from its record",
          DIFFER("SELECT vm_id AS id, hex AS k FROM vm_blobs", SET_OF("vms", "image_blob_ids")) },
        { "snapshots of VM row %s differ from its record",
          DIFFER("SELECT vm_id AS id, snapshot_id AS k FROM vm_snapshots",
                 SET_OF("vms", "snapshot_ids")) },
        { "blob pins of snapshot row %s differ from its record",
          DIFFER("SELECT snapshot_id AS id, hex AS k FROM snapshot_blobs",
                 SET_OF("snapshots", "image_blob_ids")) },
        { "image ref %s has no image",
          "SELECT ref FROM image_refs r WHERE NOT EXISTS (SELECT 1 FROM images i WHERE "
          "i.kind = r.kind AND i.digest = r.digest) LIMIT 21" },
};

static int apply(struct meta *m, const struct rule *rule, meta_finding_fn fn, void *ctx,
                 size_t *ret_n, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        size_t n = 0;
        int r = meta_prepare(m, rule->sql, &s, err);

        while (r == 0 && (r = meta_step(m, s, err)) > 0) {
                CC_BUF struct cc_buf line = { 0 };
                const char *hole = strstr(rule->format, "%s");

                r = 0;
                if (n++ == FINDINGS_MAX) {
                        fn(ctx, "and more of the kind");
                        break;
                }
                cc_buf_add(&line, rule->format, (size_t)(hole - rule->format));
                cc_buf_str(&line, meta_text(s, 0));
                cc_buf_str(&line, hole + 2);
                fn(ctx, line.data);
        }
        *ret_n += n;
        return r;
}

int meta_check(struct meta *m, meta_finding_fn fn, void *ctx, size_t *ret_n, struct cc_err *err)
{
        size_t n = 0;
        bool own;
        int r = meta_read_begin(m, &own, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < CC_ARRAY_LEN(structure) && r == 0; i++)
                r = apply(m, &structure[i], fn, ctx, &n, err);
        for (size_t i = 0; i < CC_ARRAY_LEN(derived) && r == 0 && n == 0; i++)
                r = apply(m, &derived[i], fn, ctx, &n, err);
        meta_read_end(m, own);
        if (r == 0)
                *ret_n = n;
        return r;
}
