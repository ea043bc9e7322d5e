/* The life of a VM, as vmm.h says: the API's actions but snapshot and restore. */
#include "vmm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

#include "backend.h"
#include "helper.h"
#include "base/alloc.h"
#include "base/json.h"
#include "base/timeutil.h"
#include "model.h"
#include "validate.h"

static const char *const state_names[] = { "Created", "Running", "Shutdown", "Paused" };

static const char *str(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static int not_running(struct ch_error *e)
{
        return ch_fail(e, CH_OTHER, "VM is not running");
}

static int not_created(struct ch_error *e)
{
        return ch_fail(e, CH_NOT_CREATED, "VM is not created");
}

static int already_created(struct ch_error *e)
{
        return ch_fail(e, CH_OTHER, "VM is already created");
}

/* ---- consoles ----------------------------------------------------------------------------- */

static void on_input(void *ctx, const char *data, size_t n)
{
        struct ch_vmm *vmm = ctx;

        dbl_guest_input(vmm->guest, data, n);
}

static int open_file(const char *path, struct ch_error *e)
{
        CC_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

        return fd < 0 ? ch_fail_errno(e, errno) : 0;
}

static int open_socket(struct ch_vmm *vmm, const char *path, struct dbl_console **ret,
                       struct ch_error *e)
{
        struct cc_err err = CC_ERR_INIT;

        if (dbl_console_socket(vmm->loop, path, vmm->dialect.release >= 53, on_input, vmm, ret,
                               &err) == 0)
                return 0;
        return err.sys ? ch_fail_errno(e, err.sys) : ch_fail(e, CH_OTHER, "%s", err.msg);
}

static int open_one(struct ch_vmm *vmm, const char *name, struct dbl_console **ret,
                    struct ch_error *e)
{
        json_t *config = json_object_get(vmm->config, name);
        const char *mode = str(config, "mode");
        struct cc_err err = CC_ERR_INIT;
        int r = 0;

        if (cc_streq(mode, "Pty")) {
                r = dbl_console_pty(vmm->loop, on_input, vmm, ret, &err);
                if (r < 0)
                        ch_fail_errno(e, err.sys);
                else
                        json_object_set_new(config, "file", json_string(dbl_console_path(*ret)));
        } else if (cc_streq(mode, "Tty")) {
                dbl_console_fds(vmm->loop, isatty(STDIN_FILENO) ? STDIN_FILENO : -1, STDOUT_FILENO,
                                on_input, vmm, ret);
        } else if (cc_streq(mode, "File") && str(config, "file")) {
                r = open_file(str(config, "file"), e);
        } else if (cc_streq(mode, "Socket") && cc_streq(name, "console")) {
                return ch_fail(e, CH_OTHER, "No socket option support for console device");
        } else if (cc_streq(mode, "Socket")) {
                r = open_socket(vmm, str(config, "socket") ? str(config, "socket") : "", ret, e);
        }
        return r < 0 ? ch_wrap(e, "Error creating console device") : 0;
}

int ch_consoles_open(struct ch_vmm *vmm, struct ch_error *e)
{
        struct dbl_console *console = NULL, *serial = NULL;

        if (open_one(vmm, "console", &console, e) < 0 || open_one(vmm, "serial", &serial, e) < 0) {
                dbl_console_free(console);
                return ch_wrap(e, "Error creating console devices");
        }
        ch_consoles_close(vmm);
        vmm->console = console;
        vmm->serial = serial;
        vmm->helper = console ? ch_helper_start() : -1;
        vmm->consoles = true;
        vmm->has_console = !cc_streq(str(json_object_get(vmm->config, "console"), "mode"), "Off");
        return 0;
}

void ch_consoles_close(struct ch_vmm *vmm)
{
        dbl_console_free(vmm->console);
        dbl_console_free(vmm->serial);
        vmm->console = vmm->serial = NULL;
        if (vmm->helper >= 0)
                close(vmm->helper);
        vmm->helper = -1;
        vmm->consoles = false;
}

/* ---- the guest ---------------------------------------------------------------------------- */

static void guest_output(void *ctx, const char *data, size_t n)
{
        struct ch_vmm *vmm = ctx;

        dbl_console_write(vmm->console ? vmm->console : vmm->serial, data, n);
}

/* Files that the guest keeps on its disk lie in the last 64 KiB of its first writable raw one. */
enum { DISK_FILES = 1 << 16 };

static int disk_fd(struct ch_vmm *vmm, off_t *ret_at)
{
        for (size_t i = 0; i < vmm->devices.n; i++) {
                const struct ch_device *dev = vmm->devices.v[i];
                int fd;

                if (dev->kind != CH_DEV_DISK ||
                    json_is_true(json_object_get(dev->config, "readonly")) ||
                    !cc_streq(str(dev->config, "image_type"), "Raw"))
                        continue;
                /* Through a descriptor of its own, which knows nothing of O_DIRECT; the lock is of
                 * the open file, so closing this one does not release it. */
                fd = open(str(dev->config, "path"), O_RDWR | O_CLOEXEC);
                *ret_at = lseek(fd, 0, SEEK_END) - DISK_FILES;
                if (fd >= 0 && *ret_at < DISK_FILES) {
                        close(fd);
                        fd = -1;
                }
                return fd;
        }
        return -1;
}

static json_t *guest_disk_load(void *ctx)
{
        CC_FREE char *text = xcalloc(1, DISK_FILES + 1);
        off_t at;
        CC_CLOSE int fd = disk_fd(ctx, &at);

        if (fd < 0 || pread(fd, text, DISK_FILES, at) <= 0 || *text != '{')
                return NULL;
        return json_loads(text, 0, NULL);
}

static void guest_disk_store(void *ctx, json_t *files)
{
        CC_FREE char *text = xcalloc(1, DISK_FILES);
        CC_FREE char *json = cc_json_compact(files);
        off_t at;
        CC_CLOSE int fd = disk_fd(ctx, &at);

        if (fd < 0 || strlen(json) >= DISK_FILES)
                return;
        memcpy(text, json, strlen(json));
        (void)!pwrite(fd, text, DISK_FILES, at);
}

static const struct dbl_guest_host guest_host = {
        .output = guest_output,
        .power = ch_guest_power,
        .disk_load = guest_disk_load,
        .disk_store = guest_disk_store,
};

void ch_guest_boot(struct ch_vmm *vmm)
{
        const char *cmdline = str(json_object_get(vmm->config, "payload"), "cmdline");
        const json_t *cpus = json_object_get(vmm->config, "cpus");
        CC_FREE const char **macs = xcalloc(vmm->devices.n + 1, sizeof(*macs));
        struct dbl_guest_machine m = { .cmdline = cmdline ? cmdline : "",
                                       .cpus = (int)json_integer_value(
                                               json_object_get(cpus, "boot_vcpus")),
                                       .macs = macs };

        for (size_t i = 0; i < vmm->devices.n; i++) {
                const struct ch_device *dev = vmm->devices.v[i];

                m.disks += dev->kind == CH_DEV_DISK;
                if (dev->kind == CH_DEV_NET)
                        macs[m.n_nics++] = str(dev->config, "mac");
        }
        dbl_guest_boot(vmm->guest, &m);
}

void ch_guest_power(void *ctx, enum dbl_power what)
{
        struct ch_vmm *vmm = ctx;
        CH_ERROR struct ch_error e = { 0 };
        int r = 0;

        if (what == DBL_POWER_REBOOT)
                r = ch_vm_reboot(vmm, &e);
        else if (vmm->no_shutdown)
                r = ch_vm_shutdown(vmm, &e);
        else
                dbl_loop_exit(vmm->loop, 0);
        if (r < 0) {
                ch_wrap(&e, "VMM thread exited with error");
                ch_error_print(&e);
                dbl_loop_exit(vmm->loop, 1);
        }
}

/* ---- lifecycle ---------------------------------------------------------------------------- */

void ch_vmm_init(struct ch_vmm *vmm, struct dbl_loop *loop, struct dbl_journal *journal,
                 const struct dbl_settings *settings)
{
        const char *profile = dbl_setting(settings, "PROFILE");
        long long release = 53;

        if (cc_streq(profile, "next"))
                release = 54;
        else if (profile)
                (void)cc_parse_i64(profile, &release);
        *vmm = (struct ch_vmm){
                .loop = loop, .journal = journal, .settings = settings, .balloon = -1, .helper = -1
        };
        vmm->dialect.release = (int)release;
        vmm->dialect.strict = !dbl_setting_bool(settings, "LENIENT", false);
        vmm->guest = dbl_guest_new(loop, journal, settings, &guest_host, vmm);
}

void ch_vm_drop(struct ch_vmm *vmm)
{
        dbl_guest_off(vmm->guest);
        ch_devices_drop(vmm);
        ch_consoles_close(vmm);
        vmm->owned = false;
        vmm->state = CH_CREATED;
        vmm->balloon = -1;
}

void ch_vmm_free(struct ch_vmm *vmm)
{
        ch_vm_drop(vmm);
        json_decref(vmm->config);
        dbl_guest_free(vmm->guest);
}

int ch_vmm_panic(struct ch_vmm *vmm, struct ch_error *e)
{
        vmm->dying = true;
        vmm->status = 1;
        ch_fail(e, CH_CLOSED, "receiving on a closed channel");
        return ch_wrap(e, "API response receive error");
}

int ch_vm_create(struct ch_vmm *vmm, const json_t *config, struct ch_error *e)
{
        if (vmm->config)
                return already_created(e);
        vmm->config = json_deep_copy(config);
        return ch_consoles_open(vmm, e);
}

int ch_vm_delete(struct ch_vmm *vmm, struct ch_error *e)
{
        (void)e;
        /* Consoles of a VM that was never booted stay open, for the next one to replace. */
        if (vmm->owned)
                ch_vm_drop(vmm);
        json_decref(vmm->config);
        vmm->config = NULL;
        return 0;
}

static int validate(json_t *config, struct ch_error *e)
{
        return ch_validate(config, e) < 0 ? ch_wrap(e, "Failed to validate config") : 0;
}

int ch_vm_boot(struct ch_vmm *vmm, struct ch_error *e)
{
        const json_t *payload;

        if (vmm->owned)
                return already_created(e);
        if (!vmm->config)
                return ch_fail(e, CH_NOT_CREATED, "VM config is missing");
        payload = json_object_get(vmm->config, "payload");
        if ((!vmm->consoles && ch_consoles_open(vmm, e) < 0) || validate(vmm->config, e) < 0 ||
            ch_devices_make(vmm, NULL, e) < 0)
                return -1;
        if (ch_check_initramfs(payload, e) < 0) {
                ch_devices_drop(vmm);
                return -1;
        }
        /* From here on there is a VM, even if it does not start. */
        vmm->owned = true;
        vmm->state = CH_CREATED;
        if (ch_devices_lock(vmm, e) < 0 || ch_check_kernel(payload, e) < 0)
                return -1;
        vmm->state = CH_RUNNING;
        ch_guest_boot(vmm);
        return 0;
}

int ch_vm_shutdown(struct ch_vmm *vmm, struct ch_error *e)
{
        if (!vmm->owned)
                return not_running(e);
        ch_vm_drop(vmm);
        return 0;
}

int ch_vm_reboot(struct ch_vmm *vmm, struct ch_error *e)
{
        struct dbl_console *old = vmm->console;
        int r;

        if (!vmm->owned)
                return not_created(e);
        /* The old PTY outlives the making of the new one, which therefore has another name. */
        vmm->console = NULL;
        ch_vm_drop(vmm);
        r = ch_vm_boot(vmm, e);
        dbl_console_free(old);
        return r;
}

static int bad_transition(const struct ch_vmm *vmm, enum ch_state to, const char *verb,
                          struct ch_error *e)
{
        ch_fail(e, CH_OTHER, "Invalid transition: InvalidStateTransition(%s, %s)",
                state_names[vmm->state], state_names[to]);
        ch_wrap(e, "Failed to %s migratable component", verb);
        return ch_wrap(e, "Cannot %s VM", verb);
}

static bool dies_pending(const struct ch_vmm *vmm)
{
        return ch_devices_pending(vmm) &&
               cc_streq(dbl_setting(vmm->settings, "PENDING_PAUSE"), "die");
}

int ch_vm_pause(struct ch_vmm *vmm, struct ch_error *e)
{
        if (!vmm->owned)
                return not_running(e);
        if (vmm->state == CH_PAUSED)
                return bad_transition(vmm, CH_PAUSED, "pause", e);
        if (dies_pending(vmm))
                return ch_vmm_panic(vmm, e);
        vmm->state = CH_PAUSED;
        dbl_guest_pause(vmm->guest);
        ch_devices_pause(vmm);
        return 0;
}

int ch_vm_resume(struct ch_vmm *vmm, struct ch_error *e)
{
        if (!vmm->owned)
                return not_running(e);
        if (vmm->state == CH_RUNNING)
                return bad_transition(vmm, CH_RUNNING, "resume", e);
        vmm->state = CH_RUNNING;
        dbl_guest_resume(vmm->guest);
        ch_devices_resume(vmm);
        return 0;
}

int ch_vm_power_button(struct ch_vmm *vmm, struct ch_error *e)
{
        if (!vmm->owned)
                return not_running(e);
        dbl_guest_power_button(vmm->guest);
        return 0;
}

/* A guest that is up has inflated its balloon, unless a test said otherwise. */
static json_int_t ballooned(const struct ch_vmm *vmm)
{
        const json_t *balloon = json_object_get(vmm->config, "balloon");

        if (vmm->balloon >= 0)
                return vmm->balloon;
        return dbl_guest_booted(vmm->guest) ? json_integer_value(json_object_get(balloon, "size"))
                                            : 0;
}

int ch_vm_info(const struct ch_vmm *vmm, json_t **ret, struct ch_error *e)
{
        const json_t *memory = json_object_get(vmm->config, "memory");
        json_int_t size = json_integer_value(json_object_get(memory, "size"));

        if (!vmm->config)
                return not_created(e);
        *ret = json_pack("{s:o, s:s, s:I}", "config",
                         ch_write(&vmm->dialect, &ch_vm_config, vmm->config), "state",
                         state_names[vmm->owned ? vmm->state : CH_CREATED], "memory_actual_size",
                         size - ballooned(vmm));
        if (vmm->owned)
                json_object_set_new(*ret, "device_tree", ch_devices_tree(vmm));
        else if (vmm->dialect.release < 53)
                json_object_set_new(*ret, "device_tree", json_null());
        return 0;
}

int ch_vm_resize(struct ch_vmm *vmm, const json_t *request, struct ch_error *e)
{
        const json_t *want = json_object_get(request, "desired_balloon");
        json_t *balloon = json_object_get(vmm->config, "balloon");

        if (!vmm->config)
                return not_created(e);
        if (!want)
                return 0;
        if (!balloon) {
                ch_fail(e, CH_OTHER, "Missing virtio-balloon, can't proceed as expected");
                return ch_wrap(e, "Error from device manager");
        }
        json_object_set(balloon, "size", (json_t *)want);
        return 0;
}

/* ---- devices ------------------------------------------------------------------------------ */

static const char *const members[] = {
        [CH_DEV_DISK] = "disks",  [CH_DEV_NET] = "net",      [CH_DEV_FS] = "fs",
        [CH_DEV_VSOCK] = "vsock", [CH_DEV_VFIO] = "devices",
};

static void add_to(json_t *config, enum ch_device_kind kind, json_t *device)
{
        json_t *list = json_object_get(config, members[kind]);

        if (kind == CH_DEV_VSOCK) {
                json_object_set(config, members[kind], device);
                return;
        }
        if (!list) {
                list = json_array();
                json_object_set_new(config, members[kind], list);
        }
        json_array_append(list, device);
}

int ch_vm_add(struct ch_vmm *vmm, enum ch_device_kind kind, const json_t *device, json_t **ret,
              struct ch_error *e)
{
        CC_JSON json_t *trial = NULL;
        CC_JSON json_t *own = json_deep_copy(device);
        CC_FREE char *bdf = NULL;
        struct ch_device *dev;

        if (!vmm->config)
                return not_created(e);
        if (kind == CH_DEV_VSOCK && json_object_get(vmm->config, "vsock"))
                return ch_fail(e, CH_OTHER, "Too many virtio-vsock devices");
        trial = json_deep_copy(vmm->config);
        add_to(trial, kind, own);
        if (validate(trial, e) < 0)
                return -1;
        if (!vmm->owned) {
                add_to(vmm->config, kind, own);
                return 0;
        }
        if (ch_device_plug(vmm, kind, own, &dev, e) < 0)
                return -1;
        add_to(vmm->config, kind, own);
        bdf = ch_device_bdf(dev);
        *ret = json_pack("{s:s, s:s}", "id", dev->id, "bdf", bdf);
        return 0;
}

/* Take a device out of the configuration; false if it is not there. */
static bool forget(json_t *config, const char *id)
{
        json_t *item;
        size_t k;

        for (size_t i = 0; i < CC_ARRAY_LEN(members); i++) {
                json_t *list = members[i] ? json_object_get(config, members[i]) : NULL;

                if (json_is_object(list) && cc_streq(str(list, "id"), id)) {
                        json_object_del(config, members[i]);
                        return true;
                }
                json_array_foreach (list, k, item) {
                        if (cc_streq(str(item, "id"), id)) {
                                json_array_remove(list, k);
                                return true;
                        }
                }
        }
        return false;
}

static int unknown_device(const char *id, struct ch_error *e)
{
        ch_fail(e, CH_UNKNOWN_DEVICE,
                "Failed to find device corresponding to the given identifier: %s", id);
        return ch_wrap(e, "Error from device manager");
}

int ch_vm_remove(struct ch_vmm *vmm, const json_t *request, struct ch_error *e)
{
        static const char *const fixed[] = { [CH_DEV_CONSOLE] = "console",
                                             [CH_DEV_RNG] = "rng",
                                             [CH_DEV_BALLOON] = "balloon",
                                             [CH_DEV_WATCHDOG] = "watchdog",
                                             [CH_DEV_RTC] = "rtc" };
        const char *id = str(request, "id");
        struct ch_device *dev = ch_device_find(vmm, id);

        if (!vmm->config)
                return not_created(e);
        if (!vmm->owned)
                return forget(vmm->config, id) ? 0
                                               : ch_fail(e, CH_UNKNOWN_DEVICE,
                                                         "No device with id \"%s\" to remove", id);
        if (!dev)
                return unknown_device(id, e);
        if (dev->kind < CC_ARRAY_LEN(fixed) && fixed[dev->kind]) {
                ch_fail(e, CH_OTHER, "Not allowed to remove this type of device from the VM: %s",
                        fixed[dev->kind]);
                return ch_wrap(e, "Error from device manager");
        }
        if (!forget(vmm->config, id))
                return dev->pending && vmm->dialect.release < 53 ? ch_vmm_panic(vmm, e)
                                                                 : unknown_device(id, e);
        ch_device_unplug(dev);
        return 0;
}
