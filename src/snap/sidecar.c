/*
 * cocoon.json: which disks the machine has, in its own order, and how it boots. Written beside
 * every snapshot; read back as hostile input, because a snapshot may come from anywhere.
 *
 * Paths in it are the source's. None of them is ever opened: resident disks are known by their file
 * names, layers and boot files by the digest in their paths, which the snapshot's record must pin.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "config/layout.h"
#include "snap/snap.h"

#define MAX_SIDECAR ((size_t)1 << 20)
#define MAX_DISKS   256
#define MAX_NICS    128

/* clang-format off */
static const struct field nic_fields[] = {
        { "mac", FIELD_STR, offsetof(struct snap_nic, mac), FIELD_ALWAYS, NULL },
        { "mtu", FIELD_INT, offsetof(struct snap_nic, mtu), 0, NULL },
};
static const struct record_type snap_nic_type = {
        .what = SNAP_SIDECAR " nic", .size = sizeof(struct snap_nic), .extra = SIZE_MAX,
        .fields = nic_fields, .n = CC_ARRAY_LEN(nic_fields),
};

#define F(member, ftype, fflags, fsub)                                                             \
        { .name = #member, .type = (ftype), .offset = offsetof(struct snap_sidecar, member),       \
          .flags = (fflags), .sub = (fsub) }
static const struct field sidecar_fields[] = {
        F(storage_configs, FIELD_ARRAY, FIELD_ALWAYS, &vm_disk_type),
        F(boot_config, FIELD_OBJECT, FIELD_ALWAYS, &boot_config_type),
        F(cpu, FIELD_INT, 0, NULL),
        F(memory, FIELD_INT, 0, NULL),
        F(nics, FIELD_ARRAY, 0, &snap_nic_type),
        F(source_root_dir, FIELD_STR, 0, NULL),
        F(source_run_dir, FIELD_STR, 0, NULL),
};
static const struct record_type sidecar_type = {
        .what = SNAP_SIDECAR, .size = sizeof(struct snap_sidecar),
        .extra = offsetof(struct snap_sidecar, extra),
        .fields = sidecar_fields, .n = CC_ARRAY_LEN(sidecar_fields),
};
/* clang-format on */

void snap_sidecar_clear(struct snap_sidecar *s)
{
        record_clear(&sidecar_type, s);
}

bool snap_disk_resident(const struct vm_disk *d)
{
        return !cc_streq(d->role, "layer");
}

static struct vm_disk *disk_at(const struct snap_sidecar *s, size_t i)
{
        return (struct vm_disk *)s->storage_configs.v + i;
}

/* ---- making ---- */

/* A driver names a disk by path, by base name, or by the base name's stem (a layer's digest). */
static bool names_disk(const char *name, const struct vm_disk *d)
{
        const char *base = cc_basename(d->path);
        size_t n = strlen(name);

        if (strchr(name, '/'))
                return cc_streq(name, d->path);
        return strncmp(base, name, n) == 0 && (base[n] == '\0' || base[n] == '.');
}

static int pick_disks(const struct vm_record *vm, const struct cc_strv *attached,
                      struct snap_sidecar *s, struct cc_err *err)
{
        CC_FREE bool *used = xcalloc(vm->storage_configs.len + 1, sizeof(*used));
        const char *name;

        cc_strv_foreach (attached, i, name) {
                size_t k = 0;

                while (k < vm->storage_configs.len &&
                       (used[k] || !names_disk(name, vm_disk_at(vm, k))))
                        k++;
                if (k == vm->storage_configs.len)
                        return cc_fail(err, CC_INVALID,
                                       "snapshot: disk %s of the machine is not in its record",
                                       name);
                used[k] = true;
                record_copy(&vm_disk_type, record_array_add(&vm_disk_type, &s->storage_configs),
                            vm_disk_at(vm, k));
        }
        return 0;
}

int snap_sidecar_make(const struct config *c, const struct vm_record *vm,
                      const struct cc_strv *attached, json_t **ret, struct cc_err *err)
{
        SNAP_SIDECAR_CLEANUP struct snap_sidecar s = { 0 };
        int r = pick_disks(vm, attached, &s, err);

        if (r < 0)
                return r;
        record_copy(&boot_config_type, &s.boot_config, &vm->boot_config);
        s.cpu = vm->config.cpu;
        s.memory = vm->config.memory;
        for (size_t i = 0; i < vm->network_configs.len; i++) {
                struct snap_nic *nic = record_array_add(&snap_nic_type, &s.nics);

                nic->mac = xstrdup0(vm_nic(vm, i)->mac);
                nic->mtu = vm_nic(vm, i)->mtu;
        }
        s.source_root_dir = xstrdup(c->root_dir);
        s.source_run_dir = xstrdup(c->run_dir);
        *ret = record_dump(&sidecar_type, &s, RECORD_STORE);
        return 0;
}

