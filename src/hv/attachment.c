/* Lists of attached devices. See driver.h. */
#include <stdlib.h>

#include "base/alloc.h"
#include "hv/driver.h"

struct hv_attachment *hv_attachments_add(struct hv_attachments *a)
{
        a->v = xreallocarray(a->v, a->n + 1, sizeof(*a->v));
        a->v[a->n] = (struct hv_attachment){ .direct = -1 };
        return &a->v[a->n++];
}

void hv_attachments_clear(struct hv_attachments *a)
{
        for (size_t i = 0; i < a->n; i++) {
                free(a->v[i].id);
                free(a->v[i].key);
                free(a->v[i].socket);
                free(a->v[i].bdf);
                free(a->v[i].path);
        }
        free(a->v);
        *a = (struct hv_attachments){ 0 };
}
