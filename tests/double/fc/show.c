/* What GET / and GET /vm/config answer. */
#include "vm.h"

#include "base/json.h"

json_t *fcd_show_info(const struct fcd_vm *vm)
{
        static const char *const states[] = { "Not started", "Running", "Paused" };

        return json_pack("{s:s, s:s, s:s, s:s}", "id", vm->id, "state", states[vm->state],
                         "vmm_version", vm->version, "app_name", "Firecracker");
}

/* Once the machine lives, the real one lists its devices in no order; here it is the reverse. */
static json_t *list(const struct fcd_vm *vm, const struct fcd_devices *d)
{
        json_t *all = json_array();

        for (size_t i = 0; i < d->n; i++) {
                size_t at = vm->state == FCD_NOT_STARTED ? i : d->n - 1 - i;

                (void)json_array_append(all, d->v[at].config);
        }
        return all;
}

static json_t *or_null(json_t *value)
{
        return value ? json_incref(value) : json_null();
}

json_t *fcd_show_config(const struct fcd_vm *vm)
{
        json_t *boot = vm->boot ? json_incref(vm->boot)
                                : json_pack("{s:s, s:n, s:n}", "kernel_image_path", "",
                                            "initrd_path", "boot_args");

        return json_pack("{s:o, s:o, s:o, s:n, s:n, s:O, s:n, s:n, s:o, s:o, s:o, s:[], s:n}",
                         "balloon", or_null(vm->balloon), "drives", list(vm, &vm->drives),
                         "boot-source", boot, "cpu-config", "logger", "machine-config", vm->machine,
                         "metrics", "mmds-config", "network-interfaces", list(vm, &vm->nics),
                         "vsock", or_null(vm->vsock), "entropy", or_null(vm->entropy), "pmem",
                         "memory-hotplug");
}
