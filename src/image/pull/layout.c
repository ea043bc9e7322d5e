/* OCI layouts and docker archives. See layout.h. */
#include "image/pull/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"

void layout_clear(struct layout *l)
{
        manifest_clear(&l->manifest);
        image_config_clear(&l->config);
        cc_strv_free(&l->files);
        memset(l, 0, sizeof(*l));
}

void layout_digest_of_layers(const struct descriptor *layers, size_t n,
                             char ret[DIGEST_TEXT_LEN + 1])
{
        CC_BUF struct cc_buf b = { 0 };
        char hex[DIGEST_HEX_LEN + 1];

        for (size_t i = 0; i < n; i++)
                cc_buf_str(&b, digest_digits(layers[i].digest));
        digest_of(b.data, b.len, hex);
        (void)snprintf(ret, DIGEST_TEXT_LEN + 1, "sha256:%s", hex);
}

static char *blob_path(const char *dir, const char *digest)
{
        return xasprintf("%s/blobs/sha256/%s", dir, digest_digits(digest));
}

/* A manifest or configuration blob, verified. */
static int read_blob(const char *dir, const struct descriptor *d, char **ret, size_t *ret_len,
                     struct cc_err *err)
{
        CC_FREE char *path = blob_path(dir, d->digest);
        CC_FREE char *text = NULL;
        char hex[DIGEST_HEX_LEN + 1];
        size_t n;
        int r = cc_read_file(path, MANIFEST_MAX, &text, &n, err);

        if (r < 0)
                return cc_fail(err, CC_INVALID, "image archive: blob %.19s is missing or too large",
                               d->digest);
        digest_of(text, n, hex);
        if ((int64_t)n != d->size || !cc_streq(hex, digest_digits(d->digest)))
                return cc_fail(err, CC_CORRUPT, "image archive: blob %.19s is damaged", d->digest);
        *ret = TAKE_PTR(text);
        *ret_len = n;
        return 0;
}

/* Does the annotation (a tag or a full reference) mean `name`? */
static bool names_match(const char *annotation, const char *name)
{
        const char *colon;

        if (!annotation)
                return false;
        if (cc_streq(annotation, name))
                return true;
        colon = strrchr(name, ':');
        return colon && cc_streq(annotation, colon + 1);
}

/* Among the entries for this machine: the only one, or the one that is called `name`. */
static int choose(const struct manifest *index, const char *name, const struct index_entry **ret,
                  struct cc_err *err)
{
        const struct index_entry *only = NULL;
        const struct index_entry *named = NULL;
        CC_STRV struct cc_strv names = { 0 };
        CC_FREE char *list = NULL;
        size_t n = 0;

        for (size_t i = 0; i < index->n_entries; i++) {
                const struct index_entry *e = &index->entries[i];

                if (!e->matches && !e->no_platform)
                        continue;
                n++;
                only = e;
                if (e->ref_name && names.len < 16)
                        cc_strv_add(&names, e->ref_name);
                if (!named && names_match(e->ref_name, name))
                        named = e;
        }
        if (n == 0)
                return manifest_choose(index, ret, err);
        *ret = n == 1 ? only : named;
        if (*ret)
                return 0;
        list = cc_strv_join(&names, ", ");
        return cc_fail(err, CC_AMBIGUOUS,
                       "the archive holds %zu images (%s): use one of their names", n, list);
}

static int open_oci(const char *dir, const char *name, struct layout *l, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, "index.json");
        CC_FREE char *text = NULL;
        size_t n;
        int r = cc_read_file(path, MANIFEST_MAX, &text, &n, err);

        if (r == 0)
                r = manifest_parse(text, n, "application/vnd.oci.image.index.v1+json", &l->manifest,
                                   err);
        for (int depth = 0; r == 0 && l->manifest.kind == MANIFEST_INDEX; depth++) {
                const struct index_entry *entry;
                CC_FREE char *body = NULL;
                CC_FREE char *type = NULL;

                if (depth > INDEX_DEPTH_MAX)
                        return cc_fail(err, CC_INVALID, "index: nested more than %d deep",
                                       INDEX_DEPTH_MAX);
                r = depth == 0 ? choose(&l->manifest, name, &entry, err)
                               : manifest_choose(&l->manifest, &entry, err);
                if (r == 0)
                        r = read_blob(dir, &entry->descriptor, &body, &n, err);
                if (r < 0)
                        return r;
                (void)snprintf(l->digest, sizeof(l->digest), "%s", entry->descriptor.digest);
                type = xstrdup0(entry->descriptor.media_type);
                manifest_clear(&l->manifest);
                r = manifest_parse(body, n, type, &l->manifest, err);
        }
        if (r < 0)
                return r;
        if (l->manifest.config.size > 0) {
                CC_FREE char *config = NULL;

                r = read_blob(dir, &l->manifest.config, &config, &n, err);
                if (r == 0)
                        r = image_config_parse(config, n, l->manifest.n_layers, &l->config, err);
        }
        for (size_t i = 0; r == 0 && i < l->manifest.n_layers; i++)
                cc_strv_take(&l->files, blob_path(dir, l->manifest.layers[i].digest));
        return r;
}

