/* Batches of VMs. See batch.h. */
#include "cli/batch.h"

#include "base/alloc.h"

static void report_json(const struct vm_batch_item *items, size_t n)
{
        json_t *root = json_object();
        json_t *succeeded = json_array();
        json_t *failed = json_array();

        for (size_t i = 0; i < n; i++) {
                json_t *item;

                if (items[i].err.class == CC_OK) {
                        json_array_append_new(succeeded, json_string(items[i].id));
                        continue;
                }
                item = json_object();
                json_object_set_new(item, "id", json_string(items[i].id));
                json_object_set_new(item, "error", out_string(items[i].err.msg));
                json_array_append_new(failed, item);
        }
        json_object_set_new(root, "succeeded", succeeded);
        if (json_array_size(failed))
                json_object_set(root, "failed", failed);
        json_decref(failed);
        out_json(root);
}

static void report_lines(const struct cli *cli, const struct batch *batch, bool quiet,
                         const struct vm_batch_item *items, size_t n)
{
        size_t done = 0;

        for (size_t i = 0; i < n; i++) {
                if (items[i].err.class != CC_OK)
                        continue;
                done++;
                cli_success(cli, batch->tag, "%s: %s", batch->done, items[i].id);
                if (quiet) {
                        out_line(items[i].id);
                }
        }
        if (done == 0)
                cli_success(cli, batch->tag, "%s", batch->none);
}

int batch_run(struct cli *cli, const struct batch *batch, const struct output_flags *out,
              struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        CC_FREE struct vm_batch_item *items = NULL;
        size_t n = 0;
        int r;

        cli->quiet_log = out->quiet || output_is_json(out);
        r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        r = vm_resolve_all(&e, (const char *const *)cli->args, cli->n_args, &items, &n, err);
        if (r < 0)
                return r;
        r = vm_batch(&cli->config, items, n, batch->fn, batch->ctx, err);
        if (output_is_json(out))
                report_json(items, n);
        else
                report_lines(cli, batch, out->quiet, items, n);
        cli->items_verb = batch->verb;
        for (size_t i = 0; i < n; i++)
                if (items[i].err.class != CC_OK)
                        cli_item_add(cli, items[i].id, items[i].err.msg);
        return r < 0 ? cc_wrap(err, "%s", batch->verb) : 0;
}
