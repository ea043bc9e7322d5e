/*
 * vm.snapshot and vm.restore. A snapshot is the directory the real VMM writes: config.json,
 * state.json and memory-ranges of the guest's size, sparse. The guest's memory holds the fake
 * guest; the state holds what the devices were, so that a configuration that was changed where it
 * must not be is refused, and 64-bit numbers inside of embedded JSON, so that a rewrite that loses
 * precision is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/timeutil.h"
#include "model.h"
#include "validate.h"
#include "vmm.h"

enum { GUEST_AT = 4096, GUEST_MAX = 1 << 20, FILE_MAX = 1 << 24 };

static const char guest_magic[8] = { 'd', 'b', 'l', 'g', 'u', 'e', 's', 't' };

static const char *str(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static json_int_t memory_size(const json_t *config)
{
        return json_integer_value(json_object_get(json_object_get(config, "memory"), "size"));
}

/* The directory of a file:// URL. */
static int url_path(const char *url, const char **ret, struct ch_error *e)
{
        struct stat st;

        if (!cc_startswith(url, "file://")) {
                ch_fail(e, CH_OTHER, "Could not extract path from URL: %s", url);
        } else if (stat(url + 7, &st) < 0 || !S_ISDIR(st.st_mode)) {
                ch_fail(e, CH_OTHER, "Destination is not a directory: \"%s\"", url + 7);
        } else {
                *ret = url + 7;
                return 0;
        }
        return ch_wrap(e, "Failed to send migratable component snapshot");
}

static char *checksum(const char *text)
{
        uint64_t h = 14695981039346656037U;

        for (; *text; text++)
                h = (h ^ (unsigned char)*text) * 1099511628211U;
        return xasprintf("%016llx", (unsigned long long)h);
}

/* ---- writing ------------------------------------------------------------------------------ */

/* A file that must not exist yet. */
static int create(const char *dir, const char *name, const char *what, int *ret, struct ch_error *e)
{
        CC_FREE char *path = cc_path_join(dir, name);

        *ret = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*ret >= 0)
                return 0;
        ch_fail_errno(e, errno);
        ch_wrap(e, "Error creating %s", what);
        return ch_wrap(e, "Failed to send migratable component snapshot");
}

static int write_text(const char *dir, const char *name, const char *what, const char *text,
                      struct ch_error *e)
{
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int fd = -1;

        if (create(dir, name, what, &fd, e) < 0)
                return -1;
        if (cc_write_all(fd, text, strlen(text), &err) == 0)
                return 0;
        ch_fail_errno(e, err.sys);
        return ch_wrap(e, "Failed to send migratable component snapshot");
}

/* Numbers no double can hold stand beside the devices, in a string as the real state is. */
static char *state_text(const struct ch_vmm *vmm)
{
        CC_JSON json_t *devices =
                json_pack("{s:i, s:i, s:o}", "release", vmm->dialect.release, "next_id",
                          (int)vmm->devices.next_id, "devices", ch_devices_save(vmm));
        CC_FREE char *inner = cc_json_compact(devices);
        CC_FREE char *sum = NULL;
        CC_JSON json_t *state = NULL;

        sum = checksum(inner);
        state = json_pack("{s:{s:s}, s:{s:{s:s}}, s:s}", "snapshot_data", "state",
                          "{\"clock\":{\"clock\":18446744073709551615,\"flags\":9007199254740993}}",
                          "snapshots", "device-manager", "state", inner, "check", sum);
        return cc_json_compact(state);
}

static int write_memory(struct ch_vmm *vmm, const char *dir, struct ch_error *e)
{
        CC_JSON json_t *guest = dbl_guest_save(vmm->guest);
        CC_FREE char *text = cc_json_compact(guest);
        CC_CLOSE int fd = -1;

        if (create(dir, "memory-ranges", "memory ranges file", &fd, e) < 0)
                return -1;
        if (ftruncate(fd, memory_size(vmm->config)) == 0 &&
            pwrite(fd, guest_magic, sizeof(guest_magic), GUEST_AT) == sizeof(guest_magic) &&
            pwrite(fd, text, strlen(text) + 1, GUEST_AT + sizeof(guest_magic)) > 0)
                return 0;
        ch_fail_errno(e, errno);
        return ch_wrap(e, "Failed to send migratable component snapshot");
}

