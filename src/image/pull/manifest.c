/* Parsing of manifests, indexes and configurations. See manifest.h. */
#include "image/pull/manifest.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "image/pull/digest.h"

#define OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"
#define OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_SCHEMA_1 "application/vnd.docker.distribution.manifest.v1+"
#define COCOON_PREFIX   "application/vnd.cocoonstack."

const char manifest_accept[] = OCI_INDEX ", " OCI_MANIFEST ", " DOCKER_LIST ", " DOCKER_MANIFEST;

enum { INDEX_ENTRIES_MAX = 4096 };

const char *manifest_architecture(void)
{
#if defined(__aarch64__)
        return "arm64";
#else
        return "amd64";
#endif
}

void descriptor_clear(struct descriptor *d)
{
        free(d->media_type);
        free(d->digest);
        memset(d, 0, sizeof(*d));
}

void manifest_clear(struct manifest *m)
{
        free(m->artifact_type);
        descriptor_clear(&m->config);
        for (size_t i = 0; i < m->n_layers; i++)
                descriptor_clear(&m->layers[i]);
        free(m->layers);
        for (size_t i = 0; i < m->n_entries; i++) {
                descriptor_clear(&m->entries[i].descriptor);
                free(m->entries[i].platform);
                free(m->entries[i].ref_name);
        }
        free(m->entries);
        memset(m, 0, sizeof(*m));
}

void image_config_clear(struct image_config *c)
{
        cc_strv_free(&c->diff_ids);
        free(c->kernel);
        free(c->initrd);
        memset(c, 0, sizeof(*c));
}

static int parse_descriptor(const json_t *json, const char *what, struct descriptor *ret,
                            struct cc_err *err)
{
        const char *type = NULL;
        const char *digest = NULL;
        int64_t size = -1;
        int r;

        if (!json_is_object(json))
                return cc_fail(err, CC_INVALID, "manifest: %s is not an object", what);
        r = cc_json_str(json, "mediaType", &type, err);
        if (r == 0)
                r = cc_json_str(json, "digest", &digest, err);
        if (r == 0)
                r = cc_json_int(json, "size", &size, err);
        if (r < 0)
                return cc_wrap(err, "manifest: %s", what);
        if (!digest_valid(digest))
                return cc_fail(err, CC_INVALID, "manifest: %s has no valid sha256 digest", what);
        if (size < 0)
                return cc_fail(err, CC_INVALID, "manifest: %s has no valid size", what);
        ret->media_type = xstrdup0(type);
        ret->digest = xstrdup(digest);
        ret->size = size;
        return 0;
}

/* Disk images and snapshots travel as artifacts; neither is a stack of tar layers. */
static int refuse_artifact(const char *type, struct cc_err *err)
{
        if (!type || !cc_startswith(type, COCOON_PREFIX))
                return 0;
        if (cc_startswith(type, COCOON_PREFIX "snapshot."))
                return cc_fail(err, CC_UNSUPPORTED, "this is a snapshot artifact, not an image: %s",
                               type);
        (void)cc_fail(err, CC_UNSUPPORTED, "this is a disk image artifact: %s", type);
        cc_hint(err,
                "cocoon image pull takes disk images from URLs, cocoon image import from files");
        return -CC_UNSUPPORTED;
}

static int parse_layers(const json_t *list, struct manifest *m, struct cc_err *err)
{
        size_t n = json_array_size(list);

        if (n == 0)
                return cc_fail(err, CC_INVALID, "manifest: the image has no layers");
        if (n > LAYERS_MAX)
                return cc_fail(err, CC_INVALID,
                               "manifest: the image has %zu layers, more than the %d a VM can have",
                               n, LAYERS_MAX);
        m->layers = xcalloc(n, sizeof(*m->layers));
        for (; m->n_layers < n; m->n_layers++) {
                char what[32];
                int r;

                (void)snprintf(what, sizeof(what), "layer %zu", m->n_layers);
                r = parse_descriptor(json_array_get(list, m->n_layers), what,
                                     &m->layers[m->n_layers], err);
                if (r < 0)
                        return r;
                r = refuse_artifact(m->layers[m->n_layers].media_type, err);
                if (r < 0) {
                        m->n_layers++;
                        return r;
                }
        }
        return 0;
}

