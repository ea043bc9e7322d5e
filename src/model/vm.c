/* The tables of the VM record: every field name and its place exist here and nowhere else. */
#include "model/vm.h"

#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/json.h"

static const char *const state_names[VM_STATE_MAX] = {
        [VM_CREATING] = "creating", [VM_CREATED] = "created", [VM_RUNNING] = "running",
        [VM_STOPPED] = "stopped",   [VM_ERROR] = "error",
};

const char *vm_state_name(enum vm_state state)
{
        return (unsigned)state < VM_STATE_MAX ? state_names[state] : "unknown";
}

int vm_state_parse(const char *name, enum vm_state *ret)
{
        for (int i = 0; i < VM_STATE_MAX; i++)
                if (cc_streq(name, state_names[i])) {
                        *ret = (enum vm_state)i;
                        return 0;
                }
        return -CC_INVALID;
}

/* clang-format off: one field a line reads as the table that it is. */
#define F(st, member, ftype, fflags)                                                               \
        {                                                                                          \
                .name = #member, .type = (ftype), .offset = offsetof(struct st, member),           \
                .flags = (fflags)                                                                  \
        }
#define FSUB(st, member, ftype, fflags, fsub)                                                      \
        {                                                                                          \
                .name = #member, .type = (ftype), .offset = offsetof(struct st, member),           \
                .flags = (fflags), .sub = (fsub)                                                   \
        }
#define RECORD_TYPE(st, text, table)                                                               \
        {                                                                                          \
                .what = (text), .size = sizeof(struct st), .extra = offsetof(struct st, extra),    \
                .fields = (table), .n = CC_ARRAY_LEN(table)                                        \
        }

static const struct field config_fields[] = {
        F(vm_config, cpu, FIELD_INT, 0),
        F(vm_config, memory, FIELD_INT, 0),
        F(vm_config, storage, FIELD_INT, 0),
        F(vm_config, queue_size, FIELD_INT, 0),
        F(vm_config, disk_queue_size, FIELD_INT, 0),
        F(vm_config, image, FIELD_STR, 0),
        F(vm_config, image_digest, FIELD_STR, 0),
        F(vm_config, image_type, FIELD_STR, 0),
        F(vm_config, network, FIELD_STR, 0),
        F(vm_config, no_direct_io, FIELD_BOOL, 0),
        F(vm_config, windows, FIELD_BOOL, 0),
        F(vm_config, shared_memory, FIELD_BOOL, 0),
        F(vm_config, no_watchdog, FIELD_BOOL, 0),
        F(vm_config, no_balloon, FIELD_BOOL, 0),
        F(vm_config, hugepages, FIELD_BOOL, 0),
        F(vm_config, mergeable, FIELD_BOOL, 0),
        F(vm_config, pci, FIELD_BOOL, 0),
        F(vm_config, cpu_weight, FIELD_INT, 0),
        F(vm_config, cpu_quota_us, FIELD_INT, 0),
        F(vm_config, cpu_period_us, FIELD_INT, 0),
        F(vm_config, cpu_burst_us, FIELD_INT, 0),
        F(vm_config, cpuset_cpus, FIELD_STR, 0),
        F(vm_config, flat, FIELD_BOOL, 0),
        F(vm_config, publish, FIELD_STRS, 0),
        F(vm_config, dns, FIELD_STRS, 0),
        F(vm_config, labels, FIELD_JSON, 0),
        F(vm_config, name, FIELD_STR, FIELD_ALWAYS),
};
const struct record_type vm_config_type = RECORD_TYPE(vm_config, "vm config", config_fields);

static const struct field nic_network_fields[] = {
        F(nic_network, ip, FIELD_STR, 0),
        F(nic_network, gateway, FIELD_STR, 0),
        F(nic_network, prefix, FIELD_INT, 0),
};
const struct record_type nic_network_type = RECORD_TYPE(nic_network, "network", nic_network_fields);

static const struct field nic_fields[] = {
        F(nic, tap, FIELD_STR, FIELD_ALWAYS),
        F(nic, mac, FIELD_STR, FIELD_ALWAYS),
        F(nic, num_queues, FIELD_INT, FIELD_ALWAYS),
        F(nic, queue_size, FIELD_INT, FIELD_ALWAYS),
        F(nic, backend, FIELD_STR, 0),
        F(nic, bridge_dev, FIELD_STR, 0),
        F(nic, netns_path, FIELD_STR, 0),
        FSUB(nic, network, FIELD_PTR, 0, &nic_network_type),
        F(nic, mtu, FIELD_INT, FIELD_STORED),
};
const struct record_type nic_type = RECORD_TYPE(nic, "network config", nic_fields);

