/*
 * What boot and load of a QEMU process share. See process.h.
 *
 * The control socket listens before QEMU exists, so we connect at once and wait for its greeting or
 * its death, whichever is first: nothing is polled.
 */
#include "hv/qemu/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "hv/qemu/qemu.h"

#define DEATH_MS 2000

void qemu_plan_clear(struct qemu_plan *p)
{
        qemu_install_clear(&p->install);
        qemu_firmware_clear(&p->firmware);
        qemu_recipe_clear(&p->recipe);
        cc_strv_free(&p->argv);
        free(p->efivars);
}

/* The VM's identity for the guest (SMBIOS): the same at every start, so made from the VM ID, whose
 * 26 base-32 digits hold more than a UUID's bits. */
static void uuid_of(const char *id, char out[37])
{
        uint8_t b[16] = { 0 };
        unsigned bits = 0;
        unsigned acc = 0;
        size_t n = 0;

        if (!cc_id_valid(id)) {
                cc_uuid_new(out);
                return;
        }
        for (; *id && n < sizeof(b); id++) {
                acc = acc << 5 | (unsigned)(*id >= 'A' ? *id - 'A' : *id - '2' + 26);
                bits += 5;
                if (bits >= 8) {
                        bits -= 8;
                        b[n++] = (uint8_t)(acc >> bits);
                }
        }
        b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
        b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
        (void)snprintf(out, 37,
                       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                       b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
                       b[13], b[14], b[15]);
}

static bool kernel_has_io_uring(void)
{
        struct io_uring_params p = { 0 };
        CC_CLOSE int fd = (int)syscall(SYS_io_uring_setup, 1u, &p);

        return fd >= 0;
}

static bool openable(const char *path)
{
        CC_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);

        return fd >= 0;
}

int qemu_plan_firmware(const struct hv_env *env, const struct vm_spec *spec, struct qemu_plan *p,
                       struct cc_err *err)
{
        if (!cc_isempty(spec->kernel))
                return qemu_bios_find(env->bios, &p->install.data_dirs, "", &p->firmware, err);
        return qemu_uefi_find(env->firmware, p->install.machine, "", &p->firmware, err);
}

void qemu_plan_bind(const struct vm_spec *spec, struct qemu_plan *p, struct qemu_bindings *ret)
{
        if (p->firmware.vars && !p->efivars)
                p->efivars = cc_path_join(spec->run_dir, QEMU_EFIVARS);
        p->vhost_net = qemu_recipe_kvm(&p->recipe) && openable("/dev/vhost-net");
        *ret = (struct qemu_bindings){
                .spec = spec,
                .binary = p->install.binary,
                .fw_code = p->firmware.code,
                .fw_vars = p->efivars,
                .io_uring = p->install.io_uring && kernel_has_io_uring(),
                .vhost_net = p->vhost_net,
        };
        uuid_of(spec->id, ret->uuid);
        cc_uuid_new(ret->generation);
}

void qemu_fds_close(struct qemu_fds *f)
{
        for (size_t i = 0; i < f->n; i++)
                close(f->map[i].from);
        f->n = 0;
}

int qemu_fds_add(struct qemu_fds *f, int from, int to, struct cc_err *err)
{
        if (f->n == QEMU_MAX_FDS) {
                close(from);
                return cc_fail(err, CC_UNSUPPORTED, "qemu: the NICs need more than %d descriptors",
                               QEMU_MAX_FDS);
        }
        f->map[f->n++] = (struct cc_fd_map){ .from = from, .to = to };
        return 0;
}

static int add_tap(struct qemu_fds *f, const char *netns, const char *tap, bool make, size_t pairs,
                   bool vhost, int *to, struct cc_err *err)
{
        int fds[QEMU_MAX_FDS];
        int r;

        if (pairs > QEMU_MAX_FDS)
                return cc_fail(err, CC_UNSUPPORTED, "qemu: the NICs need more than %d descriptors",
                               QEMU_MAX_FDS);
        r = make ? hv_tap_make(netns, tap, pairs, fds, err)
                 : hv_tap_open(netns, tap, pairs, fds, err);
        if (r < 0)
                return r;
        for (size_t k = 0; k < pairs; k++) {
                if (r == 0)
                        r = qemu_fds_add(f, fds[k], (*to)++, err);
                else
                        close(fds[k]);
        }
        for (size_t k = 0; vhost && k < pairs && r == 0; k++) {
                int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);

                if (fd < 0)
                        return cc_fail_errno(err, errno, "open /dev/vhost-net");
                r = qemu_fds_add(f, fd, (*to)++, err);
        }
        return r;
}

