/* The table of the snapshot record. See snapshot.h. */
#include "model/snapshot.h"

#include "base/json.h"

/* clang-format off: one field a line reads as the table that it is. */
#define F(member, ftype, fflags)                                                                   \
        {                                                                                          \
                .name = #member, .type = (ftype),                                                  \
                .offset = offsetof(struct snapshot_record, member), .flags = (fflags)              \
        }
/* A field of the configuration, shown at top level. */
#define C(member, ftype)                                                                           \
        {                                                                                          \
                .name = #member, .type = (ftype),                                                  \
                .offset = offsetof(struct snapshot_record, config.member)                          \
        }
static const struct field fields[] = {
        C(cpu, FIELD_INT),
        C(memory, FIELD_INT),
        C(storage, FIELD_INT),
        C(queue_size, FIELD_INT),
        C(disk_queue_size, FIELD_INT),
        C(image, FIELD_STR),
        C(image_digest, FIELD_STR),
        C(image_type, FIELD_STR),
        C(network, FIELD_STR),
        C(no_direct_io, FIELD_BOOL),
        C(windows, FIELD_BOOL),
        C(shared_memory, FIELD_BOOL),
        C(no_watchdog, FIELD_BOOL),
        C(no_balloon, FIELD_BOOL),
        C(hugepages, FIELD_BOOL),
        C(mergeable, FIELD_BOOL),
        C(pci, FIELD_BOOL),
        C(flat, FIELD_BOOL),
        C(dns, FIELD_STRS),
        F(id, FIELD_STR, FIELD_ALWAYS),
        F(name, FIELD_STR, FIELD_ALWAYS),
        F(description, FIELD_STR, 0),
        F(image_blob_ids, FIELD_SET, 0),
        F(hypervisor, FIELD_STR, 0),
        F(nics, FIELD_INT, 0),
        F(net_backend, FIELD_STR, 0),
        F(net_bridge_dev, FIELD_STR, 0),
        F(created_at, FIELD_TIME, FIELD_ALWAYS),
        F(source_vm_id, FIELD_STR, 0),
        F(bytes, FIELD_INT, 0),
        F(last_accessed_at, FIELD_TIME, 0),
        F(pending, FIELD_BOOL, FIELD_STORED),
        F(data_dir, FIELD_STR, FIELD_STORED),
};
/* clang-format on */

const struct record_type snapshot_record_type = {
        .what = "snapshot record",
        .size = sizeof(struct snapshot_record),
        .extra = offsetof(struct snapshot_record, extra),
        .fields = fields,
        .n = CC_ARRAY_LEN(fields),
};

void snapshot_record_clear(struct snapshot_record *s)
{
        record_clear(&snapshot_record_type, s);
}

const char *snapshot_label(const struct snapshot_record *s)
{
        if (!cc_isempty(s->name))
                return s->name;
        return s->id ? s->id : "";
}

int snapshot_record_parse(const char *text, size_t n, struct snapshot_record *ret,
                          struct cc_err *err)
{
        return record_parse(&snapshot_record_type, text, n, ret, err);
}

char *snapshot_record_text(const struct snapshot_record *s)
{
        CC_JSON json_t *json = record_dump(&snapshot_record_type, s, RECORD_STORE);

        return cc_json_compact(json);
}
