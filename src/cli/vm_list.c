/* The list of VMs. See vm_list.h. */
#include "cli/vm_list.h"

#include <fnmatch.h>
#include <string.h>

#include "base/alloc.h"
#include "model/vm.h"

static void vm_id(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct vm_record *)p)->id, raw);
}

static void vm_name(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct vm_record *)p)->config.name, raw);
}

static void vm_state(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct vm_record *)p)->state, raw);
}

static void vm_cpu(const void *p, bool raw, struct cc_buf *out)
{
        cc_buf_printf(out, "%lld", (long long)((const struct vm_record *)p)->config.cpu);
}

static void vm_memory(const void *p, bool raw, struct cc_buf *out)
{
        list_size(out, ((const struct vm_record *)p)->config.memory, raw);
}

static void vm_storage(const void *p, bool raw, struct cc_buf *out)
{
        list_size(out, ((const struct vm_record *)p)->config.storage, raw);
}

static void vm_ip(const void *p, bool raw, struct cc_buf *out)
{
        const struct vm_record *vm = p;
        CC_STRV struct cc_strv ips = { 0 };
        CC_FREE char *joined = NULL;

        for (size_t i = 0; i < vm->network_configs.len; i++)
                if (vm_nic(vm, i)->network && !cc_isempty(vm_nic(vm, i)->network->ip))
                        cc_strv_add(&ips, vm_nic(vm, i)->network->ip);
        joined = cc_strv_join(&ips, ",");
        list_text(out, joined, raw);
}

static void vm_mac(const void *p, bool raw, struct cc_buf *out)
{
        const struct vm_record *vm = p;
        CC_STRV struct cc_strv macs = { 0 };
        CC_FREE char *joined = NULL;

        for (size_t i = 0; i < vm->network_configs.len; i++)
                if (!cc_isempty(vm_nic(vm, i)->mac))
                        cc_strv_add(&macs, vm_nic(vm, i)->mac);
        joined = cc_strv_join(&macs, ",");
        list_text(out, joined, raw);
}

static void vm_image(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct vm_record *)p)->config.image, raw);
}

static void vm_created(const void *p, bool raw, struct cc_buf *out)
{
        list_time(out, ((const struct vm_record *)p)->created_at, raw);
}

static void vm_started(const void *p, bool raw, struct cc_buf *out)
{
        list_time(out, ((const struct vm_record *)p)->started_at, raw);
}

static void vm_hypervisor(const void *p, bool raw, struct cc_buf *out)
{
        list_text(out, ((const struct vm_record *)p)->hypervisor, raw);
}

static void vm_network(const void *p, bool raw, struct cc_buf *out)
{
        const struct vm_record *vm = p;

        list_text(out, cc_isempty(vm->config.network) ? vm_net_backend(vm) : vm->config.network,
                  raw);
}

static void vm_pid(const void *p, bool raw, struct cc_buf *out)
{
        cc_buf_printf(out, "%lld", (long long)((const struct vm_record *)p)->pid);
}

static const struct list_field fields[] = {
        { "id", "ID", false, vm_id },
        { "name", "NAME", false, vm_name },
        { "state", "STATE", false, vm_state },
        { "cpu", "CPU", true, vm_cpu },
        { "memory", "MEMORY", true, vm_memory },
        { "storage", "STORAGE", true, vm_storage },
        { "ip", "IP", false, vm_ip },
        { "image", "IMAGE", false, vm_image },
        { "created", "CREATED", false, vm_created },
        { "started", NULL, false, vm_started },
        { "hypervisor", NULL, false, vm_hypervisor },
        { "network", NULL, false, vm_network },
        { "mac", NULL, false, vm_mac },
        { "pid", NULL, true, vm_pid },
};

static bool match_label(const struct vm_record *vm, const char *value)
{
        const char *eq = strchr(value, '=');
        CC_FREE char *key = eq ? xstrndup(value, (size_t)(eq - value)) : xstrdup(value);
        const json_t *have = json_object_get(vm->config.labels, key);

        return have && (!eq || cc_streq(json_string_value(have), eq + 1));
}

static bool glob(const char *pattern, const char *text)
{
        return text && fnmatch(pattern, text, 0) == 0;
}

static bool match(const void *item, const char *key, const char *value)
{
        const struct vm_record *vm = item;

        if (cc_streq(key, "state"))
                return cc_streq(value, "stale") ? cc_streq(vm->state, VM_STATE_STALE)
                                                : cc_streq(vm->state, value);
        if (cc_streq(key, "name"))
                return glob(value, vm->config.name);
        if (cc_streq(key, "image"))
                return glob(value, vm->config.image) || cc_streq(value, vm->config.image_digest);
        if (cc_streq(key, "hypervisor"))
                return cc_streq(value, vm->hypervisor);
        if (cc_streq(key, "network"))
                return cc_streq(value, vm->config.network) || cc_streq(value, vm_net_backend(vm));
        return match_label(vm, value);
}

static json_t *to_json(const void *item)
{
        return record_dump(&vm_record_type, item, RECORD_PUBLIC);
}

static const char *const filter_keys[] = { "state",   "name",  "image", "hypervisor",
                                           "network", "label", NULL };
static const char *const states[] = { "creating", "created", "running",      "stopped",
                                      "error",    "stale",   VM_STATE_STALE, NULL };

const struct list_type vm_list_type = {
        .empty = "No VMs found.",
        .fields = fields,
        .n_fields = CC_ARRAY_LEN(fields),
        .id = "id",
        .filter_keys = filter_keys,
        .state_values = states,
        .match = match,
        .json = to_json,
};

struct printing {
        const struct config *config;
        char *const *refs;
        size_t n_refs;
        struct list_out *out;
};

bool vm_list_wanted(char *const *refs, size_t n_refs, const struct vm_record *vm)
{
        for (size_t i = 0; i < n_refs; i++)
                if (cc_streq(refs[i], vm->id) || cc_streq(refs[i], vm->config.name) ||
                    (strlen(refs[i]) >= 3 && cc_startswith(vm->id, refs[i])))
                        return true;
        return n_refs == 0;
}

static int print(void *ctx, struct vm_record *vm, struct cc_err *err)
{
        struct printing *p = ctx;

        if (!vm_list_wanted(p->refs, p->n_refs, vm))
                return 0;
        vm_present(p->config, vm);
        list_add(p->out, vm);
        return 0;
}

int vm_list_run(struct cli *cli, const struct list_flags *flags, char *const *refs, size_t n_refs,
                struct cc_err *err)
{
        /* Only JSON shows what the brief records lack. */
        bool whole = !flags->quiet && cc_startswith(flags->format, "json");
        ENGINE struct engine e = { 0 };
        LIST_OUT struct list_out *out = NULL;
        struct printing p = { .config = &cli->config, .refs = refs, .n_refs = n_refs };
        int r = list_check(&vm_list_type, flags, err);

        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        out = p.out = list_begin(&vm_list_type, flags);
        r = (whole ? meta_vm_each : meta_vm_each_brief)(e.meta, print, &p, err);
        if (r < 0)
                return r;
        list_end(TAKE_PTR(out));
        return 0;
}