static int send_snapshot(struct ch_vmm *vmm, const char *url, struct ch_error *e)
{
        CC_JSON json_t *config = ch_write(&vmm->dialect, &ch_vm_config, vmm->config);
        CC_FREE char *config_text = cc_json_compact(config);
        CC_FREE char *state = state_text(vmm);
        const char *dir;

        if (url_path(url, &dir, e) < 0)
                return -1;
        if (write_text(dir, "config.json", "VM config snapshot file", config_text, e) < 0 ||
            write_text(dir, "state.json", "VM state snapshot file", state, e) < 0)
                return -1;
        return write_memory(vmm, dir, e);
}

int ch_vm_snapshot(struct ch_vmm *vmm, const json_t *request, struct ch_error *e)
{
        if (!vmm->owned)
                return ch_fail(e, CH_OTHER, "VM is not running");
        if (vmm->dialect.release >= 53 && cc_monotonic() < vmm->prefault_until)
                return ch_fail(e, CH_OTHER, "VM on-demand memory restore is still in progress");
        if (vmm->state != CH_PAUSED) {
                ch_fail(e, CH_OTHER, "Trying to snapshot while VM is running");
                ch_wrap(e, "Failed to snapshot migratable component");
                return ch_wrap(e, "Cannot snapshot VM");
        }
        if (ch_devices_pending(vmm) && cc_streq(dbl_setting(vmm->settings, "PENDING_PAUSE"), "die"))
                return ch_vmm_panic(vmm, e);
        return send_snapshot(vmm, str(request, "destination_url"), e) < 0
                       ? ch_wrap(e, "Cannot send VM snapshot")
                       : 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

static int received(struct ch_error *e)
{
        ch_wrap(e, "Failed to receive migratable component snapshot");
        return ch_wrap(e, "Cannot restore VM");
}

static int refused(struct ch_error *e)
{
        ch_wrap(e, "Failed to restore migratable component");
        return ch_wrap(e, "Cannot restore VM");
}

static int read_json(const char *dir, const char *name, const char *what, json_t **ret,
                     struct ch_error *e)
{
        CC_FREE char *path = cc_path_join(dir, name);
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        size_t len;

        if (cc_read_file(path, FILE_MAX, &text, &len, &err) < 0) {
                ch_fail_errno(e, err.sys);
                ch_wrap(e, "Error opening %s snapshot file \"%s\"", what, path);
                return received(e);
        }
        if (cc_json_parse(text, len, path, ret, &err) == 0)
                return 0;
        ch_fail(e, CH_OTHER, "%s", err.msg);
        ch_wrap(e, "Error deserialising %s snapshot", what);
        return received(e);
}

static int read_config(struct ch_vmm *vmm, const char *dir, json_t **ret, struct ch_error *e)
{
        CC_JSON json_t *raw = NULL;
        CC_FREE char *why = NULL;

        if (read_json(dir, "config.json", "VM config", &raw, e) < 0)
                return -1;
        if (ch_read(&vmm->dialect, &ch_vm_config, raw, ret, &why) == 0)
                return 0;
        ch_fail(e, CH_OTHER, "%s", why);
        ch_wrap(e, "Error deserialising VM config snapshot");
        return received(e);
}

static int read_state(struct ch_vmm *vmm, const char *dir, json_t **ret, struct ch_error *e)
{
        CC_JSON json_t *raw = NULL;
        const char *inner, *check, *clock;
        CC_FREE char *sum = NULL;
        struct cc_err err = CC_ERR_INIT;

        if (read_json(dir, "state.json", "VM state", &raw, e) < 0)
                return -1;
        inner = str(json_object_get(json_object_get(raw, "snapshots"), "device-manager"), "state");
        clock = str(json_object_get(raw, "snapshot_data"), "state");
        check = str(raw, "check");
        sum = checksum(inner ? inner : "");
        if (!inner || !clock || !cc_streq(check, sum) || !strstr(clock, "18446744073709551615") ||
            !strstr(clock, "9007199254740993") ||
            cc_json_parse(inner, strlen(inner), "state", ret, &err) < 0) {
                ch_fail(e, CH_OTHER, "double: state.json is not what the snapshot wrote");
                ch_wrap(e, "Error deserialising VM state snapshot");
                return received(e);
        }
        if (json_integer_value(json_object_get(*ret, "release")) != vmm->dialect.release) {
                json_decref(*ret);
                *ret = NULL;
                ch_fail(e, CH_OTHER, "double: the snapshot is of another release");
                return refused(e);
        }
        return 0;
}

static int read_memory(const char *dir, json_int_t size, json_t **ret, struct ch_error *e)
{
        CC_FREE char *path = cc_path_join(dir, "memory-ranges");
        CC_FREE char *text = xcalloc(1, GUEST_MAX + 1);
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0) {
                ch_fail_errno(e, errno);
                return refused(e);
        }
        if (st.st_size != size) {
                ch_fail(e, CH_OTHER, "double: memory-ranges has %lld bytes, the guest %lld",
                        (long long)st.st_size, (long long)size);
                return refused(e);
        }
        if (pread(fd, text, GUEST_MAX, GUEST_AT) > (ssize_t)sizeof(guest_magic) &&
            memcmp(text, guest_magic, sizeof(guest_magic)) == 0)
                *ret = json_loads(text + sizeof(guest_magic), 0, NULL);
        if (*ret)
                return 0;
        ch_fail(e, CH_OTHER, "double: memory-ranges holds no guest");
        return refused(e);
}

