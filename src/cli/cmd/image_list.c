/* cocoon image list */
#include <fnmatch.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/list.h"
#include "image/image.h"

#define SHORT_DIGEST 19 /* "sha256:" and 12 hex digits */

static void type_text(const void *p, bool raw, struct cc_buf *out)
{
        cc_buf_str(out, ((const struct image_view *)p)->type);
}

static void name_text(const void *p, bool raw, struct cc_buf *out)
{
        cc_buf_str(out, ((const struct image_view *)p)->name);
}

static void digest_text(const void *p, bool raw, struct cc_buf *out)
{
        const struct image_view *view = p;

        cc_buf_add(out, view->id, raw ? strlen(view->id) : strnlen(view->id, SHORT_DIGEST));
}

static void size_text(const void *p, bool raw, struct cc_buf *out)
{
        list_size(out, ((const struct image_view *)p)->size, raw);
}

static void created_text(const void *p, bool raw, struct cc_buf *out)
{
        list_time(out, ((const struct image_view *)p)->created_at, raw);
}

static const struct list_field fields[] = {
        { "type", "TYPE", false, type_text },          { "name", "NAME", false, name_text },
        { "digest", "DIGEST", false, digest_text },    { "size", "SIZE", true, size_text },
        { "created", "CREATED", false, created_text }, { "id", NULL, false, digest_text },
};

static const char *const filter_keys[] = { "name", "type", "digest", NULL };

static bool match(const void *item, const char *key, const char *value)
{
        const struct image_view *view = item;

        if (cc_streq(key, "name"))
                return fnmatch(value, view->name, 0) == 0;
        if (cc_streq(key, "type"))
                return cc_streq(view->type, value);
        return cc_startswith(view->id, value) ||
               (cc_startswith(view->id, "sha256:") && cc_startswith(view->id + 7, value));
}

static json_t *to_json(const void *item)
{
        return record_dump(&image_view_type, item, RECORD_PUBLIC);
}

static const struct list_type image_list_type = {
        .empty = "No images found.",
        .fields = fields,
        .n_fields = CC_ARRAY_LEN(fields),
        .id = "id",
        .filter_keys = filter_keys,
        .match = match,
        .json = to_json,
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct list_flags *flags = opts;
        ENGINE struct engine e = { 0 };
        struct record_array images = { 0 };
        CC_FREE const void **items = NULL;
        int r = list_check(&image_list_type, flags, err);

        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0)
                r = image_list(e.meta, &images, err);
        if (r < 0)
                return r;
        items = xcalloc(images.len + 1, sizeof(*items));
        for (size_t i = 0; i < images.len; i++)
                items[i] = (const struct image_view *)images.v + i;
        list_print(&image_list_type, flags, items, images.len);
        for (size_t i = 0; i < images.len; i++)
                record_clear(&image_view_type, (struct image_view *)images.v + i);
        free(images.v);
        return 0;
}

static const struct opt_group groups[] = { { list_opts, 0, NULL }, { 0 } };

const struct cmd cmd_image_list = {
        .path = "image list",
        .alias = "ls",
        .args = "",
        .help = "List images",
        .long_help = "Sorted by type, then creation time. Filter keys: name (with wildcards), type "
                     "(oci or cloudimg), digest. Fields for --format and --sort: type, name, "
                     "digest, size, created, id.",
        .examples = "cocoon image list\ncocoon image list --format name,size --sort -size\n",
        .opts = groups,
        .size = sizeof(struct list_flags),
        .flags = CMD_STREAM,
        .run = run,
};
