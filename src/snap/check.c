/* Limits of a snapshot's configuration: it may come from an archive that anybody wrote. */
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/size.h"
#include "model/image.h"
#include "snap/snap.h"

#define MIN_MEMORY      (INT64_C(512) << 20)
#define MAX_MEMORY      (INT64_C(1) << 44)
#define MIN_STORAGE     (INT64_C(10) << 30)
#define MAX_STORAGE     (INT64_C(1) << 50)
#define MAX_QUEUE       65536
#define MAX_NICS        128
#define MAX_DESCRIPTION 4096
#define MAX_BLOBS       512

static int bad(const char *field, const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "snapshot: %s %s", field, why);
}

static int check_size(const char *field, int64_t v, int64_t min, int64_t max, struct cc_err *err)
{
        char text[24];

        if (v > max)
                return bad(field, "is absurdly large", err);
        if (v >= min)
                return 0;
        cc_size_format(min, text);
        return cc_fail(err, CC_INVALID, "snapshot: %s is %lld bytes, below the %s minimum", field,
                       (long long)v, text);
}

static int check_numbers(const struct snapshot_record *s, struct cc_err *err)
{
        const struct vm_config *c = &s->config;
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        int r;

        if (c->cpu < 1)
                return cc_fail(err, CC_INVALID, "snapshot: cpu must be at least 1, got %lld",
                               (long long)c->cpu);
        if (c->cpu > cores)
                return cc_fail(err, CC_INVALID,
                               "snapshot: requested %lld vCPUs exceeds host cores (%ld)",
                               (long long)c->cpu, cores);
        r = check_size("memory", c->memory, MIN_MEMORY, MAX_MEMORY, err);
        if (r == 0)
                r = check_size("storage", c->storage, MIN_STORAGE, MAX_STORAGE, err);
        if (r < 0)
                return r;
        if (c->queue_size < 0 || c->queue_size > MAX_QUEUE)
                return bad("queue_size", "is out of range", err);
        if (c->disk_queue_size < 0 || c->disk_queue_size > MAX_QUEUE)
                return bad("disk_queue_size", "is out of range", err);
        if (s->nics < 0 || s->nics > MAX_NICS)
                return cc_fail(err, CC_INVALID, "snapshot: nics must be between 0 and %d, got %lld",
                               MAX_NICS, (long long)s->nics);
        return 0;
}

int snap_config_check(const struct snapshot_record *s, struct cc_err *err)
{
        const char *type = s->config.image_type;
        const char *hex;
        int r = check_numbers(s, err);

        if (r < 0)
                return r;
        if (!cc_isempty(type) && !cc_streq(type, IMAGE_OCI) && !cc_streq(type, IMAGE_CLOUDIMG))
                return bad("image_type", "is not known", err);
        if (s->description && strlen(s->description) > MAX_DESCRIPTION)
                return bad("description", "is longer than 4 KiB", err);
        if (s->image_blob_ids.len > MAX_BLOBS)
                return bad("image_blob_ids", "has too many entries", err);
        cc_strv_foreach (&s->image_blob_ids, i, hex) {
                if (!cc_is_hex(hex, 64))
                        return bad("image_blob_ids", "holds something else than digests", err);
        }
        return 0;
}
