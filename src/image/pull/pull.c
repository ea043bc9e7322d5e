/* image pull: from a reference to a committed record. The steps are fetch.h and assemble.h. */
#include "image/pull/pull.h"

#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "image/pull/assemble.h"
#include "image/pull/cloud.h"
#include "image/pull/layer.h"
#include "image/pull/reporter.h"

struct pull {
        const struct image_env *env;
        struct reference ref;
        struct registry registry;
        struct cancel cancel;
        struct http *main;
        struct manifest manifest;
        char digest[DIGEST_TEXT_LEN + 1]; /* of the platform's image manifest */
        struct image_config config;
        struct scratch scratch;
        struct reporter reporter;
        struct http **workers;
        size_t n_workers;
};

static void pull_free(struct pull *p)
{
        for (size_t i = 0; i < p->n_workers; i++)
                http_free(p->workers[i]);
        free(p->workers);
        scratch_remove(&p->scratch);
        reporter_free(&p->reporter);
        http_free(p->main);
        manifest_clear(&p->manifest);
        image_config_clear(&p->config);
        registry_free(&p->registry);
        cancel_free(&p->cancel);
        reference_clear(&p->ref);
}

/* Follow indexes down to this platform's image manifest. */
static int resolve(struct pull *p, struct cc_err *err)
{
        CC_FREE char *target = xstrdup(p->ref.target);
        CC_FREE char *digest = xstrdup0(p->ref.digest);
        int64_t size = -1;

        for (int depth = 0; depth <= INDEX_DEPTH_MAX; depth++) {
                HTTP_RESPONSE struct http_response answer = { 0 };
                const struct index_entry *entry;
                int r = fetch_manifest(&p->registry, p->main, target, digest, &answer, p->digest,
                                       err);

                if (r < 0)
                        return r;
                if (size >= 0 && (int64_t)answer.body.len != size)
                        return cc_fail(err, CC_CORRUPT,
                                       "manifest %s has %zu bytes, its index says %lld", digest,
                                       answer.body.len, (long long)size);
                manifest_clear(&p->manifest);
                r = manifest_parse(answer.body.data ? answer.body.data : "", answer.body.len,
                                   answer.content_type, &p->manifest, err);
                if (r < 0 || p->manifest.kind == MANIFEST_IMAGE)
                        return r;
                r = manifest_choose(&p->manifest, &entry, err);
                if (r < 0)
                        return r;
                cc_strset(&digest, entry->descriptor.digest);
                cc_strset(&target, entry->descriptor.digest);
                size = entry->descriptor.size;
        }
        return cc_fail(err, CC_INVALID, "index: nested more than %d deep", INDEX_DEPTH_MAX);
}

/* Artifacts may carry any configuration; only image configurations are ours to read. */
static bool is_image_config(const struct descriptor *d)
{
        return !d->media_type || strstr(d->media_type, "image.config.v1") ||
               strstr(d->media_type, "container.image.v1");
}

static int load_config(struct pull *p, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        size_t n;
        int r;

        if (!is_image_config(&p->manifest.config))
                return 0;
        r = fetch_small_blob(&p->registry, p->main, &p->manifest.config, &text, &n, err);
        if (r == 0)
                r = image_config_parse(text, n, p->manifest.n_layers, &p->config, err);
        return r;
}

static int build(void *ctx, size_t worker, size_t layer, const char *out, struct built_layer *ret,
                 struct cc_err *err)
{
        struct pull *p = ctx;
        const struct descriptor *d = &p->manifest.layers[layer];
        CC_FREE char *stage = xasprintf("%s/layer-%zu", p->scratch.dir, layer);
        struct reporter_layer progress = { .reporter = &p->reporter, .index = layer };
        struct layer_request rq = { .config = p->env->config, .descriptor = d };

        progress.digest = d->digest;
        progress.total_bytes = d->size;
        rq.diff_id = layer < p->config.diff_ids.len ? p->config.diff_ids.v[layer] : NULL;
        rq.stage = stage;
        rq.out = out;
        rq.progress = reporter_layer_bytes;
        rq.progress_ctx = &progress;
        return layer_from_registry(&rq, &p->registry, p->workers[worker], ret, err);
}

static int assemble(struct pull *p, const char *ref, bool force, struct image_record *ret,
                    bool *ret_unchanged, struct cc_err *err)
{
        struct assembly a = { .env = p->env, .ref = ref, .force = force };
        int r = 0;

        a.manifest_digest = p->digest;
        a.layers = p->manifest.layers;
        a.n_layers = p->manifest.n_layers;
        a.config = &p->config;
        a.scratch = &p->scratch;
        a.cancel = &p->cancel;
        a.build = build;
        a.ctx = p;
        p->workers = xcalloc(assembly_workers(p->env, a.n_layers), sizeof(struct http *));
        while (r == 0 && p->n_workers < assembly_workers(p->env, a.n_layers)) {
                r = http_new(&p->cancel, &p->workers[p->n_workers], err);
                if (r == 0)
                        p->n_workers++;
        }
        return r < 0 ? r : assembly_run(&a, ret, ret_unchanged, err);
}

static int run(struct pull *p, const char *ref, bool force, struct image_record *ret,
               bool *ret_unchanged, struct cc_err *err)
{
        bool same = false;
        int r = http_new(&p->cancel, &p->main, err);

        if (r == 0)
                r = registry_init(&p->registry, &p->ref, err);
        if (r < 0)
                return r;
        reporter_phase(&p->reporter, IMAGE_RESOLVE);
        r = resolve(p, err);
        p->reporter.total = p->manifest.n_layers;
        /* The configuration is not needed to see that nothing changed. */
        if (r == 0 && !force)
                r = assembly_current(p->env, ref, p->digest, ret, &same, err);
        if (r < 0)
                return r;
        if (same) {
                reporter_phase(&p->reporter, IMAGE_DONE);
                if (ret_unchanged)
                        *ret_unchanged = true;
                return 0;
        }
        r = load_config(p, err);
        return r < 0 ? r : assemble(p, ref, force, ret, ret_unchanged, err);
}

int image_pull(const struct image_env *env, const char *ref, bool force, struct image_record *ret,
               bool *ret_unchanged, struct cc_err *err)
{
        CC_CLEANUP(pull_free) struct pull p = { .env = env };
        int r;

        cancel_init(&p.cancel);
        reporter_init(&p.reporter, env, 0);
        registry_zero(&p.registry);
        if (strncasecmp(ref, "http://", 7) == 0 || strncasecmp(ref, "https://", 8) == 0)
                return cloud_pull(env, ref, force, ret, ret_unchanged, err);
        r = reference_parse(env->config, ref, &p.ref, err);
        return r < 0 ? r : run(&p, ref, force, ret, ret_unchanged, err);
}