/* ---- reading ---- */

static int bad(const char *what, const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "%s: %s %s", SNAP_SIDECAR, what, why);
}

/* Absolute, and every component a name. */
static bool clean_path(const char *path)
{
        if (cc_isempty(path) || path[0] != '/')
                return false;
        for (const char *p = path; *p; p += strcspn(p, "/")) {
                size_t n = strcspn(++p, "/");

                if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
                        return false;
        }
        return true;
}

static bool below(const char *dir, const char *path)
{
        size_t n = dir ? strlen(dir) : 0;

        while (n > 0 && dir[n - 1] == '/')
                n--;
        return n > 0 && strncmp(path, dir, n) == 0 && path[n] == '/';
}

static int check_path(const struct config *c, const struct snap_sidecar *s, const char *what,
                      const char *path, struct cc_err *err)
{
        if (!clean_path(path))
                return bad(what, "has a path that is not absolute and clean", err);
        if (below(c->root_dir, path) || below(c->run_dir, path) ||
            below(s->source_root_dir, path) || below(s->source_run_dir, path))
                return 0;
        return cc_fail(err, CC_INVALID,
                       "%s: %s has the path %s, which is outside of cocoon's "
                       "directories",
                       SNAP_SIDECAR, what, path);
}

/* The one file name that a resident disk may have. */
static int check_name(const struct vm_disk *d, struct cc_err *err)
{
        CC_FREE char *data = NULL;
        const char *name = cc_basename(d->path);

        if (cc_streq(d->role, "cow")) {
                if (cc_streq(name, "cow.raw") || cc_streq(name, "overlay.qcow2"))
                        return 0;
        } else if (cc_streq(d->role, "cidata")) {
                if (cc_streq(name, SNAP_CIDATA))
                        return 0;
        } else {
                data = xasprintf("data-%s.raw", d->serial);
                if (cc_streq(name, data))
                        return 0;
        }
        return cc_fail(err, CC_INVALID, "%s: %s disk has the unexpected file name %s", SNAP_SIDECAR,
                       d->role, name);
}

static int check_file(const char *dir, const struct vm_disk *d, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, cc_basename(d->path));
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno == ENOENT ? cc_fail(err, CC_CORRUPT, "snapshot: file %s is missing",
                                                 cc_basename(path))
                                       : cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "snapshot: %s is not a regular file",
                               cc_basename(path));
        return 0;
}

static int check_disks(const struct config *c, const char *dir, const struct snap_sidecar *s,
                       struct cc_err *err)
{
        /* The record's own invariants, through a record that borrows the disks. */
        struct vm_record borrowed = { .config.name = (char *)(uintptr_t) "of the snapshot",
                                      .storage_configs = s->storage_configs };
        size_t cows = 0;
        int r = vm_disks_check(&borrowed, err);

        if (r == 0 && s->storage_configs.len > MAX_DISKS)
                r = bad("storage_configs", "has too many disks", err);
        for (size_t i = 0; i < s->storage_configs.len && r == 0; i++) {
                const struct vm_disk *d = disk_at(s, i);

                cows += cc_streq(d->role, "cow");
                r = check_path(c, s, d->role, d->path, err);
                if (r == 0 && snap_disk_resident(d)) {
                        r = check_name(d, err);
                        if (r == 0)
                                r = check_file(dir, d, err);
                        for (size_t k = 0; k < i && r == 0; k++)
                                if (cc_streq(cc_basename(disk_at(s, k)->path),
                                             cc_basename(d->path)))
                                        r = bad(d->role, "disk is listed twice", err);
                }
        }
        if (r == 0 && cows != 1)
                r = bad("storage_configs", "has not exactly one cow disk", err);
        return r;
}

static int check_boot(const struct config *c, const struct snap_sidecar *s, struct cc_err *err)
{
        const struct {
                const char *what, *path;
        } files[] = {
                { "kernel", s->boot_config.kernel_path },
                { "initrd", s->boot_config.initrd_path },
        };
        int r = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(files) && r == 0; i++)
                if (!cc_isempty(files[i].path))
                        r = check_path(c, s, files[i].what, files[i].path, err);
        if (r == 0 && !cc_isempty(s->boot_config.firmware_path) &&
            !clean_path(s->boot_config.firmware_path))
                r = bad("firmware", "has a path that is not absolute and clean", err);
        return r;
}

