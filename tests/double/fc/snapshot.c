/*
 * Snapshots: /snapshot/create writes the devices into vmstate and the guest into the memory file,
 * /snapshot/load opens again what vmstate names. The paths in there are what decides which files a
 * loaded machine writes to, so they are taken as they are: overrides exist for TAPs and the vsock
 * only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "common/vsock.h"
#include "serial.h"
#include "vm.h"
#include "vmstate.h"

#define CREATE "Create snapshot error: "
#define LOAD   "Load snapshot error: "
#define STATE  "Failed to get snapshot state from file: "
#define BUILD  "Failed to build microVM from snapshot: "

enum { NONCE_LEN = 32, GUEST_OFFSET = 4096 };

/* What guest memory holds behind the nonce in its first page. */
struct guest_header {
        char nonce[NONCE_LEN];
        uint64_t len; /* of the JSON at GUEST_OFFSET */
};

static const char *text_of(const json_t *body, const char *key)
{
        return json_string_value(json_object_get(body, key));
}

static uint64_t memory_size(const struct fcd_vm *vm)
{
        return (uint64_t)json_integer_value(json_object_get(vm->machine, "mem_size_mib")) << 20;
}

/* ---- create ------------------------------------------------------------------------------- */

static json_t *configs(const struct fcd_devices *d)
{
        json_t *all = json_array();

        for (size_t i = 0; i < d->n; i++)
                (void)json_array_append(all, d->v[i].config);
        return all;
}

static json_t *state_of(const struct fcd_vm *vm)
{
        json_t *state = json_pack("{s:O, s:o, s:o, s:b, s:s}", "machine", vm->machine, "drives",
                                  configs(&vm->drives), "nics", configs(&vm->nics), "pci",
                                  (int)vm->pci, "nonce", vm->nonce);

        if (vm->boot)
                (void)json_object_set(state, "boot", vm->boot);
        if (vm->vsock)
                (void)json_object_set(state, "vsock", vm->vsock);
        if (vm->balloon)
                (void)json_object_set(state, "balloon", vm->balloon);
        if (vm->entropy)
                (void)json_object_set(state, "entropy", vm->entropy);
        return state;
}

/* Writing into a file that others read or that is our own memory damages them. */
static void check_target(struct fcd_vm *vm, const char *path)
{
        struct stat st;
        struct stat own;

        if (stat(path, &st) < 0)
                return;
        if (st.st_nlink > 1)
                fcd_violation(vm, "snapshot into %s, which has another name", path);
        if (vm->mem_fd >= 0 && fstat(vm->mem_fd, &own) == 0 && own.st_dev == st.st_dev &&
            own.st_ino == st.st_ino)
                fcd_violation(vm, "snapshot into %s, which this machine's memory is mapped from",
                              path);
}

static int memory_fault(struct cc_buf *fault, const char *what)
{
        cc_buf_printf(fault, "Cannot perform %s on the memory backing file: %s", what,
                      fcd_os_error(errno));
        return -1;
}

static int write_memory(const struct fcd_vm *vm, const char *path, struct cc_buf *fault)
{
        CC_JSON json_t *guest = dbl_guest_save(vm->guest);
        CC_FREE char *json = json_dumps(guest, JSON_COMPACT);
        struct guest_header h = { .len = strlen(json) };
        uint64_t size = memory_size(vm);
        CC_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        struct stat st;

        if (fd < 0)
                return memory_fault(fault, "open");
        if (fstat(fd, &st) < 0 || ((uint64_t)st.st_size != size && ftruncate(fd, 0) < 0))
                return memory_fault(fault, "truncate");
        if (ftruncate(fd, (off_t)size) < 0)
                return memory_fault(fault, "set_length");
        memcpy(h.nonce, vm->nonce, NONCE_LEN);
        if (pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
            pwrite(fd, json, h.len, GUEST_OFFSET) != (ssize_t)h.len) {
                cc_buf_printf(fault, "Cannot write memory file: Cannot dump memory: %s",
                              fcd_os_error(errno));
                return -1;
        }
        return 0;
}

void fcd_snapshot_save(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        CC_JSON json_t *state = NULL;
        CC_BUF struct cc_buf fault = { 0 };

        if (vm->state == FCD_RUNNING) {
                fcd_fault(reply, CREATE "Cannot save the microVM state: Operation not allowed: "
                                        "save/restore unavailable while running");
                return;
        }
        if (cc_streq(text_of(body, "snapshot_type"), "Diff"))
                fcd_violation(vm, "diff snapshots are not for cocoon");
        check_target(vm, text_of(body, "snapshot_path"));
        check_target(vm, text_of(body, "mem_file_path"));
        state = state_of(vm);
        if (fcd_vmstate_write(text_of(body, "snapshot_path"), vm->minor, state, &fault) < 0 ||
            write_memory(vm, text_of(body, "mem_file_path"), &fault) < 0) {
                fcd_fault(reply, CREATE "%s", fault.data);
                return;
        }
        fcd_ok(reply);
}