/* The part that leaves a configuration, and maybe more, behind when it fails. */
static int load(struct ch_vmm *vmm, const char *dir, struct ch_error *e)
{
        CC_JSON json_t *state = NULL, *guest = NULL;
        struct cc_err err = CC_ERR_INIT;

        if (read_state(vmm, dir, &state, e) < 0 || ch_consoles_open(vmm, e) < 0)
                return -1;
        if (ch_validate(vmm->config, e) < 0)
                return ch_wrap(e, "Failed to validate config");
        if (ch_devices_make(vmm, json_object_get(state, "devices"), e) < 0 ||
            read_memory(dir, memory_size(vmm->config), &guest, e) < 0 ||
            ch_devices_lock(vmm, e) < 0)
                return -1;
        if (dbl_guest_load(vmm->guest, guest, &err) < 0) {
                ch_fail(e, CH_OTHER, "%s", err.msg);
                return refused(e);
        }
        vmm->devices.next_id = (unsigned)json_integer_value(json_object_get(state, "next_id"));
        vmm->owned = true;
        vmm->state = CH_PAUSED;
        return 0;
}

int ch_vm_restore(struct ch_vmm *vmm, const json_t *request, struct ch_error *e)
{
        bool on_demand = cc_streq(str(request, "memory_restore_mode"), "OnDemand");
        CC_JSON json_t *config = NULL;
        const char *dir;
        int r;

        if (vmm->owned || vmm->config)
                return ch_fail(e, CH_OTHER, "VM is already created");
        if (url_path(str(request, "source_url"), &dir, e) < 0)
                return ch_wrap(e, "Cannot restore VM");
        if (read_config(vmm, dir, &config, e) < 0)
                return -1;
        if (on_demand && json_is_true(json_object_get(request, "prefault"))) {
                ch_fail(e, CH_BAD_CONFIG,
                        "'prefault' cannot be combined with 'memory_restore_mode=ondemand'");
                return ch_wrap(e, "Failed to validate config");
        }
        vmm->config = json_incref(config);
        r = load(vmm, dir, e);
        if (r == 0 && on_demand)
                vmm->prefault_until =
                        cc_monotonic() +
                        dbl_setting_int(vmm->settings, "PREFAULT_MS", 0) * CC_NSEC_PER_MSEC;
        if (r == 0 && json_is_true(json_object_get(request, "resume")))
                r = ch_vm_resume(vmm, e);
        if (r < 0) {
                ch_vm_drop(vmm);
                (void)ch_vm_delete(vmm, NULL);
        }
        return r;
}