int snap_sidecar_read(const struct config *c, const char *dir, struct snap_sidecar *ret,
                      json_t **ret_json, struct cc_err *err)
{
        SNAP_SIDECAR_CLEANUP struct snap_sidecar s = { 0 };
        CC_FREE char *path = cc_path_join(dir, SNAP_SIDECAR);
        CC_JSON json_t *json = NULL;
        CC_FREE char *text = NULL;
        struct vm_disk named = { .path = path };
        size_t n;
        int r = check_file(dir, &named, err);

        if (r == 0)
                r = cc_read_file(path, MAX_SIDECAR, &text, &n, err);
        if (r == 0)
                r = cc_json_parse(text, n, SNAP_SIDECAR, &json, err);
        if (r == 0)
                r = record_load(&sidecar_type, json, &s, err);
        if (r == 0 && s.nics.len > MAX_NICS)
                r = bad("nics", "has too many entries", err);
        if (r == 0)
                r = check_disks(c, dir, &s, err);
        if (r == 0)
                r = check_boot(c, &s, err);
        if (r < 0)
                return r;
        *ret = s;
        s = (struct snap_sidecar){ 0 };
        if (ret_json)
                *ret_json = TAKE_PTR(json);
        return 0;
}

/* ---- localising ---- */

/* 64 hex digits that the snapshot pins, at the start of `s` and followed by `end`. */
static int pinned(const struct snapshot_record *rec, const char *s, const char *end,
                  const char *what, char ret_hex[65], struct cc_err *err)
{
        size_t n = strcspn(s, "./");

        if (n == 64 && cc_streq(s + n, end)) {
                memcpy(ret_hex, s, 64);
                ret_hex[64] = '\0';
                if (cc_is_hex(ret_hex, 64) && cc_strv_has(&rec->image_blob_ids, ret_hex))
                        return 0;
        }
        return cc_fail(err, CC_INVALID, "snapshot: %s %s is not one of its image's files", what, s);
}

/* …/oci/boot/<hex>/vmlinuz → the same file here. */
static int localise_boot(const struct config *c, const struct snapshot_record *rec,
                         const char *what, const char *path, char **ret, struct cc_err *err)
{
        CC_FREE char *dir = NULL;
        CC_FREE char *tail = NULL;
        const char *file;
        char hex[65];
        int r;

        if (cc_isempty(path))
                return 0;
        file = cc_basename(path);
        dir = xstrndup(path, (size_t)(file - path) - 1);
        if (!cc_streq(file, "vmlinuz") && !cc_streq(file, "initrd.img") &&
            !cc_streq(file, "vmlinux"))
                return bad(what, "has an unexpected file name", err);
        r = pinned(rec, cc_basename(dir), "", what, hex, err);
        if (r < 0)
                return r;
        /* Derived from vmlinuz by whoever needs it. */
        tail = layout_oci_boot_dir(c, hex);
        *ret = cc_path_join(tail, cc_streq(file, "vmlinux") ? "vmlinuz" : file);
        return 0;
}

int snap_localise(const struct config *c, const struct snapshot_record *s,
                  const struct snap_sidecar *side, const char *run_dir, struct vm_record *vm,
                  struct cc_err *err)
{
        int r = localise_boot(c, s, "kernel", side->boot_config.kernel_path,
                              &vm->boot_config.kernel_path, err);

        if (r == 0)
                r = localise_boot(c, s, "initrd", side->boot_config.initrd_path,
                                  &vm->boot_config.initrd_path, err);
        if (r == 0 && !cc_isempty(side->boot_config.firmware_path)) {
                CC_FREE char *dir = layout_firmware_dir(c);

                vm->boot_config.firmware_path =
                        cc_path_join(dir, cc_basename(side->boot_config.firmware_path));
        }
        for (size_t i = 0; i < side->storage_configs.len && r == 0; i++) {
                const struct vm_disk *from = disk_at(side, i);
                struct vm_disk *d = record_array_add(&vm_disk_type, &vm->storage_configs);
                char hex[65];

                record_copy(&vm_disk_type, d, from);
                free(TAKE_PTR(d->path));
                if (snap_disk_resident(d)) {
                        d->path = cc_path_join(run_dir, cc_basename(from->path));
                        continue;
                }
                r = pinned(s, cc_basename(from->path), ".erofs", "layer", hex, err);
                if (r == 0)
                        d->path = layout_oci_blob(c, hex);
        }
        return r;
}
