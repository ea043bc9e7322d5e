/* Index rows of NICs that plugins made. See cni_index.h. */
#include "net/cni_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "net/builtin.h"

void cni_rows_clear(struct cni_rows *rows)
{
        for (size_t i = 0; i < rows->len; i++) {
                free(rows->v[i].type);
                free(rows->v[i].if_name);
                record_clear(&nic_network_type, &rows->v[i].network);
        }
        free(rows->v);
        *rows = (struct cni_rows){ 0 };
}

void cni_rows_add(struct cni_rows *rows, const char *type, const char *if_name,
                  const struct nic_network *network)
{
        long long index = -1;
        struct cni_row *row;

        if (!cc_startswith(if_name, "eth") || cc_parse_i64(if_name + 3, &index) < 0 || index < 0 ||
            index > 9999)
                return;
        rows->v = xreallocarray(rows->v, rows->len + 1, sizeof(*rows->v));
        row = &rows->v[rows->len++];
        *row = (struct cni_row){ .index = (size_t)index };
        row->type = xstrdup(type);
        row->if_name = xstrdup(if_name);
        if (network)
                record_copy(&nic_network_type, &row->network, network);
}

static int on_row(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        if (!cc_streq(row->type, BUILTIN_NAME))
                cni_rows_add(ctx, row->type, row->if_name, row->network);
        return 0;
}

int cni_rows_load(struct meta *m, const char *vm_id, struct cni_rows *ret, struct cc_err *err)
{
        return meta_network_each(m, vm_id, on_row, ret, err);
}

const struct cni_row *cni_rows_find(const struct cni_rows *rows, const char *if_name)
{
        for (size_t i = 0; i < rows->len; i++)
                if (cc_streq(rows->v[i].if_name, if_name))
                        return &rows->v[i];
        return NULL;
}

static int end(struct meta *m, int r, struct cc_err *err)
{
        if (r == 0)
                return meta_commit(m, err);
        meta_rollback(m);
        return r;
}

int cni_rows_put(struct meta *m, const char *vm_id, const struct cni_row *rows, size_t n,
                 struct cc_err *err)
{
        int r;

        if (n == 0)
                return 0;
        r = meta_begin(m, META_RELAXED, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r == 0; i++) {
                CC_FREE char *id = xasprintf("%s-%s", vm_id, rows[i].if_name);
                struct nic_network network = rows[i].network;
                struct meta_network row = {
                        .id = id,
                        .type = rows[i].type,
                        .vm_id = (char *)(uintptr_t)vm_id,
                        .if_name = rows[i].if_name,
                        .network = network.ip ? &network : NULL,
                };

                r = meta_network_put(m, &row, err);
        }
        return end(m, r, err);
}

int cni_row_drop(struct meta *m, const char *vm_id, const char *if_name, struct cc_err *err)
{
        int r = meta_begin(m, META_RELAXED, err);

        return r < 0 ? r : end(m, meta_network_delete(m, vm_id, if_name, err), err);
}

static int on_owner(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        if (!cc_streq(row->type, BUILTIN_NAME) && cc_id_valid(row->vm_id) &&
            !cc_strv_has(ctx, row->vm_id))
                cc_strv_add(ctx, row->vm_id);
        return 0;
}

int cni_rows_owners(struct meta *m, struct cc_strv *ret, struct cc_err *err)
{
        return meta_network_each(m, NULL, on_owner, ret, err);
}