/* A member name from manifest.json: it must stay below `dir`. */
static int member_path(const char *dir, const json_t *name, char **ret, struct cc_err *err)
{
        const char *s = json_string_value(name);

        if (cc_isempty(s) || *s == '/' || strstr(s, ".."))
                return cc_fail(err, CC_INVALID, "image archive: manifest.json names no valid file");
        *ret = cc_path_join(dir, s);
        if (!cc_is_valid_file(*ret))
                return cc_fail(err, CC_INVALID, "image archive: %.100s is missing", s);
        return 0;
}

static const json_t *choose_docker(const json_t *list, const char *name)
{
        for (size_t i = 0; i < json_array_size(list); i++) {
                const json_t *tags = json_object_get(json_array_get(list, i), "RepoTags");

                for (size_t k = 0; k < json_array_size(tags); k++)
                        if (cc_streq(json_string_value(json_array_get(tags, k)), name))
                                return json_array_get(list, i);
        }
        return json_array_size(list) == 1 ? json_array_get(list, 0) : NULL;
}

static int add_docker_layer(const char *dir, const json_t *name, struct layout *l,
                            struct cc_err *err)
{
        CC_FREE char *path = NULL;
        CC_CLOSE int fd = -1;
        struct descriptor *d = &l->manifest.layers[l->manifest.n_layers];
        char hex[DIGEST_HEX_LEN + 1];
        int r = member_path(dir, name, &path, err);

        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        r = digest_of_fd(fd, hex, &d->size, err);
        if (r < 0)
                return r;
        d->digest = xasprintf("sha256:%s", hex);
        l->manifest.n_layers++;
        cc_strv_take(&l->files, TAKE_PTR(path));
        return 0;
}

static int open_docker(const char *dir, const char *name, struct layout *l, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, "manifest.json");
        CC_FREE char *text = NULL;
        CC_FREE char *config_path = NULL;
        CC_FREE char *config = NULL;
        CC_JSON json_t *list = NULL;
        const json_t *entry;
        const json_t *layers;
        size_t n;
        int r = cc_read_file(path, MANIFEST_MAX, &text, &n, err);

        if (r == 0)
                r = cc_json_parse(text, n, "manifest.json", &list, err);
        if (r < 0)
                return r;
        entry = choose_docker(list, name);
        if (!entry)
                return cc_fail(err, CC_AMBIGUOUS,
                               "the archive holds %zu images: use the name of one of them",
                               json_array_size(list));
        layers = json_object_get(entry, "Layers");
        n = json_array_size(layers);
        if (n == 0 || n > LAYERS_MAX)
                return cc_fail(err, CC_INVALID, "image archive: %zu layers (1 to %d are possible)",
                               n, LAYERS_MAX);
        l->manifest.kind = MANIFEST_IMAGE;
        l->manifest.layers = xcalloc(n, sizeof(*l->manifest.layers));
        for (size_t i = 0; i < n && r == 0; i++)
                r = add_docker_layer(dir, json_array_get(layers, i), l, err);
        if (r == 0)
                r = member_path(dir, json_object_get(entry, "Config"), &config_path, err);
        if (r == 0)
                r = cc_read_file(config_path, MANIFEST_MAX, &config, &n, err);
        if (r == 0)
                r = image_config_parse(config, n, l->manifest.n_layers, &l->config, err);
        if (r < 0)
                return r;
        layout_digest_of_layers(l->manifest.layers, l->manifest.n_layers, l->digest);
        return 0;
}

int layout_open(const char *dir, enum archive_kind kind, const char *name, struct layout *ret,
                struct cc_err *err)
{
        LAYOUT struct layout l = { 0 };
        int r = kind == ARCHIVE_OCI ? open_oci(dir, name, &l, err)
                                    : open_docker(dir, name, &l, err);

        if (r < 0)
                return r;
        *ret = l;
        memset(&l, 0, sizeof(l));
        return 0;
}
