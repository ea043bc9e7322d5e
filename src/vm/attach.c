/*
 * Shared folders, devices and disks of a running VM (cli.md §4.6, cloud-hypervisor.md §5): what may
 * be asked for, and the way to the driver. Nothing is recorded.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/id.h"
#include "vm/attach.h"
#include "vm/internal.h"

#define PCI_DEVICES    "/sys/bus/pci/devices/"
#define MAX_TAG        36
#define MAX_DEVICE_ID  64
#define FS_QUEUES      1
#define FS_QUEUE_SIZE  1024
#define MAX_QUEUE_SIZE 32768

static const struct {
        unsigned cap;
        const char *attach, *detach;
} kinds[] = {
        [HV_ATTACH_FS] = { HV_CAP_FS_ATTACH, "fs attach", "fs detach" },
        [HV_ATTACH_DEVICE] = { HV_CAP_DEVICE_ATTACH, "device attach", "device detach" },
        [HV_ATTACH_DISK] = { HV_CAP_DISK_ATTACH, "disk attach", "disk detach" },
};

/* ---- what may be asked for ---- */

/* A letter or digit, then those and `more`. */
static bool is_word(const char *s, size_t max, const char *more)
{
        size_t n = strlen(s);

        if (n == 0 || n > max)
                return false;
        for (size_t i = 0; i < n; i++) {
                bool alnum = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
                             (s[i] >= '0' && s[i] <= '9');

                if (!alnum && (i == 0 || !strchr(more, s[i])))
                        return false;
        }
        return true;
}

static int check_fs(const struct hv_attachment *what, struct hv_attachment *out, struct cc_err *err)
{
        if (!is_word(out->key, MAX_TAG, "_-"))
                return cc_fail(err, CC_INVALID,
                               "invalid tag \"%s\": want ^[a-zA-Z0-9][a-zA-Z0-9_-]{0,35}$",
                               out->key);
        if (*what->socket != '/')
                return cc_fail(err, CC_INVALID, "socket must be absolute, got \"%s\"",
                               what->socket);
        if (strlen(what->socket) > 107)
                return cc_fail(err, CC_INVALID, "socket path is longer than 107 bytes");
        if (what->num_queues < 0 || what->queue_size < 0)
                return cc_fail(err, CC_INVALID, "num_queues and queue_size must not be negative");
        if (what->num_queues > 64 || what->queue_size > MAX_QUEUE_SIZE)
                return cc_fail(err, CC_INVALID, "at most 64 queues of %d entries", MAX_QUEUE_SIZE);
        out->socket = xstrdup(what->socket);
        out->num_queues = what->num_queues ? what->num_queues : FS_QUEUES;
        out->queue_size = what->queue_size ? what->queue_size : FS_QUEUE_SIZE;
        if (out->queue_size & (out->queue_size - 1))
                return cc_fail(err, CC_INVALID, "queue_size %lld is not a power of two",
                               (long long)out->queue_size);
        return 0;
}

static bool is_hex(const char *s, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!strchr("0123456789abcdef", s[i]) || !s[i])
                        return false;
        return true;
}

/* "hhhh:hh:hh.d" in lower case. */
static bool is_bdf(const char *s)
{
        return strlen(s) == 12 && is_hex(s, 4) && s[4] == ':' && is_hex(s + 5, 2) && s[7] == ':' &&
               is_hex(s + 8, 2) && s[10] == '.' && s[11] >= '0' && s[11] <= '7';
}

/* Lexically: "." and "//" dropped, ".." followed. Caller frees. */
static char *clean_path(const char *path)
{
        CC_STRV struct cc_strv parts = { 0 };
        CC_STRV struct cc_strv kept = { 0 };
        CC_FREE char *joined = NULL;
        const char *part;

        cc_split(path, "/", &parts);
        cc_strv_foreach (&parts, i, part) {
                if (cc_streq(part, "."))
                        continue;
                if (!cc_streq(part, "..")) {
                        cc_strv_add(&kept, part);
                } else if (kept.len) {
                        free(kept.v[--kept.len]);
                        kept.v[kept.len] = NULL;
                }
        }
        joined = cc_strv_join(&kept, "/");
        return xasprintf("/%s", joined);
}

/* cloud-hypervisor.md §5: short and full addresses, and their place in sysfs. Caller frees. */
static char *normalise_bdf(const char *input)
{
        CC_STRV struct cc_strv trimmed = { 0 };
        CC_FREE char *clean = NULL;
        CC_FREE char *full = NULL;
        char *s;

        cc_split(input, "\n", &trimmed); /* trims blanks */
        if (trimmed.len != 1)
                return NULL;
        s = trimmed.v[0];
        for (char *p = s; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char)(*p + 32);
        if (*s == '/') {
                clean = clean_path(s);
                if (!cc_startswith(clean, PCI_DEVICES))
                        return NULL;
                s = clean + strlen(PCI_DEVICES);
                return is_bdf(s) ? xstrdup(s) : NULL;
        }
        full = strlen(s) == 7 ? xasprintf("0000:%s", s) : xstrdup(s);
        return is_bdf(full) ? TAKE_PTR(full) : NULL;
}

