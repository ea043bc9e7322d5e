/* Network index rows: one per CNI NIC, written before the plugins run (network.md §1). */
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "meta/internal.h"

static json_t *row_json(const struct meta_network *row, const char *old)
{
        json_t *j = old ? json_loads(old, 0, NULL) : NULL;

        /* Keys that we do not know stay. */
        if (!json_is_object(j)) {
                json_decref(j);
                j = json_object();
        }
        json_object_set_new(j, "id", json_string(row->id));
        json_object_set_new(j, "type", json_string(row->type ? row->type : ""));
        json_object_set_new(j, "vm_id", json_string(row->vm_id));
        json_object_set_new(j, "if_name", json_string(row->if_name));
        if (row->network)
                json_object_set_new(j, "network",
                                    record_dump(&nic_network_type, row->network, RECORD_STORE));
        else
                json_object_del(j, "network");
        return j;
}

static int old_data(struct meta *m, const char *id, char **ret, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, "SELECT data FROM networks WHERE id = ?1", &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, id);
        r = meta_step(m, s, err);
        if (r > 0)
                *ret = xstrdup(meta_text(s, 0));
        return r < 0 ? r : 0;
}

int meta_network_put(struct meta *m, const struct meta_network *row, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        CC_JSON json_t *json = NULL;
        CC_FREE char *old = NULL;
        CC_FREE char *text = NULL;
        int r = meta_need_write(m, err);

        if (r == 0 && row->network)
                r = record_check(&nic_network_type, row->network, err);
        if (r == 0)
                r = old_data(m, row->id, &old, err);
        if (r == 0)
                r = meta_prepare(m,
                                 "INSERT INTO networks(id, vm_id, if_name, data) "
                                 "VALUES(?1, ?2, ?3, ?4) ON CONFLICT(id) DO UPDATE SET "
                                 "vm_id = excluded.vm_id, if_name = excluded.if_name, "
                                 "data = excluded.data",
                                 &s, err);
        if (r < 0)
                return r;
        json = row_json(row, old);
        text = cc_json_compact(json);
        meta_bind(s, 1, row->id);
        meta_bind(s, 2, row->vm_id);
        meta_bind(s, 3, row->if_name);
        meta_bind(s, 4, text);
        r = meta_run(m, s, err);
        if (r == -CC_CONFLICT)
                r = cc_fail(err, CC_CONFLICT, "network row of vm %s %s already exists", row->vm_id,
                            row->if_name);
        return r;
}

static int give(const char *text, size_t n, meta_network_fn fn, void *ctx, struct cc_err *err)
{
        CC_JSON json_t *json = NULL;
        struct nic_network network = { 0 };
        const char *id = "", *type = "", *vm_id = "", *if_name = "";
        struct meta_network row = { 0 };
        const json_t *net;
        int r;

        if ((r = cc_json_parse(text, n, "network row", &json, err)) < 0 ||
            (r = cc_json_str(json, "id", &id, err)) < 0 ||
            (r = cc_json_str(json, "type", &type, err)) < 0 ||
            (r = cc_json_str(json, "vm_id", &vm_id, err)) < 0 ||
            (r = cc_json_str(json, "if_name", &if_name, err)) < 0)
                return r;
        net = json_object_get(json, "network");
        if (net && !json_is_null(net)) {
                r = record_load(&nic_network_type, net, &network, err);
                if (r < 0)
                        return r;
                row.network = &network;
        }
        /* The struct's strings are not const because put() takes the same one; they live in json.
         */
        row.id = (char *)(uintptr_t)id;
        row.type = (char *)(uintptr_t)type;
        row.vm_id = (char *)(uintptr_t)vm_id;
        row.if_name = (char *)(uintptr_t)if_name;
        r = fn(ctx, &row, err);
        record_clear(&nic_network_type, &network);
        return r;
}

int meta_network_each(struct meta *m, const char *vm_id, meta_network_fn fn, void *ctx,
                      struct cc_err *err)
{
        CC_STRV struct cc_strv rows = { 0 };
        STMT_OWN sqlite3_stmt *s = NULL;
        const char *text;
        int r = meta_prepare(m,
                             vm_id ? "SELECT data FROM networks WHERE vm_id = ?1 "
                                     "ORDER BY length(if_name), if_name"
                                   : "SELECT data FROM networks "
                                     "ORDER BY vm_id, length(if_name), if_name",
                             &s, err);

        if (r < 0)
                return r;
        if (vm_id)
                meta_bind(s, 1, vm_id);
        /* Read first: the callback may delete rows. */
        while ((r = meta_step(m, s, err)) > 0)
                cc_strv_add(&rows, meta_text(s, 0));
        cc_strv_foreach (&rows, i, text) {
                if (r == 0)
                        r = give(text, strlen(text), fn, ctx, err);
        }
        return r;
}

int meta_network_delete(struct meta *m, const char *vm_id, const char *if_name, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_need_write(m, err);

        if (r == 0)
                r = meta_prepare(m,
                                 "DELETE FROM networks WHERE vm_id = ?1 "
                                 "AND (?2 IS NULL OR if_name = ?2)",
                                 &s, err);
        if (r < 0)
                return r;
        meta_bind(s, 1, vm_id);
        meta_bind(s, 2, if_name);
        return meta_run(m, s, err);
}
