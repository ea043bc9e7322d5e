/* Pulling with progress. See pull.h. */
#include "cli/pull.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "cli/progress.h"

#define SHOWN_LAYERS 4096 /* layers whose bytes are added up; more are only counted */

struct pull_progress {
        char *what; /* "pull debian:12" */
        bool downloading;
        size_t n;
        struct {
                int64_t done, total;
                bool finished;
        } * layers;
};

static void grow(struct pull_progress *p, size_t n)
{
        if (n > SHOWN_LAYERS)
                n = SHOWN_LAYERS;
        if (n <= p->n)
                return;
        p->layers = xreallocarray(p->layers, n, sizeof(*p->layers));
        memset(p->layers + p->n, 0, (n - p->n) * sizeof(*p->layers));
        p->n = n;
}

/* Bytes of one layer: the sum on the terminal, a line when the layer is complete. */
static void layer_progress(struct pull_progress *p, const struct image_progress *now)
{
        CC_FREE char *line = NULL;
        int64_t done = 0;
        int64_t total = 0;
        size_t finished = 0;
        bool complete = now->total_bytes > 0 && now->bytes >= now->total_bytes;

        grow(p, now->total);
        if (now->index < p->n) {
                if (complete && !p->layers[now->index].finished) {
                        CC_FREE char *step = xasprintf("%s: layer %zu/%zu fetched", p->what,
                                                       now->index + 1, now->total);

                        progress_step(step);
                }
                p->layers[now->index].done = now->bytes;
                p->layers[now->index].total = now->total_bytes;
                p->layers[now->index].finished = complete;
        }
        for (size_t i = 0; i < p->n; i++) {
                done += p->layers[i].done;
                total += p->layers[i].total;
                finished += p->layers[i].finished;
        }
        line = xasprintf("%s: layers %zu/%zu", p->what, finished, now->total);
        progress_update(line, done, total);
}

static void on_progress(void *ctx, const struct image_progress *now)
{
        static const char *const steps[] = {
                [IMAGE_RESOLVE] = "resolving",    [IMAGE_CONVERT] = "converting",
                [IMAGE_COMMIT] = "committing",    [IMAGE_DONE] = "done",
                [IMAGE_DOWNLOAD] = "downloading",
        };
        struct pull_progress *p = ctx;
        CC_FREE char *line = NULL;

        if (now->phase == IMAGE_LAYER) {
                layer_progress(p, now);
                return;
        }
        line = xasprintf("%s: %s", p->what, steps[now->phase]);
        if (now->phase == IMAGE_DOWNLOAD) {
                progress_update(line, now->bytes, now->total_bytes);
                if (!p->downloading)
                        progress_step(line);
                p->downloading = true;
                return;
        }
        if (now->phase != IMAGE_CONVERT) {
                progress_update(line, 0, 0);
                progress_step(line);
                return;
        }
        progress_update(line, now->bytes, now->total_bytes);
        if (now->bytes == 0)
                progress_step(line);
}

int pull_open(struct cli *cli, struct engine *e, const char *what, struct pull *ret,
              struct cc_err *err)
{
        const void *module;
        int r = cc_module_open("image", &module, err);

        if (r < 0)
                return r;
        ret->module = module;
        ret->progress = xcalloc(1, sizeof(*ret->progress));
        ret->progress->what = xstrdup(what);
        ret->env = (struct image_env){
                .config = &cli->config,
                .meta = e->meta,
                .progress = on_progress,
                .progress_ctx = ret->progress,
        };
        progress_begin(cli->quiet_log ? "none" : cli->globals.progress);
        return 0;
}

void pull_close(struct pull *p)
{
        progress_end();
        if (p->progress) {
                free(p->progress->what);
                free(p->progress->layers);
                free(p->progress);
        }
        memset(p, 0, sizeof(*p));
}

int pull_image(struct cli *cli, struct engine *e, const char *ref, bool force,
               struct image_record *ret, struct cc_err *err)
{
        PULL struct pull p = { 0 };
        CC_FREE char *what = xasprintf("pull %s", ref);
        bool unchanged = false;
        int r = pull_open(cli, e, what, &p, err);

        if (r < 0)
                return r;
        r = p.module->pull(&p.env, ref, force, ret, &unchanged, err);
        pull_close(&p);
        if (r < 0)
                return cc_wrap(err, "pull %s", ref);
        cli_success(cli, "image.pull", "%s: %s", unchanged ? "up to date" : "pulled", ref);
        return 0;
}

int pull_ensure(struct cli *cli, struct engine *e, const char *ref, const char *policy, bool flat,
                struct cc_err *err)
{
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        IMAGE_RECORD struct image_record pulled = IMAGE_RECORD_INIT;
        struct cc_err missing = CC_ERR_INIT;
        char kind[16] = "";
        int r;

        if (cc_streq(policy, "always")) {
                r = pull_image(cli, e, ref, false, &pulled, err);
                if (r < 0)
                        return r;
        }
        r = image_resolve(e->meta, ref, kind, &image, &missing);
        if (r == -CC_NOT_FOUND && cc_streq(policy, "missing")) {
                r = pull_image(cli, e, ref, false, &pulled, err);
                if (r < 0)
                        return r;
                image_record_clear(&image);
                r = image_resolve(e->meta, ref, kind, &image, &missing);
        }
        if (r == -CC_NOT_FOUND)
                return 0; /* the create words this error */
        if (r < 0)
                return cc_err_copy(err, &missing);
        if (flat && cc_streq(kind, IMAGE_OCI)) {
                PULL struct pull p = { 0 };
                CC_FREE char *what = xasprintf("flatten %s", ref);

                r = pull_open(cli, e, what, &p, err);
                if (r == 0)
                        r = p.module->flatten(&p.env, &image, err);
                if (r < 0)
                        return cc_wrap(err, "flatten %s", ref);
        }
        return 0;
}

json_t *pull_view(const char *kind, const struct image_record *image)
{
        struct image_view view = {
                .id = cc_streq(kind, IMAGE_OCI) ? image->manifest_digest : image->content_sum,
                .name = image->ref,
                .type = (char *)kind,
                .size = image->size,
                .created_at = image->created_at,
        };

        return record_dump(&image_view_type, &view, RECORD_PUBLIC);
}
