/* Attach and detach verbs. See attach_cmd.h. */
#include "cli/attach_cmd.h"

#include <stdlib.h>

static const char *const kind_names[] = {
        [HV_ATTACH_FS] = "fs",
        [HV_ATTACH_DEVICE] = "device",
        [HV_ATTACH_DISK] = "disk",
};

static int open_vm(struct cli *cli, struct engine *e, char id[27], struct cc_err *err)
{
        int r = cli_engine(cli, e, err);

        return r < 0 ? r : meta_vm_resolve(e->meta, cli->args[0], id, err);
}

/* What the user sees of the request under key_name: the address of a device, else the key. */
static const char *shown(const struct hv_attachment *a)
{
        return a->kind == HV_ATTACH_DEVICE ? a->bdf : a->key;
}

static void add_hints(json_t *root, const struct cc_strv *hints)
{
        if (hints->len)
                json_object_set_new(root, "hints", out_strings(hints));
}

int attach_run(struct cli *cli, const struct output_flags *out, const struct hv_attachment *what,
               const char *key_name, struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments request = { 0 };
        ENGINE struct engine e = { 0 };
        CC_STRV struct cc_strv hints = { 0 };
        CC_FREE char *id = NULL;
        char vm[27];
        int r = vm_attach_check(&cli->config, what, &request, err);

        cli->quiet_log = out->quiet || output_is_json(out);
        if (r == 0)
                r = open_vm(cli, &e, vm, err);
        if (r == 0)
                r = vm_attach(&e, vm, request.v, &id, &hints, err);
        if (r < 0)
                return r;
        cli_success(cli, "vm.attach", "attached %s %s=%s id=%s vm=%s", kind_names[what->kind],
                    key_name, shown(request.v), id, cli->args[0]);
        if (output_is_json(out)) {
                json_t *root = json_object();

                json_object_set_new(root, "id", out_string(id));
                json_object_set_new(root, key_name, out_string(shown(request.v)));
                json_object_set_new(root, "vm", out_string(cli->args[0]));
                add_hints(root, &hints);
                out_json(root);
        } else if (out->quiet) {
                out_line(id);
        } else {
                out_hints(&hints);
        }
        return 0;
}

int detach_run(struct cli *cli, const struct output_flags *out, enum hv_attach_kind kind,
               const char *key_name, const char *key, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        CC_STRV struct cc_strv hints = { 0 };
        char vm[27];
        int r;

        cli->quiet_log = out->quiet || output_is_json(out);
        r = open_vm(cli, &e, vm, err);
        if (r == 0)
                r = vm_detach(&e, vm, kind, key, &hints, err);
        if (r < 0)
                return r;
        cli_success(cli, "vm.detach", "detached %s %s=%s vm=%s", kind_names[kind], key_name, key,
                    cli->args[0]);
        if (output_is_json(out)) {
                json_t *root = json_object();

                json_object_set_new(root, key_name, out_string(key));
                json_object_set_new(root, "vm", out_string(cli->args[0]));
                add_hints(root, &hints);
                out_json(root);
        } else if (!out->quiet) {
                out_hints(&hints);
        }
        return 0;
}

static void add(json_t *root, const char *list_name, json_t *item)
{
        json_t *list = json_object_get(root, list_name);

        if (!list) {
                list = json_array();
                json_object_set_new(root, list_name, list);
        }
        json_array_append_new(list, item);
}

static json_t *entry(const struct hv_attachment *a)
{
        json_t *item = json_object();

        json_object_set_new(item, "id", out_string(a->id));
        switch (a->kind) {
        case HV_ATTACH_FS:
                json_object_set_new(item, "tag", out_string(a->key));
                json_object_set_new(item, "socket", out_string(a->socket ? a->socket : ""));
                break;
        case HV_ATTACH_DEVICE:
                if (!cc_isempty(a->bdf))
                        json_object_set_new(item, "bdf", out_string(a->bdf));
                break;
        case HV_ATTACH_DISK:
                json_object_set_new(item, "name", out_string(a->key));
                json_object_set_new(item, "path", out_string(a->path ? a->path : ""));
                if (a->ro)
                        json_object_set_new(item, "readonly", json_true());
                break;
        }
        return item;
}

json_t *attach_list_json(const struct hv_attachments *list)
{
        static const char *const names[] = {
                [HV_ATTACH_FS] = "fs",
                [HV_ATTACH_DEVICE] = "devices",
                [HV_ATTACH_DISK] = "disks",
        };
        json_t *root;

        if (list->n == 0)
                return NULL;
        root = json_object();
        for (size_t i = 0; i < list->n; i++)
                add(root, names[list->v[i].kind], entry(&list->v[i]));
        return root;
}
