/*
 * Fill a store with VM records shaped like real ones: one NIC, three layers, a copy-on-write and a
 * data disk, in the state stopped. With SNAPSHOTS, as many snapshots of them too, and for each VM
 * and snapshot its directories, empty. Usage: seed ROOT RUN COUNT [SNAPSHOTS LOG]
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "meta/meta.h"

static void add_disk(struct vm_record *vm, const char *role, char *path, const char *serial)
{
        struct vm_disk *d = record_array_add(&vm_disk_type, &vm->storage_configs);

        d->role = xstrdup(role);
        d->path = path;
        d->serial = xstrdup(serial);
        d->ro = cc_streq(role, "layer");
        d->direct_io = -1;
}

static int add_snapshot(struct meta *m, const char *root, long i, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        CC_FREE char *dir = NULL;
        unsigned char digest[32];
        char id[CC_ID_LEN + 1];
        char hex[65];
        int r;

        cc_id_new(id);
        s.id = xstrdup(id);
        s.hypervisor = xstrdup("qemu");
        s.name = xasprintf("snap-%03ld", i);
        s.config.cpu = 2;
        s.config.memory = INT64_C(1) << 30;
        s.config.storage = INT64_C(10) << 30;
        s.config.image = xstrdup("docker.io/library/debian:12");
        s.bytes = 1 << 20;
        for (int layer = 0; layer < 3; layer++) {
                cc_random(digest, sizeof(digest));
                cc_hex(digest, sizeof(digest), hex);
                cc_strv_add(&s.image_blob_ids, hex);
        }
        r = meta_snapshot_insert(m, &s, err);
        dir = xasprintf("%s/snapshot/localfile/%s", root, id);
        return r < 0 ? r : cc_mkdir_p(dir, 0750, err);
}

static int make_dirs(const struct vm_record *vm, struct cc_err *err)
{
        int r = cc_mkdir_p(vm->run_dir, 0750, err);

        return r < 0 ? r : cc_mkdir_p(vm->log_dir, 0750, err);
}

static int add_vm(struct meta *m, const char *run, const char *log, long i, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct nic *nic;
        char mac[18];
        char id[CC_ID_LEN + 1];
        char hex[65];
        int r;

        cc_id_new(id);
        cc_mac_new(mac);
        vm.id = xstrdup(id);
        vm.hypervisor = xstrdup("qemu");
        vm.state = xstrdup(vm_state_name(VM_CREATING));
        vm.config.name = xasprintf("bench-%03ld", i);
        vm.config.cpu = 2;
        vm.config.memory = INT64_C(1) << 30;
        vm.config.storage = INT64_C(10) << 30;
        vm.config.image = xstrdup("docker.io/library/debian:12");
        vm.config.image_type = xstrdup("oci");
        vm.config.network = xstrdup("user");
        vm.net_backend = xstrdup("user");
        vm.run_dir = xasprintf("%s/qemu/%s", run, id);
        vm.log_dir = xasprintf("%s/qemu/%s", log ? log : "/var/log/cocoon", id);
        nic = record_array_add(&nic_type, &vm.network_configs);
        nic->mac = xstrdup(mac);
        nic->backend = xstrdup("user");
        for (int layer = 0; layer < 3; layer++) {
                char serial[32];
                unsigned char digest[32];

                cc_random(digest, sizeof(digest));
                cc_hex(digest, sizeof(digest), hex);
                (void)snprintf(serial, sizeof(serial), "cocoon-layer%d", layer);
                add_disk(&vm, "layer", xasprintf("/var/lib/cocoon/oci/blobs/%s.erofs", hex),
                         serial);
                cc_strv_add(&vm.image_blob_ids, hex);
        }
        add_disk(&vm, "cow", xasprintf("%s/cow.raw", vm.run_dir), "cocoon-cow");
        add_disk(&vm, "data", xasprintf("%s/data-data1.raw", vm.run_dir), "data1");
        vm.boot_config.kernel_path = xasprintf("/var/lib/cocoon/oci/boot/%s/vmlinuz", hex);
        vm.boot_config.initrd_path = xasprintf("/var/lib/cocoon/oci/boot/%s/initrd.img", hex);
        vm.boot_config.cmdline = xstrdup("console=ttyS0 loglevel=3 boot=cocoon-overlay rw");
        cc_strset(&vm.state, vm_state_name(VM_STOPPED));
        r = meta_vm_insert(m, &vm, err);
        return r < 0 || !log ? r : make_dirs(&vm, err);
}

int main(int argc, char **argv)
{
        struct cc_err err = CC_ERR_INIT;
        META struct meta *m = NULL;
        int r;

        if (argc != 4 && argc != 6) {
                (void)fprintf(stderr, "usage: seed ROOT RUN COUNT [SNAPSHOTS LOG]\n");
                return 2;
        }
        r = meta_open(&(struct meta_open_args){ .root_dir = argv[1], .run_dir = argv[2] }, &m,
                      &err);
        if (r == 0)
                r = meta_begin(m, META_DURABLE, &err);
        for (long i = 0; r == 0 && i < strtol(argv[3], NULL, 10); i++)
                r = add_vm(m, argv[2], argc == 6 ? argv[5] : NULL, i, &err);
        for (long i = 0; r == 0 && argc == 6 && i < strtol(argv[4], NULL, 10); i++)
                r = add_snapshot(m, argv[1], i, &err);
        if (r == 0)
                r = meta_commit(m, &err);
        if (r < 0)
                (void)fprintf(stderr, "seed: %s\n", err.msg);
        return r < 0;
}
