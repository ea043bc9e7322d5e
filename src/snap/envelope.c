/* snapshot.json: the record of a snapshot as it travels. See snap.h and cli.md §5.2. */
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "snap/snap.h"

#define VERSION   1
#define MAX_FILES 4096

/* clang-format off */
static const struct field file_fields[] = {
        { "name", FIELD_STR, offsetof(struct snap_file, name), FIELD_ALWAYS, NULL },
        { "size", FIELD_INT, offsetof(struct snap_file, size), FIELD_ALWAYS, NULL },
        { "sha256", FIELD_STR, offsetof(struct snap_file, sha256), 0, NULL },
};
/* clang-format on */

const struct record_type snap_file_type = {
        .what = SNAP_ENVELOPE " file",
        .size = sizeof(struct snap_file),
        .extra = SIZE_MAX,
        .fields = file_fields,
        .n = CC_ARRAY_LEN(file_fields),
};

void snap_envelope_clear(struct snap_envelope *e)
{
        struct snap_file *f = e->files.v;

        snapshot_record_clear(&e->config);
        for (size_t i = 0; i < e->files.len; i++)
                record_clear(&snap_file_type, &f[i]);
        free(e->files.v);
        *e = (struct snap_envelope){ 0 };
}

/* What means something on this host only does not travel. */
static const char *const local_keys[] = { "created_at",       "source_vm_id", "bytes",
                                          "last_accessed_at", "pending",      "data_dir" };

char *snap_envelope_text(const struct snapshot_record *s, const struct record_array *files)
{
        CC_JSON json_t *root = json_object();
        json_t *config = record_dump(&snapshot_record_type, s, RECORD_STORE);

        for (size_t i = 0; i < CC_ARRAY_LEN(local_keys); i++)
                (void)json_object_del(config, local_keys[i]);
        json_object_set_new(root, "config", config);
        json_object_set_new(root, "version", json_integer(VERSION));
        if (files) {
                json_t *list = json_array();

                for (size_t i = 0; i < files->len; i++)
                        json_array_append_new(list, record_dump(&snap_file_type,
                                                                (struct snap_file *)files->v + i,
                                                                RECORD_STORE));
                json_object_set_new(root, "files", list);
        }
        return cc_json_pretty(root);
}

static int load_files(const json_t *list, struct snap_envelope *e, struct cc_err *err)
{
        if (!list || json_is_null(list))
                return 0;
        if (!json_is_array(list))
                return cc_fail(err, CC_INVALID, "%s: files is not a list", SNAP_ENVELOPE);
        if (json_array_size(list) > MAX_FILES)
                return cc_fail(err, CC_INVALID, "%s: more than %d files", SNAP_ENVELOPE, MAX_FILES);
        e->has_files = true;
        for (size_t i = 0; i < json_array_size(list); i++) {
                struct snap_file *f = record_array_add(&snap_file_type, &e->files);
                int r = record_load(&snap_file_type, json_array_get(list, i), f, err);

                if (r < 0)
                        return r;
                if (!snap_file_name_valid(f->name ? f->name : "") || f->size < 0 ||
                    (!cc_isempty(f->sha256) && !cc_is_hex(f->sha256, 64)))
                        return cc_fail(err, CC_INVALID, "%s: files[%zu] is malformed",
                                       SNAP_ENVELOPE, i);
                for (size_t k = 0; k < i; k++)
                        if (cc_streq(((struct snap_file *)e->files.v)[k].name, f->name))
                                return cc_fail(err, CC_INVALID, "%s: file %s is listed twice",
                                               SNAP_ENVELOPE, f->name);
        }
        return 0;
}

int snap_envelope_parse(const char *text, size_t n, struct snap_envelope *ret, struct cc_err *err)
{
        SNAP_ENVELOPE_CLEANUP struct snap_envelope e = { 0 };
        CC_JSON json_t *root = NULL;
        int64_t version = 0;
        const json_t *config;
        int r;

        if (n > SNAP_ENVELOPE_MAX)
                return cc_fail(err, CC_INVALID, "%s is larger than %zu bytes", SNAP_ENVELOPE,
                               SNAP_ENVELOPE_MAX);
        r = cc_json_parse(text, n, SNAP_ENVELOPE, &root, err);
        if (r == 0 && !json_is_object(root))
                r = cc_fail(err, CC_INVALID, "%s: not an object", SNAP_ENVELOPE);
        if (r == 0)
                r = cc_json_int(root, "version", &version, err);
        if (r < 0)
                return r;
        if (version != VERSION)
                return cc_fail(err, CC_UNSUPPORTED, "unsupported snapshot archive version %lld",
                               (long long)version);
        config = json_object_get(root, "config");
        if (!json_is_object(config))
                return cc_fail(err, CC_INVALID, "%s: no config", SNAP_ENVELOPE);
        r = record_load(&snapshot_record_type, config, &e.config, err);
        if (r == 0)
                r = load_files(json_object_get(root, "files"), &e, err);
        if (r < 0)
                return r;
        /* None of these is the archive's to say. */
        e.config.pending = false;
        e.config.bytes = 0;
        e.config.created_at = 0;
        e.config.last_accessed_at = 0;
        cc_strset(&e.config.data_dir, NULL);
        cc_strset(&e.config.source_vm_id, NULL);
        *ret = e;
        e = (struct snap_envelope){ 0 };
        return 0;
}