/* unknown/unknown marks attestations: it never equals a real platform. */
static int parse_platform(const json_t *entry, struct index_entry *e, struct cc_err *err)
{
        const json_t *p = json_object_get(entry, "platform");
        const char *os = "linux";
        const char *arch = "amd64";
        int r;

        if (json_is_object(p)) {
                os = arch = "";
                r = cc_json_str(p, "os", &os, err);
                if (r == 0)
                        r = cc_json_str(p, "architecture", &arch, err);
                if (r < 0)
                        return cc_wrap(err, "index");
        }
        e->no_platform = !json_is_object(p);
        e->platform = xasprintf("%.32s/%.32s", os, arch);
        e->matches = cc_streq(os, "linux") && cc_streq(arch, manifest_architecture());
        return 0;
}

static int parse_entries(const json_t *list, struct manifest *m, struct cc_err *err)
{
        size_t n = json_array_size(list);

        if (n == 0)
                return cc_fail(err, CC_INVALID, "index: it lists no manifests");
        if (n > INDEX_ENTRIES_MAX)
                return cc_fail(err, CC_INVALID, "index: it lists %zu manifests", n);
        m->entries = xcalloc(n, sizeof(*m->entries));
        for (; m->n_entries < n; m->n_entries++) {
                struct index_entry *e = &m->entries[m->n_entries];
                const json_t *json = json_array_get(list, m->n_entries);
                const char *name = NULL;
                int r = parse_descriptor(json, "index entry", &e->descriptor, err);

                if (r == 0)
                        r = parse_platform(json, e, err);
                if (r == 0)
                        r = cc_json_str(json_object_get(json, "annotations"),
                                        "org.opencontainers.image.ref.name", &name, err);
                e->ref_name = xstrdup0(name);
                if (r < 0) {
                        m->n_entries++;
                        return r;
                }
        }
        return 0;
}

/* Body mediaType, then Content-Type, then the shape. */
static int find_kind(const json_t *json, const char *content_type, enum manifest_kind *ret,
                     struct cc_err *err)
{
        const char *candidates[2] = { NULL, content_type };
        int r = cc_json_str(json, "mediaType", &candidates[0], err);

        if (r < 0)
                return cc_wrap(err, "manifest");
        for (size_t i = 0; i < CC_ARRAY_LEN(candidates); i++) {
                const char *t = candidates[i];

                if (cc_streq(t, OCI_INDEX) || cc_streq(t, DOCKER_LIST)) {
                        *ret = MANIFEST_INDEX;
                        return 0;
                }
                if (cc_streq(t, OCI_MANIFEST) || cc_streq(t, DOCKER_MANIFEST)) {
                        *ret = MANIFEST_IMAGE;
                        return 0;
                }
                if (t && cc_startswith(t, DOCKER_SCHEMA_1))
                        return cc_fail(err, CC_UNSUPPORTED,
                                       "the registry serves a Docker schema 1 manifest; push the "
                                       "image again with a current tool");
        }
        if (json_is_array(json_object_get(json, "manifests"))) {
                *ret = MANIFEST_INDEX;
                return 0;
        }
        if (json_is_array(json_object_get(json, "layers"))) {
                *ret = MANIFEST_IMAGE;
                return 0;
        }
        if (json_is_array(json_object_get(json, "fsLayers")))
                return cc_fail(err, CC_UNSUPPORTED,
                               "the registry serves a Docker schema 1 manifest; push the image "
                               "again with a current tool");
        return cc_fail(err, CC_INVALID, "manifest: neither an image nor an index");
}

static int parse_body(const json_t *json, const char *content_type, struct manifest *m,
                      struct cc_err *err)
{
        const char *artifact = NULL;
        int r;

