/* cocoon vm net: change the number of NICs of a running VM. */
#include "cli/cli.h"
#include "cli/output.h"
#include "vm/attach.h"

struct options {
        struct output_flags out;
        int64_t nics;
};

static json_t *changes(const struct vm_nic_change *v, size_t n)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n; i++) {
                json_t *item = json_object();

                json_object_set_new(item, "index", json_integer((json_int_t)v[i].index));
                json_object_set_new(item, "tap", out_string(v[i].tap ? v[i].tap : ""));
                json_object_set_new(item, "mac", out_string(v[i].mac));
                json_array_append_new(list, item);
        }
        return list;
}

static void set_unless_empty(json_t *root, const char *key, json_t *list)
{
        if (json_array_size(list))
                json_object_set(root, key, list);
        json_decref(list);
}

static void print_json(const struct vm_net_result *r)
{
        json_t *root = json_object();

        json_object_set_new(root, "before", json_integer(r->before));
        json_object_set_new(root, "after", json_integer(r->after));
        set_unless_empty(root, "added", changes(r->added, r->n_added));
        set_unless_empty(root, "removed", changes(r->removed, r->n_removed));
        set_unless_empty(root, "warnings", out_strings(&r->warnings));
        set_unless_empty(root, "hints", out_strings(&r->hints));
        out_json(root);
}

static void show(struct cli *cli, const struct options *o, const char *id,
                 const struct vm_net_result *r)
{
        cli_success(cli, "vm.net", "resized %s: before=%lld after=%lld added=%zu removed=%zu",
                    cli->args[0], (long long)r->before, (long long)r->after, r->n_added,
                    r->n_removed);
        if (output_is_json(&o->out))
                print_json(r);
        else if (o->out.quiet)
                out_line(id);
        else
                out_hints(&r->hints);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        VM_NET_RESULT struct vm_net_result result = { 0 };
        char id[27];
        int r;

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = meta_vm_resolve(e.meta, cli->args[0], id, err);
        if (r == 0)
                r = vm_net(&e, id, o->nics, &result, err);
        /* Also how far it came before it failed. */
        if (r == 0 || result.n_added || result.n_removed)
                show(cli, o, id, &result);
        return r;
}

static const struct opt rows[] = {
        { .name = "nics",
          .type = OPT_INT,
          .offset = offsetof(struct options, nics),
          .metavar = "N",
          .help = "how many NICs the VM shall have",
          .flags = OPT_REQUIRED },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_net = {
        .path = "vm net",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Change the number of NICs of a running VM",
        .long_help =
                "NICs are added behind the last one and removed from the last one, each with "
                "its address and host plumbing. A removal waits up to 30 seconds for the guest "
                "to release the device; one that does not fails, and can be repeated. Where the "
                "machine does not tell the guest (Firecracker, with --pci), what to run in it is "
                "printed.",
        .examples = "cocoon vm net web-1 --nics 2\ncocoon vm net web-1 --nics 0 -o json\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
