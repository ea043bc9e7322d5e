/* The cloud-init seed of a VM, out of its record (images.md §8). What it says is disk/cidata.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "disk/cidata.h"
#include "vm/internal.h"

struct seed {
        struct cidata data;
        struct cidata_nic *nics;
        struct cidata_mount *mounts;
};

static void seed_clear(struct seed *s)
{
        free(s->nics);
        free(s->mounts);
}

static const struct vm_disk *seed_disk(const struct vm_record *vm)
{
        for (size_t i = 0; i < vm->storage_configs.len; i++)
                if (cc_streq(vm_disk_at(vm, i)->role, "cidata"))
                        return vm_disk_at(vm, i);
        return NULL;
}

static void collect(const struct config *c, const struct vm_record *vm, const char *user,
                    const char *password, struct seed *s)
{
        s->nics = xcalloc(vm->network_configs.len + 1, sizeof(*s->nics));
        s->mounts = xcalloc(vm->storage_configs.len + 1, sizeof(*s->mounts));
        s->data = (struct cidata){
                .instance_id = vm->id ? vm->id : "",
                .hostname = vm->config.name,
                .user = user,
                .password = password,
                .dns = vm->config.dns.len ? &vm->config.dns : &c->dns_servers,
                .nics = s->nics,
                .n_nics = vm->network_configs.len,
                .mounts = s->mounts,
        };
        for (size_t i = 0; i < vm->network_configs.len; i++) {
                const struct nic *nic = vm_nic(vm, i);

                s->nics[i].mac = nic->mac;
                if (nic->network) {
                        s->nics[i].ip = nic->network->ip;
                        s->nics[i].gateway = nic->network->gateway;
                        s->nics[i].prefix = nic->network->prefix;
                }
        }
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *d = vm_disk_at(vm, i);

                if (cc_streq(d->role, "data") && cc_streq(d->fstype, "ext4") &&
                    !cc_isempty(d->mount_point) && cidata_can_mount(d->mount_point))
                        s->mounts[s->data.n_mounts++] =
                                (struct cidata_mount){ d->serial, d->mount_point };
        }
}

int vm_seed_check(const struct config *c, const struct vm_record *vm, const char *user,
                  const char *password, struct cc_err *err)
{
        CC_CLEANUP(seed_clear) struct seed s = { 0 };

        if (!seed_disk(vm))
                return 0;
        collect(c, vm, user, password, &s);
        return cidata_check(&s.data, err);
}

int vm_seed_write(const struct config *c, const struct vm_record *vm, const char *user,
                  const char *password, struct cc_err *err)
{
        CC_CLEANUP(seed_clear) struct seed s = { 0 };
        const struct vm_disk *disk = seed_disk(vm);

        if (!disk)
                return 0;
        collect(c, vm, user, password, &s);
        return cidata_write(&s.data, disk->path, err);
}

void vm_seed_forget(const struct config *c, const struct vm_record *vm, const char *tag)
{
        const struct vm_disk *disk = seed_disk(vm);
        struct cc_err err = CC_ERR_INIT;

        if (!disk || !vm->first_booted || !cc_exists(disk->path))
                return;
        if (vm_seed_write(c, vm, NULL, NULL, &err) < 0)
                cc_warn(tag, "vm %s: %s", vm->id, err.msg);
}