        if (!json_is_object(json))
                return cc_fail(err, CC_INVALID, "manifest: not a JSON object");
        r = find_kind(json, content_type, &m->kind, err);
        if (r < 0)
                return r;
        if (m->kind == MANIFEST_INDEX)
                return parse_entries(json_object_get(json, "manifests"), m, err);
        r = cc_json_str(json, "artifactType", &artifact, err);
        if (r < 0)
                return cc_wrap(err, "manifest");
        m->artifact_type = xstrdup0(artifact);
        r = refuse_artifact(artifact, err);
        if (r == 0)
                r = parse_descriptor(json_object_get(json, "config"), "config", &m->config, err);
        if (r == 0)
                r = parse_layers(json_object_get(json, "layers"), m, err);
        return r;
}

int manifest_parse(const char *data, size_t n, const char *content_type, struct manifest *ret,
                   struct cc_err *err)
{
        MANIFEST struct manifest m = { 0 };
        CC_JSON json_t *json = NULL;
        int r;

        if (n > MANIFEST_MAX)
                return cc_fail(err, CC_INVALID, "manifest: larger than %d bytes", MANIFEST_MAX);
        r = cc_json_parse(data, n, "manifest", &json, err);
        if (r == 0)
                r = parse_body(json, content_type, &m, err);
        if (r < 0)
                return r;
        *ret = m;
        memset(&m, 0, sizeof(m));
        return 0;
}

int manifest_choose(const struct manifest *index, const struct index_entry **ret,
                    struct cc_err *err)
{
        CC_STRV struct cc_strv offered = { 0 };
        CC_FREE char *list = NULL;

        for (size_t i = 0; i < index->n_entries; i++) {
                const struct index_entry *e = &index->entries[i];

                if (e->matches) {
                        *ret = e;
                        return 0;
                }
                if (!cc_streq(e->platform, "unknown/unknown") && offered.len < 16 &&
                    !cc_strv_has(&offered, e->platform))
                        cc_strv_add(&offered, e->platform);
        }
        list = cc_strv_join(&offered, ", ");
        return cc_fail(err, CC_INVALID, "the image has no variant for linux/%s (it has: %s)",
                       manifest_architecture(), *list ? list : "none");
}

int image_config_parse(const char *data, size_t n, size_t n_layers, struct image_config *ret,
                       struct cc_err *err)
{
        IMAGE_CONFIG struct image_config c = { 0 };
        CC_JSON json_t *json = NULL;
        const json_t *ids;
        const json_t *labels;
        const char *kernel = NULL;
        const char *initrd = NULL;
        int r = cc_json_parse(data, n, "image configuration", &json, err);

        if (r < 0)
                return r;
        ids = json_object_get(json_object_get(json, "rootfs"), "diff_ids");
        if (json_array_size(ids) && json_array_size(ids) != n_layers)
                return cc_fail(err, CC_INVALID, "image configuration: %zu diff_ids for %zu layers",
                               json_array_size(ids), n_layers);
        for (size_t i = 0; i < json_array_size(ids); i++) {
                const char *id = json_string_value(json_array_get(ids, i));

                if (!digest_valid(id))
                        return cc_fail(err, CC_INVALID,
                                       "image configuration: diff_id %zu is not a sha256 digest",
                                       i);
                cc_strv_add(&c.diff_ids, id);
        }
        labels = json_object_get(json_object_get(json, "config"), "Labels");
        r = cc_json_str(labels, "cocoon.kernel", &kernel, err);
        if (r == 0)
                r = cc_json_str(labels, "cocoon.initrd", &initrd, err);
        if (r < 0)
                return cc_wrap(err, "image configuration");
        c.kernel = cc_isempty(kernel) ? NULL : xstrdup(kernel);
        c.initrd = cc_isempty(initrd) ? NULL : xstrdup(initrd);
        *ret = c;
        memset(&c, 0, sizeof(c));
        return 0;
}