static int check_device(const struct hv_attachment *what, struct hv_attachment *out,
                        struct cc_err *err)
{
        if (*out->key &&
            (!is_word(out->key, MAX_DEVICE_ID, "_.-") || cc_startswith(out->key, "cocoon-")))
                return cc_fail(err, CC_INVALID,
                               "invalid id \"%s\": want ^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$, without "
                               "the prefix cocoon-",
                               what->key);
        out->bdf = normalise_bdf(what->bdf);
        if (!out->bdf)
                return cc_fail(err, CC_INVALID,
                               "invalid PCI address \"%s\": want 01:00.0, 0000:01:00.0 or "
                               "/sys/bus/pci/devices/0000:01:00.0",
                               what->bdf);
        return 0;
}

static bool is_below(const char *path, const char *dir)
{
        CC_FREE char *real = realpath(dir, NULL);
        size_t n = real ? strlen(real) : 0;

        return real && strncmp(path, real, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static int check_disk(const struct config *c, const struct hv_attachment *what,
                      struct hv_attachment *out, struct cc_err *err)
{
        const char *const ours[] = { c->root_dir, c->run_dir, c->log_dir };
        struct stat st;

        if (!cc_data_disk_name_valid(out->key))
                return cc_fail(err, CC_INVALID,
                               "invalid name \"%s\": want ^[a-z][a-z0-9_-]{0,19}$, without the "
                               "prefix cocoon-",
                               what->key);
        if (*what->path != '/')
                return cc_fail(err, CC_INVALID, "path must be absolute, got \"%s\"", what->path);
        out->path = realpath(what->path, NULL);
        if (!out->path || stat(out->path, &st) < 0)
                return cc_fail_errno(err, errno, "path %s", what->path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "path %s is not a regular file", what->path);
        for (size_t i = 0; i < CC_ARRAY_LEN(ours); i++)
                if (is_below(out->path, ours[i]))
                        return cc_fail(err, CC_INVALID,
                                       "path %s is below %s, which is cocoon's own", what->path,
                                       ours[i]);
        out->ro = what->ro;
        out->direct = what->direct;
        return 0;
}

int vm_attach_check(const struct config *c, const struct hv_attachment *what,
                    struct hv_attachments *ret, struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments list = { 0 };
        struct hv_attachment *out = hv_attachments_add(&list);
        int r = 0;

        out->kind = what->kind;
        out->key = xstrdup(what->key ? what->key : "");
        switch (what->kind) {
        case HV_ATTACH_FS:
                r = check_fs(what, out, err);
                break;
        case HV_ATTACH_DEVICE:
                r = check_device(what, out, err);
                break;
        case HV_ATTACH_DISK:
                r = check_disk(c, what, out, err);
                break;
        }
        if (r < 0)
                return cc_wrap(err, "%s", kinds[what->kind].attach);
        *ret = list;
        list = (struct hv_attachments){ 0 };
        return 0;
}

/* ---- to the driver ---- */

static int enter(struct engine *e, const char *id, enum hv_attach_kind kind, const char *verb,
                 struct vm_live *ret, struct cc_err *err)
{
        int r = vm_live_open(e, id, verb, ret, err);

        if (r == 0)
                r = hv_require_plug(ret->drv, kinds[kind].cap, ret->vm.config.pci, verb, verb, err);
        return r < 0 ? r : vm_live_check(ret, err);
}

/* After the gate, so that a stopped VM reports its state first. */
static int check_sysfs(const struct hv_attachment *what, struct cc_err *err)
{
        CC_FREE char *path = xasprintf(PCI_DEVICES "%s", what->bdf);
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                return 0;
        return cc_fail(err, CC_NOT_FOUND, "no PCI device at %s", path);
}

static void hint(const struct hv_driver *drv, enum hv_plug_event event, struct cc_strv *ret)
{
        if (drv->guest_hint)
                cc_strv_take(ret, drv->guest_hint(event, 0));
}

int vm_attach(struct engine *e, const char *id, const struct hv_attachment *what, char **ret_id,
              struct cc_strv *ret_hints, struct cc_err *err)
{
        VM_LIVE struct vm_live l = VM_LIVE_INIT;
        const char *verb = kinds[what->kind].attach;
        int r = enter(e, id, what->kind, verb, &l, err);

        if (r < 0)
                return r;
        if (what->kind == HV_ATTACH_DEVICE)
                r = check_sysfs(what, err);
        if (r == 0)
                r = l.drv->attach(&l.env, l.vm.run_dir, what, ret_id, err);
        if (r < 0)
                return cc_wrap(err, "%s", verb);
        hint(l.drv, HV_PLUGGED, ret_hints);
        return 0;
}

int vm_detach(struct engine *e, const char *id, enum hv_attach_kind kind, const char *key,
              struct cc_strv *ret_hints, struct cc_err *err)
{
        VM_LIVE struct vm_live l = VM_LIVE_INIT;
        const char *verb = kinds[kind].detach;
        int r = enter(e, id, kind, verb, &l, err);

        if (r < 0)
                return r;
        r = l.drv->detach(&l.env, l.vm.run_dir, kind, key, err);
        if (r < 0)
                return cc_wrap(err, "%s", verb);
        hint(l.drv, HV_DISK_PULLED, ret_hints);
        return 0;
}

int vm_attachments(const struct config *c, const struct vm_record *vm, struct hv_attachments *ret,
                   struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        const struct hv_driver *drv;
        struct hv_env env;

        if (!vm_in_state(vm, VM_RUNNING) || hv_driver_find(vm->hypervisor, &drv, NULL) < 0 ||
            !drv->attachments || vm_find_live(drv, vm, &proc) < 0)
                return 0;
        vm_hv_env(c, drv, &env);
        return drv->attachments(&env, vm->run_dir, ret, err);
}