static const struct field disk_fields[] = {
        F(vm_disk, path, FIELD_STR, FIELD_ALWAYS),   F(vm_disk, ro, FIELD_BOOL, FIELD_ALWAYS),
        F(vm_disk, serial, FIELD_STR, FIELD_ALWAYS), F(vm_disk, role, FIELD_STR, FIELD_ALWAYS),
        F(vm_disk, mount_point, FIELD_STR, 0),       F(vm_disk, fstype, FIELD_STR, 0),
        F(vm_disk, direct_io, FIELD_TRISTATE, 0),
};
const struct record_type vm_disk_type = RECORD_TYPE(vm_disk, "storage config", disk_fields);

static const struct field boot_fields[] = {
        F(boot_config, kernel_path, FIELD_STR, 0),
        F(boot_config, initrd_path, FIELD_STR, 0),
        F(boot_config, cmdline, FIELD_STR, 0),
        F(boot_config, firmware_path, FIELD_STR, 0),
};
const struct record_type boot_config_type = RECORD_TYPE(boot_config, "boot config", boot_fields);

static const struct field proc_fields[] = {
        F(proc_ref, pid, FIELD_INT, FIELD_ALWAYS),
        F(proc_ref, starttime, FIELD_INT, FIELD_ALWAYS),
        F(proc_ref, boot_id, FIELD_STR, 0),
};
static const struct record_type proc_type = {
        .what = "proc",
        .size = sizeof(struct proc_ref),
        .extra = SIZE_MAX,
        .fields = proc_fields,
        .n = CC_ARRAY_LEN(proc_fields),
};

static const struct field restore_fields[] = {
        F(restore_pending, phase, FIELD_STR, FIELD_ALWAYS),
        F(restore_pending, snapshot_id, FIELD_STR, 0),
        F(restore_pending, from_dir, FIELD_STR, 0),
};
static const struct record_type restore_type =
        RECORD_TYPE(restore_pending, "restore marker", restore_fields);

static const struct field vm_fields[] = {
        F(vm_record, id, FIELD_STR, FIELD_ALWAYS),
        F(vm_record, hypervisor, FIELD_STR, 0),
        F(vm_record, state, FIELD_STR, FIELD_ALWAYS),
        FSUB(vm_record, config, FIELD_OBJECT, FIELD_ALWAYS, &vm_config_type),
        F(vm_record, pid, FIELD_INT, FIELD_ALWAYS),
        F(vm_record, socket_path, FIELD_STR, FIELD_SHOWN),
        F(vm_record, vsock_socket, FIELD_STR, FIELD_SHOWN),
        F(vm_record, vsock_cid, FIELD_INT, FIELD_STORED),
        F(vm_record, net_backend, FIELD_STR, 0),
        F(vm_record, netns_path, FIELD_STR, 0),
        F(vm_record, net_bridge_dev, FIELD_STR, 0),
        FSUB(vm_record, network_configs, FIELD_ARRAY, FIELD_NULLS, &nic_type),
        FSUB(vm_record, storage_configs, FIELD_ARRAY, FIELD_BULK, &vm_disk_type),
        F(vm_record, first_booted, FIELD_BOOL, 0),
        F(vm_record, snapshot_ids, FIELD_SET, FIELD_BULK),
        F(vm_record, transition_generation, FIELD_INT, 0),
        F(vm_record, last_transition_reason, FIELD_STR, 0),
        F(vm_record, last_transition_at, FIELD_TIME, 0),
        F(vm_record, created_at, FIELD_TIME, FIELD_ALWAYS),
        F(vm_record, updated_at, FIELD_TIME, FIELD_ALWAYS),
        F(vm_record, started_at, FIELD_TIME, 0),
        F(vm_record, stopped_at, FIELD_TIME, 0),
        FSUB(vm_record, boot_config, FIELD_OBJECT, FIELD_STORED | FIELD_BULK, &boot_config_type),
        F(vm_record, image_blob_ids, FIELD_SET, FIELD_STORED | FIELD_BULK),
        F(vm_record, run_dir, FIELD_STR, FIELD_STORED),
        F(vm_record, log_dir, FIELD_STR, FIELD_STORED),
        FSUB(vm_record, proc, FIELD_PTR, FIELD_STORED, &proc_type),
        FSUB(vm_record, restore_pending, FIELD_PTR, FIELD_STORED, &restore_type),
        F(vm_record, hibernating, FIELD_BOOL, FIELD_STORED),
};
const struct record_type vm_record_type = RECORD_TYPE(vm_record, "vm record", vm_fields);
/* clang-format on */

void vm_record_clear(struct vm_record *vm)
{
        record_clear(&vm_record_type, vm);
}

static const char *or_empty(const char *s)
{
        return s ? s : "";
}

const char *vm_net_backend(const struct vm_record *vm)
{
        if (!cc_isempty(vm->net_backend))
                return vm->net_backend;
        if (vm->network_configs.len == 0)
                return "";
        return cc_isempty(vm_nic(vm, 0)->backend) ? "cni" : vm_nic(vm, 0)->backend;
}

