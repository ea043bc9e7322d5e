/* The JSON indexes of an upstream root: one file a kind, each with a lock beside it and the
 * generation before as `.prev`. */
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "meta/import_internal.h"

struct index {
        const char *file, *lock; /* below the root */
        const char *map;         /* the member that holds the records */
        enum import_kind kind;
        const char *driver; /* of VMs */
        bool names;         /* has a map of names to check against */
};

static const struct index indexes[] = {
        { "cloudhypervisor/db/vms.json", "cloudhypervisor/db/vms.lock", "vms", IMPORT_VM,
          "cloud-hypervisor", true },
        { "firecracker/db/vms.json", "firecracker/db/vms.lock", "vms", IMPORT_VM, "firecracker",
          true },
        { "snapshot/db/snapshots.json", "snapshot/db/snapshots.lock", "snapshots", IMPORT_SNAPSHOT,
          NULL, true },
        { "cni/db/networks.json", "cni/db/networks.lock", "networks", IMPORT_NETWORK, NULL, false },
        { "oci/db/images.json", "oci/db/images.lock", "images", IMPORT_OCI, NULL, false },
        { "cloudimg/db/images.json", "cloudimg/db/images.lock", "images", IMPORT_CLOUDIMG, NULL,
          false },
};

/* An object, or null or nothing for an empty one. */
static int member(const json_t *doc, const char *key, const char *path, const json_t **ret,
                  struct cc_err *err)
{
        const json_t *value = json_object_get(doc, key);

        if (value && !json_is_null(value) && !json_is_object(value))
                return cc_fail(err, CC_INVALID, "%s: \"%s\" is no object", path, key);
        *ret = json_is_object(value) ? value : NULL;
        return 0;
}

static const char *name_of(enum import_kind kind, const json_t *record)
{
        const json_t *holder = kind == IMPORT_VM ? json_object_get(record, "config") : record;
        const char *name = json_string_value(json_object_get(holder, "name"));

        return name ? name : "";
}

/* The map of names is derived: when it says something else than the records, nobody knows which of
 * the two is right. */
static int check_names(const struct index *ix, const char *path, const json_t *records,
                       const json_t *names, struct cc_err *err)
{
        size_t named = 0;
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *)records, key, value) {
                const char *name = name_of(ix->kind, value);
                const char *owner = json_string_value(json_object_get(names, name));

                if (!*name)
                        continue;
                named++;
                if (!owner || strcmp(owner, key) != 0)
                        return cc_fail(err, CC_CONFLICT,
                                       "%s: record %s has the name \"%s\", which the map of names "
                                       "gives to %s",
                                       path, key, name, owner ? owner : "nobody");
        }
        if (named != json_object_size(names))
                return cc_fail(err, CC_CONFLICT,
                               "%s: the map of names has %zu entries, the records have %zu names",
                               path, json_object_size(names), named);
        return 0;
}

static int take_document(struct import *im, const struct index *ix, const char *path,
                         const json_t *doc, struct cc_err *err)
{
        const json_t *records = NULL;
        const json_t *names = NULL;
        const char *key;
        json_t *value;
        int r = member(doc, ix->map, path, &records, err);

        if (r == 0 && ix->names)
                r = member(doc, "names", path, &names, err);
        if (r == 0 && ix->names)
                r = check_names(ix, path, records, names, err);
        if (r < 0)
                return r;
        json_object_foreach ((json_t *)records, key, value) {
                r = import_add(im, ix->kind, ix->driver, key, json_incref(value), err);
                if (r < 0)
                        return err ? cc_wrap(err, "%s", path) : r;
        }
        return 0;
}

static int read_document(const char *path, json_t **ret, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        json_t *doc = NULL;
        size_t n;
        int r = cc_read_file(path, IMPORT_FILE_MAX, &text, &n, err);

        if (r == 0)
                r = cc_json_parse(text, n, path, &doc, err);
        if (r == 0 && !json_is_object(doc)) {
                json_decref(doc);
                r = cc_fail(err, CC_INVALID, "%s: not an object", path);
        }
        if (r == 0)
                *ret = doc;
        return r;
}

/* The index, or the generation before it when it is damaged. */
static int read_either(struct import *im, const char *path, const char *prev, const char **ret_used,
                       json_t **ret, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        bool have = cc_is_valid_file(path);
        int r = have ? read_document(path, ret, &why) : 0;

        *ret_used = path;
        if (have && r != -CC_INVALID)
                return r < 0 ? cc_err_copy(err, &why) : 0;
        if (!cc_is_valid_file(prev))
                return have ? cc_err_copy(err, &why) : -CC_NOT_FOUND;
        r = read_document(prev, ret, err);
        *ret_used = prev;
        if (r == 0)
                cc_strv_addf(&im->report->notes, "%s is %s: %s was used", path,
                             have ? "damaged" : "missing", prev);
        return r;
}

static int hold(struct import *im, const char *path, struct cc_err *err)
{
        int fd = -1;
        int r = cc_lock_try(path, CC_LOCK_EXCLUSIVE, "meta.import", &fd, err);

        if (r < 0)
                return r == -CC_BUSY && err ? cc_wrap(err, "the older program is at work") : r;
        im->locks = xreallocarray(im->locks, im->n_locks + 1, sizeof(*im->locks));
        im->locks[im->n_locks++] = fd;
        return 0;
}

static int read_index(struct import *im, const struct index *ix, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(im->args->root_dir, ix->file);
        CC_FREE char *prev = xasprintf("%s.prev", path);
        CC_FREE char *lock = cc_path_join(im->args->root_dir, ix->lock);
        CC_JSON json_t *doc = NULL;
        const char *used = path;
        int r;

        if (!cc_exists(path) && !cc_exists(prev))
                return 0;
        r = hold(im, lock, err);
        if (r == 0)
                r = read_either(im, path, prev, &used, &doc, err);
        if (r == 0)
                r = take_document(im, ix, used, doc, err);
        else if (r == -CC_NOT_FOUND)
                r = 0; /* both are empty files */
        if (r == 0 && cc_exists(path))
                r = import_source(im, path, err);
        if (r == 0 && cc_exists(prev))
                r = import_source(im, prev, err);
        return r;
}

int import_read_json(struct import *im, struct cc_err *err)
{
        int r = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(indexes) && r == 0; i++)
                r = read_index(im, &indexes[i], err);
        return r;
}
