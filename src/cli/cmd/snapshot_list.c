/* cocoon snapshot list */
#include <fnmatch.h>
#include <string.h>

#include "base/alloc.h"
#include "base/timeutil.h"
#include "cli/cli.h"
#include "cli/list.h"

struct options {
        struct list_flags list;
        const char *vm;
};

static void id_text(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct snapshot_record *)p)->id, raw);
}

static void name_text(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct snapshot_record *)p)->name, raw);
}

static void cpu_text(const void *p, bool raw, struct cc_buf *out)
{
        cc_buf_printf(out, "%lld", (long long)((const struct snapshot_record *)p)->config.cpu);
}

static void memory_text(const void *p, bool raw, struct cc_buf *out)
{
        list_size(out, ((const struct snapshot_record *)p)->config.memory, raw);
}

static void bytes_text(const void *p, bool raw, struct cc_buf *out)
{
        list_size(out, ((const struct snapshot_record *)p)->bytes, raw);
}

static void description_text(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct snapshot_record *)p)->description, raw);
}

static void created_text(const void *p, bool raw, struct cc_buf *out)
{
        const struct snapshot_record *s = p;
        char text[CC_RFC3339_MAX];

        if (raw)
                cc_time_rfc3339(s->created_at, text);
        else
                cc_time_table(s->created_at, text);
        cc_buf_str(out, text);
}

static void image_text(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct snapshot_record *)p)->config.image, raw);
}

static void hypervisor_text(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct snapshot_record *)p)->hypervisor, raw);
}

static const struct list_field fields[] = {
        { "id", "ID", false, id_text },
        { "name", "NAME", false, name_text },
        { "cpu", "CPU", true, cpu_text },
        { "memory", "MEMORY", true, memory_text },
        { "description", "DESCRIPTION", false, description_text },
        { "created", "CREATED", false, created_text },
        { "bytes", NULL, true, bytes_text },
        { "image", NULL, false, image_text },
        { "hypervisor", NULL, false, hypervisor_text },
};

static const char *const filter_keys[] = { "name", "image", "hypervisor", NULL };

static bool match(const void *item, const char *key, const char *value)
{
        const struct snapshot_record *s = item;

        if (cc_streq(key, "name"))
                return fnmatch(value, s->name ? s->name : "", 0) == 0;
        if (cc_streq(key, "image"))
                return fnmatch(value, s->config.image ? s->config.image : "", 0) == 0;
        return cc_streq(s->hypervisor, value);
}

static json_t *to_json(const void *item)
{
        return record_dump(&snapshot_record_type, item, RECORD_PUBLIC);
}

static const struct list_type snapshot_list_type = {
        .empty = "No snapshots found.",
        .fields = fields,
        .n_fields = CC_ARRAY_LEN(fields),
        .id = "id",
        .filter_keys = filter_keys,
        .match = match,
        .json = to_json,
};

struct printing {
        struct list_out *out;
        const struct cc_strv *only; /* IDs, or NULL: all */
};

static int print(void *ctx, struct snapshot_record *s, struct cc_err *err)
{
        struct printing *p = ctx;

        if (!s->pending && (!p->only || cc_strv_has(p->only, s->id)))
                list_add(p->out, s);
        return 0;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        LIST_OUT struct list_out *out = NULL;
        struct printing p = { 0 };
        struct list_type type = snapshot_list_type;
        int r = list_check(&type, &o->list, err);

        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0 && *o->vm) {
                r = cli_vm_get(cli, &e, o->vm, &vm, err);
                p.only = &vm.snapshot_ids;
                type.empty = "No snapshots found for VM.";
        }
        if (r < 0)
                return r;
        out = p.out = list_begin(&type, &o->list);
        r = meta_snapshot_each(e.meta, print, &p, err);
        if (r < 0)
                return r;
        list_end(TAKE_PTR(out));
        return 0;
}

static const struct opt rows[] = {
        { .name = "vm",
          .type = OPT_STRING,
          .offset = offsetof(struct options, vm),
          .metavar = "VM",
          .help = "only snapshots taken of this VM",
          .complete = COMPLETE_VM },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { list_opts, offsetof(struct options, list), "Output" },
        { 0 },
};

const struct cmd cmd_snapshot_list = {
        .path = "snapshot list",
        .alias = "ls",
        .args = "",
        .help = "List snapshots",
        .long_help = "Sorted by creation time. Filter keys: name and image (with wildcards), "
                     "hypervisor. Fields for --format and --sort: id, name, cpu, memory, "
                     "description, created, bytes (space on disk), image, hypervisor.",
        .examples = "cocoon snapshot list\ncocoon snapshot list --vm web-1 --format name,bytes\n",
        .opts = groups,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .run = run,
};