const char *vm_netns_path(const struct vm_record *vm)
{
        if (!cc_isempty(vm->netns_path) || vm->network_configs.len == 0)
                return or_empty(vm->netns_path);
        return or_empty(vm_nic(vm, 0)->netns_path);
}

const char *vm_net_bridge(const struct vm_record *vm)
{
        if (!cc_isempty(vm->net_bridge_dev) || vm->network_configs.len == 0)
                return or_empty(vm->net_bridge_dev);
        return or_empty(vm_nic(vm, 0)->bridge_dev);
}

/* How messages call a VM: its name, else its ID. */
static const char *vm_label(const struct vm_record *vm)
{
        return !cc_isempty(vm->config.name) ? vm->config.name : or_empty(vm->id);
}

int vm_nics_check(const struct vm_record *vm, struct cc_err *err)
{
        for (size_t i = 0; i < vm->network_configs.len; i++)
                if (cc_isempty(vm_nic(vm, i)->mac))
                        return cc_fail(err, CC_INVALID,
                                       "vm %s: network_configs[%zu] is null or has no MAC",
                                       vm_label(vm), i);
        return 0;
}

static const char *data_disk_fault(const struct vm_disk *d)
{
        if (!cc_data_disk_name_valid(or_empty(d->serial)))
                return "has an invalid serial";
        if (!cc_streq(d->fstype, "ext4") && !cc_streq(d->fstype, "none"))
                return "has a file system other than ext4 or none";
        if (cc_isempty(d->mount_point))
                return NULL;
        if (cc_streq(d->fstype, "none"))
                return "has a mount point but no file system";
        if (d->mount_point[0] != '/' || strchr(d->mount_point, '\n'))
                return "has an invalid mount point";
        return NULL;
}

static const char *disk_fault(const struct vm_disk *d)
{
        bool data = cc_streq(d->role, "data");

        if (cc_isempty(d->path))
                return "has no path";
        if (cc_streq(d->role, "layer") || cc_streq(d->role, "cidata")) {
                if (!d->ro)
                        return "must be read-only";
        } else if (cc_streq(d->role, "cow") || data) {
                if (d->ro)
                        return "must be writable";
        } else {
                return "has an unknown role";
        }
        if (data)
                return data_disk_fault(d);
        return d->direct_io >= 0 ? "has direct_io, which only data disks may have" : NULL;
}

int vm_disks_check(const struct vm_record *vm, struct cc_err *err)
{
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *d = vm_disk_at(vm, i);
                const char *fault = disk_fault(d);

                if (fault)
                        return cc_fail(err, CC_INVALID, "vm %s: storage_configs[%zu] (%s) %s",
                                       vm_label(vm), i, or_empty(d->role), fault);
        }
        return 0;
}

static int labels_check(const json_t *labels, struct cc_err *err)
{
        const char *key;
        json_t *v;

        if (!labels)
                return 0;
        if (!json_is_object(labels))
                return cc_fail(err, CC_INVALID, "vm record: config.labels is not an object");
        json_object_foreach ((json_t *)(uintptr_t)labels, key, v)
                if (!json_is_string(v))
                        return cc_fail(err, CC_INVALID,
                                       "vm record: config.labels.%s is not a string", key);
        return 0;
}

/* Name the VM in front of what is wrong with its record, as far as the document tells. */
static int wrap_named(const char *text, size_t n, struct cc_err *err)
{
        CC_JSON json_t *json = json_loadb(text, n, 0, NULL);
        const char *name =
                json_string_value(json_object_get(json_object_get(json, "config"), "name"));

        if (cc_isempty(name))
                name = json_string_value(json_object_get(json, "id"));
        return cc_isempty(name) ? -CC_INVALID : cc_wrap(err, "vm %s", name);
}

static int parse(const char *text, size_t n, bool brief, struct vm_record *ret, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        int r = brief ? record_parse_brief(&vm_record_type, text, n, &vm, err)
                      : record_parse(&vm_record_type, text, n, &vm, err);

        if (r == 0)
                r = labels_check(vm.config.labels, err);
        if (r < 0)
                return err ? wrap_named(text, n, err) : r;
        *ret = vm;
        vm = (struct vm_record)VM_RECORD_INIT;
        return 0;
}

int vm_record_parse(const char *text, size_t n, struct vm_record *ret, struct cc_err *err)
{
        return parse(text, n, false, ret, err);
}

int vm_record_parse_brief(const char *text, size_t n, struct vm_record *ret, struct cc_err *err)
{
        return parse(text, n, true, ret, err);
}

char *vm_record_text(const struct vm_record *vm)
{
        CC_JSON json_t *json = record_dump(&vm_record_type, vm, RECORD_STORE);

        /* Liveness is found out at every read; a stored pid could only be wrong (state.md §2). */
        json_object_set_new(json, "pid", json_integer(0));
        return cc_json_compact(json);
}