int qemu_fds_tap(struct qemu_fds *f, const char *netns, const char *tap, size_t pairs, bool vhost,
                 int *to, struct cc_err *err)
{
        return add_tap(f, netns, tap, false, pairs, vhost, to, err);
}

int qemu_fds_dummy(struct qemu_fds *f, const char *netns, const char *tap, size_t pairs, bool vhost,
                   int *to, struct cc_err *err)
{
        return add_tap(f, netns, tap, true, pairs, vhost, to, err);
}

static int open_sockets(const struct vm_spec *spec, const struct qemu_recipe *recipe,
                        struct qemu_fds *f, struct cc_err *err)
{
        static const struct {
                const char *name;
                int to;
        } sockets[] = {
                { QEMU_API_SOCK, QEMU_FD_API },
                { QEMU_EVENTS_SOCK, QEMU_FD_EVENTS },
                { QEMU_SERIAL_SOCK, QEMU_FD_SERIAL },
        };
        int fd;
        int r = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(sockets) && r == 0; i++) {
                r = hv_listen_unix(spec->run_dir, sockets[i].name, &fd, err);
                if (r == 0)
                        r = qemu_fds_add(f, fd, sockets[i].to, err);
        }
        for (int i = 0; i < recipe->agent_ports && r == 0; i++) {
                CC_FREE char *name = xasprintf(QEMU_AGENT_SOCK_FORMAT, i);

                r = hv_listen_unix(spec->run_dir, name, &fd, err);
                if (r == 0)
                        r = qemu_fds_add(f, fd, QEMU_FD_AGENT + i, err);
        }
        return r;
}

/* QEMU would make it with whatever our caller's umask leaves, and a console may show anything. */
static int make_console_log(const struct vm_spec *spec, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->log_dir, QEMU_CONSOLE_LOG);
        CC_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);

        return fd < 0 ? cc_fail_errno(err, errno, "open log %s", path) : 0;
}

int qemu_process_start(const struct vm_spec *spec, const struct qemu_plan *p, struct qemu_fds *fds,
                       const char *failpoint, struct hv_launch *l, struct vm_proc *ret,
                       struct cc_err *err)
{
        CC_FREE char *recipe = qemu_recipe_text(&p->recipe);
        int r = make_console_log(spec, err);

        *l = (struct hv_launch){
                .title = "qemu",
                .run_dir = spec->run_dir,
                .log_dir = spec->log_dir,
                .log_name = QEMU_LOG,
                .pid_name = QEMU_PID,
                .argv = (const char *const *)p->argv.v,
                .netns = spec->netns,
                .failpoint = failpoint,
        };
        if (r == 0)
                r = open_sockets(spec, &p->recipe, fds, err);
        if (r == 0)
                r = hv_write_file(spec->run_dir, QEMU_RECIPE, recipe, err);
        if (r == 0) {
                l->fds = fds->map;
                l->n_fds = fds->n;
                r = hv_launch(l, ret, err);
        }
        qemu_fds_close(fds);
        return r;
}

int qemu_process_failed(const struct hv_launch *l, const struct vm_proc *proc, int r,
                        const struct cc_err *why, struct cc_err *err)
{
        /* The socket goes a moment before the process. */
        if (r == -CC_NETWORK && cc_pidfd_wait(proc->pidfd, DEATH_MS) == 1)
                return hv_launch_died(l, err);
        (void)cc_err_copy(err, why);
        return r == -CC_TIMEOUT ? cc_wrap(err, "launch qemu") : r;
}

int qemu_process_connect(const struct hv_env *env, const struct hv_launch *l,
                         const struct vm_proc *proc, struct qmp **ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(l->run_dir, QEMU_API_SOCK);
        struct cc_err why = CC_ERR_INIT;
        int r = qmp_connect(path, proc->pidfd,
                            env->socket_wait_ms > 0 ? env->socket_wait_ms : QMP_GREETING_MS, ret,
                            &why);

        return r == 0 ? 0 : qemu_process_failed(l, proc, r, &why, err);
}
