/* POSIX ACL encoding (linux/posix_acl_xattr.h, version 2). See acl.h. */
#include "image/erofs/acl.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "image/erofs/format.h"

/* Tags in the order the kernel wants them. */
static const struct {
        int archive;
        uint16_t tag;
        bool id;
} tags[] = {
        { ARCHIVE_ENTRY_ACL_USER_OBJ, 0x01, false },  { ARCHIVE_ENTRY_ACL_USER, 0x02, true },
        { ARCHIVE_ENTRY_ACL_GROUP_OBJ, 0x04, false }, { ARCHIVE_ENTRY_ACL_GROUP, 0x08, true },
        { ARCHIVE_ENTRY_ACL_MASK, 0x10, false },      { ARCHIVE_ENTRY_ACL_OTHER, 0x20, false },
};

struct ace {
        uint16_t tag, perm;
        uint32_t id;
};

static int compare(const void *a, const void *b)
{
        const struct ace *x = a;
        const struct ace *y = b;

        if (x->tag != y->tag)
                return x->tag < y->tag ? -1 : 1;
        return x->id < y->id ? -1 : x->id > y->id;
}

bool acl_encode(struct archive_entry *ae, int type, mode_t *mode, struct cc_buf *ret)
{
        int count = archive_entry_acl_reset(ae, type);
        CC_FREE struct ace *list = NULL;
        size_t n = 0;
        int kind;
        int perm;
        int tag;
        int id;
        const char *name;
        uint8_t raw[8];

        if (count <= 0)
                return false;
        list = xcalloc((size_t)count + 4, sizeof(*list));
        while (n < (size_t)count + 4 &&
               archive_entry_acl_next(ae, type, &kind, &perm, &tag, &id, &name) == ARCHIVE_OK) {
                for (size_t i = 0; i < CC_ARRAY_LEN(tags); i++) {
                        if (tags[i].archive != tag || (tags[i].id && id < 0))
                                continue;
                        list[n++] = (struct ace){
                                .tag = tags[i].tag,
                                .perm = (uint16_t)(perm & 7),
                                .id = tags[i].id ? (uint32_t)id : UINT32_MAX,
                        };
                        break;
                }
        }
        if (n == 0)
                return false;
        qsort(list, n, sizeof(*list), compare);
        put32(raw, 2);
        cc_buf_add(ret, raw, 4);
        for (size_t i = 0; i < n; i++) {
                put16(raw, list[i].tag);
                put16(raw + 2, list[i].perm);
                put32(raw + 4, list[i].id);
                cc_buf_add(ret, raw, 8);
                if (list[i].tag == 0x10 && type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS)
                        *mode = (*mode & ~(mode_t)070) | (mode_t)list[i].perm << 3;
        }
        return true;
}