/* ---- load --------------------------------------------------------------------------------- */

static int override_nics(const json_t *overrides, const json_t *state, struct cc_buf *fault)
{
        const json_t *entry;
        size_t i;

        json_array_foreach (overrides, i, entry) {
                json_t *nic;
                json_t *found = NULL;
                size_t k;

                json_array_foreach (json_object_get(state, "nics"), k, nic) {
                        if (!found &&
                            cc_streq(text_of(nic, "iface_id"), text_of(entry, "iface_id")))
                                found = nic;
                }
                if (!found) {
                        cc_buf_str(fault, STATE "Unknown Network Device.");
                        return -1;
                }
                (void)json_object_set(found, "host_dev_name",
                                      json_object_get(entry, "host_dev_name"));
        }
        return 0;
}

static int override_vsock(const json_t *override, const json_t *state, struct cc_buf *fault)
{
        json_t *vsock = json_object_get(state, "vsock");

        if (!override || json_is_null(override))
                return 0;
        if (!vsock) {
                cc_buf_str(fault, STATE "Unknown Vsock Device.");
                return -1;
        }
        return json_object_set(vsock, "uds_path", json_object_get(override, "uds_path"));
}

/* A page fault handler behind a socket is not for cocoon: refused also where it listens. */
static int load_from_handler(struct fcd_vm *vm, const char *path, struct cc_buf *fault)
{
        CC_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int errnum = ECONNREFUSED;

        fcd_violation(vm, "memory from a page fault handler");
        (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                errnum = errno;
        cc_buf_printf(fault,
                      "Failed to load guest memory: Error creating guest memory from uffd: Failed "
                      "to connect to UDS Unix stream: %s",
                      fcd_os_error(errnum));
        return -1;
}

/* The memory file mapped as the real one maps it: privately, never beyond its end. */
static int load_memory(struct fcd_vm *vm, const json_t *backend, struct cc_buf *fault)
{
        static const char from_file[] =
                "Failed to load guest memory: Error creating guest memory from file: ";
        const char *path = text_of(backend, "backend_path");
        CC_CLOSE int fd = -1;
        uint64_t size = memory_size(vm);
        struct stat st;

        if (!cc_streq(text_of(backend, "backend_type"), "File"))
                return load_from_handler(vm, path, fault);
        if (cc_streq(text_of(vm->machine, "huge_pages"), "2M")) {
                cc_buf_printf(fault,
                              "%sCannot restore hugetlbfs backed snapshot by mapping the "
                              "memory file. Please use uffd.",
                              from_file);
                return -1;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                cc_buf_printf(fault, "%sFailed to load guest memory: %s", from_file,
                              fcd_os_error(errno));
                return -1;
        }
        if ((uint64_t)st.st_size < size) {
                cc_buf_printf(fault,
                              "%sFailed to restore guest memory: Total sum of memory regions "
                              "exceeds largest possible file offset",
                              from_file);
                return -1;
        }
        vm->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
        if (vm->memory == MAP_FAILED) {
                vm->memory = NULL;
                cc_buf_printf(fault,
                              "%sFailed to restore guest memory: Cannot create mmap region: "
                              "%s",
                              from_file, fcd_os_error(errno));
                return -1;
        }
        vm->memory_size = size;
        vm->mem_fd = TAKE_FD(fd);
        return 0;
}

/* One device of each kind, opened from its recorded configuration. */
static int restore_devices(struct fcd_vm *vm, const json_t *state, struct fcd_devices *d,
                           const char *list,
                           int (*open_it)(struct fcd_vm *, const json_t *, int *, struct cc_buf *),
                           struct cc_buf *fault)
{
        const json_t *all = json_object_get(state, list);

        d->v = xcalloc(json_array_size(all) + 1, sizeof(*d->v));
        for (size_t i = 0; i < json_array_size(all); i++) {
                json_t *config = json_array_get(all, i);
                int fd = -1;

                if (open_it(vm, config, &fd, fault) < 0)
                        return -1;
                d->v[d->n++] = (struct fcd_device){ .config = json_incref(config), .fd = fd };
        }
        return 0;
}

static int restore_all(struct fcd_vm *vm, const json_t *state, struct cc_buf *fault)
{
        CC_BUF struct cc_buf reason = { 0 };
        const char *kind = "Block: ";
        int r = restore_devices(vm, state, &vm->drives, "drives", fcd_drive_open, &reason);

        for (size_t i = 0; r == 0 && i < vm->drives.n; i++)
                fcd_drive_claim(vm, &vm->drives.v[i]);
        if (r == 0) {
                kind = "Net: Failed to create a network device: ";
                r = restore_devices(vm, state, &vm->nics, "nics", fcd_nic_open, &reason);
        }
        if (r == 0 && json_object_get(state, "vsock")) {
                kind = "VsockUnixBackend: Error binding to the host-side Unix socket: ";
                vm->vsock = json_incref(json_object_get(state, "vsock"));
                r = fcd_vsock_bind(text_of(vm->vsock, "uds_path"), &vm->vsock_listener, &reason);
                if (r == 0)
                        dbl_vsock_serve(vm->loop, vm->settings, vm->vsock_listener);
        }
        if (r < 0)
                cc_buf_printf(fault,
                              BUILD "Failed to restore devices: Error restoring %s devices: "
                                    "%s%s",
                              vm->pci ? "PCI" : "MMIO", kind, reason.data);
        return r;
}

/* The guest goes on where its memory left it. */
static int restore_guest(struct fcd_vm *vm, const json_t *state, struct cc_buf *fault)
{
        CC_JSON json_t *guest = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct guest_header h;

        memcpy(&h, vm->memory, sizeof(h));
        if (memcmp(h.nonce, text_of(state, "nonce"), NONCE_LEN) != 0)
                fcd_violation(vm, "memory file and vmstate are of different snapshots");
        if (h.len <= vm->memory_size - GUEST_OFFSET)
                guest = json_loadb(vm->memory + GUEST_OFFSET, h.len, 0, NULL);
        if (!guest || dbl_guest_load(vm->guest, guest, &err) < 0) {
                fcd_violation(vm, "the memory file holds no guest");
                cc_buf_str(fault, BUILD "Failed to restore vCPUs");
                return -1;
        }
        return 0;
}

/* A vmstate of ours has these; anything else with a right checksum was made by a test. */
static bool complete(const json_t *state)
{
        return json_is_object(json_object_get(state, "machine")) &&
               json_is_array(json_object_get(state, "drives")) &&
               json_is_array(json_object_get(state, "nics")) && text_of(state, "nonce") &&
               strlen(text_of(state, "nonce")) == NONCE_LEN;
}

static int restore(struct fcd_vm *vm, const json_t *body, struct cc_buf *fault)
{
        CC_JSON json_t *state = NULL;
        CC_FREE char *version = NULL;
        CC_BUF struct cc_buf reason = { 0 };
        int errnum;

        if (fcd_vmstate_read(text_of(body, "snapshot_path"), &state, &version, &reason) < 0) {
                cc_buf_printf(fault, STATE "%s", reason.data);
                return -1;
        }
        if (!fcd_format_loadable(version, vm->minor) || !complete(state)) {
                cc_buf_printf(fault,
                              STATE "Failed to load snapshot state from file: Invalid data "
                                    "version: %s",
                              version);
                return -1;
        }
        if (override_nics(json_object_get(body, "network_overrides"), state, fault) < 0 ||
            override_vsock(json_object_get(body, "vsock_override"), state, fault) < 0)
                return -1;
        json_decref(vm->machine);
        vm->machine = json_incref(json_object_get(state, "machine"));
        (void)json_object_set_new(
                vm->machine, "track_dirty_pages",
                json_boolean(json_is_true(json_object_get(body, "track_dirty_pages")) ||
                             json_is_true(json_object_get(body, "enable_diff_snapshots"))));
        if (load_memory(vm, json_object_get(body, "mem_backend"), fault) < 0)
                return -1;
        /* The machine's transport is the snapshot's, whatever the command line said. */
        if (vm->pci != json_is_true(json_object_get(state, "pci"))) {
                fcd_violation(vm, "snapshot of another transport than --enable-pci says");
                vm->pci = !vm->pci;
        }
        errnum = fcd_serial_open(vm);
        if (errnum) {
                cc_buf_printf(fault, BUILD "Failed to restore devices: %s", fcd_os_error(errnum));
                return -1;
        }
        if (restore_all(vm, state, fault) < 0 || restore_guest(vm, state, fault) < 0)
                return -1;
        vm->boot = json_incref(json_object_get(state, "boot"));
        vm->balloon = json_incref(json_object_get(state, "balloon"));
        vm->entropy = json_incref(json_object_get(state, "entropy"));
        memcpy(vm->nonce, text_of(state, "nonce"), NONCE_LEN + 1);
        return 0;
}

void fcd_snapshot_restore(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        CC_BUF struct cc_buf fault = { 0 };
        const char *mem_file = text_of(body, "mem_file_path");

        if (mem_file)
                (void)json_object_set_new(
                        body, "mem_backend",
                        json_pack("{s:s, s:s}", "backend_path", mem_file, "backend_type", "File"));
        if (vm->configured) {
                fcd_fault(reply, LOAD "Loading a microVM snapshot not allowed after configuring "
                                      "boot-specific resources.");
                return;
        }
        if (restore(vm, body, &fault) < 0) {
                fcd_fault(reply, LOAD "Failed to restore from snapshot: %s", fault.data);
                vm->exit_status = 1; /* too dirty to go on */
                return;
        }
        fcd_serial_start(vm);
        fcd_serial_listen(vm, false);
        vm->state = FCD_PAUSED;
        if (json_is_true(json_object_get(body, "resume_vm"))) {
                fcd_violation(vm, "resume_vm leaves no time to rewire the machine");
                fcd_resume(vm, reply);
        }
        fcd_ok(reply);
}
