/*
 * Starting QEMU (qemu.md §4.2).
 *
 * Order: look everything up (binary, accelerator, firmware), build recipe and argv, make every
 * descriptor QEMU will use, write qemu.json and cmdline, fork. The control socket listens before
 * QEMU exists, so we connect at once and wait for its greeting or its death, whichever is first:
 * nothing is polled. Until the fork nothing needs undoing but files; after it, hv_abort() ends the
 * process, and the runtime files go. The caller holds the VM's lock throughout.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/launch.h"
#include "hv/qemu/accel.h"
#include "hv/qemu/argv.h"
#include "hv/qemu/firmware.h"
#include "hv/qemu/install.h"
#include "hv/qemu/qemu.h"
#include "hv/qemu/qmp.h"

#define MAX_FDS     128 /* what cc_spawn() passes on */
#define DEATH_MS    2000
#define MAX_EFIVARS ((size_t)64 << 20)

const char *const qemu_runtime_files[] = {
        QEMU_API_SOCK,  QEMU_EVENTS_SOCK, QEMU_SERIAL_SOCK, "console.sock", "agent.0.sock",
        "agent.1.sock", "agent.2.sock",   "agent.3.sock",   QEMU_PID,       "cmdline",
        NULL,
};

/* Everything a start needs to know before it touches anything. */
struct plan {
        struct qemu_install install;
        struct qemu_firmware firmware;
        struct qemu_recipe recipe;
        struct cc_strv argv;
        char *efivars; /* NULL: none */
        bool vhost_net;
        bool clamped;
};

static void plan_clear(struct plan *p)
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

static int find_firmware(const struct hv_env *env, const struct vm_spec *spec, struct plan *p,
                         struct cc_err *err)
{
        if (!cc_isempty(spec->kernel))
                return qemu_bios_find(env->bios, &p->install.data_dirs, "", &p->firmware, err);
        return qemu_uefi_find(env->firmware, p->install.machine, "", &p->firmware, err);
}

static int make_plan(const struct hv_env *env, const struct vm_spec *spec, struct plan *p,
                     bool standalone, struct cc_err *err)
{
        struct qemu_bindings bind = { .spec = spec, .standalone = standalone };
        struct qemu_host host = { .balloon = env->balloon };
        int r = qemu_install_find(env->binary, env->cache_dir, &p->install, err);

        if (r == 0)
                r = qemu_accel_choose(env, &host.kvm, NULL, err);
        if (r == 0)
                r = find_firmware(env, spec, p, err);
        if (r < 0)
                return r;
        host.version = p->install.version;
        host.machine = p->install.machine;
        host.fw_size = p->firmware.code_size;
        host.vars_size = p->firmware.vars_size;
        qemu_recipe_make(spec, &host, &p->recipe, &p->clamped);
        if (p->firmware.vars)
                p->efivars = cc_path_join(spec->run_dir, QEMU_EFIVARS);
        p->vhost_net = host.kvm && openable("/dev/vhost-net");
        bind.binary = p->install.binary;
        bind.fw_code = p->firmware.code;
        bind.fw_vars = p->efivars;
        bind.io_uring = p->install.io_uring && kernel_has_io_uring();
        bind.vhost_net = p->vhost_net;
        uuid_of(spec->id, bind.uuid);
        cc_uuid_new(bind.generation);
        return qemu_argv(&p->recipe, &bind, &p->argv, err);
}

int qemu_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
               struct cc_strv *ret_copies, struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        int r = make_plan(env, spec, &p, true, err);

        if (r < 0)
                return r;
        if (p.efivars) {
                cc_strv_add(ret_copies, p.firmware.vars);
                cc_strv_add(ret_copies, p.efivars);
        }
        *ret_argv = p.argv;
        p.argv = (struct cc_strv){ 0 };
        return 0;
}

int qemu_prepare(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        CC_FREE char *path = cc_path_join(spec->run_dir, QEMU_EFIVARS);
        CC_FREE char *vars = NULL;
        size_t n;
        int r;

        if (!cc_isempty(spec->kernel) || cc_exists(path))
                return 0;
        r = qemu_install_find(env->binary, env->cache_dir, &p.install, err);
        if (r == 0)
                r = find_firmware(env, spec, &p, err);
        if (r < 0 || !p.firmware.vars)
                return r;
        r = cc_read_file(p.firmware.vars, MAX_EFIVARS, &vars, &n, err);
        return r < 0 ? r : cc_publish(path, vars, n, 0600, err);
}

/* The descriptors for the child, closed here when the scope ends. */
struct fd_set_out {
        struct cc_fd_map map[MAX_FDS];
        size_t n;
};

static void fds_close(struct fd_set_out *f)
{
        for (size_t i = 0; i < f->n; i++)
                close(f->map[i].from);
        f->n = 0;
}

static void fds_add(struct fd_set_out *f, int from, int to)
{
        f->map[f->n++] = (struct cc_fd_map){ .from = from, .to = to };
}

static int open_sockets(const struct vm_spec *spec, const struct qemu_recipe *recipe,
                        struct fd_set_out *f, struct cc_err *err)
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
        int r;

        for (size_t i = 0; i < CC_ARRAY_LEN(sockets); i++) {
                r = hv_listen_unix(spec->run_dir, sockets[i].name, &fd, err);
                if (r < 0)
                        return r;
                fds_add(f, fd, sockets[i].to);
        }
        for (int i = 0; i < recipe->agent_ports; i++) {
                CC_FREE char *name = xasprintf(QEMU_AGENT_SOCK_FORMAT, i);

                r = hv_listen_unix(spec->run_dir, name, &fd, err);
                if (r < 0)
                        return r;
                fds_add(f, fd, QEMU_FD_AGENT + i);
        }
        return 0;
}

/* In the order in which the argv builder numbers them: a NIC's queues, then its vhost workers. */
static int open_taps(const struct vm_spec *spec, const struct plan *p, struct fd_set_out *f,
                     struct cc_err *err)
{
        int to = QEMU_FD_TAP;

        for (size_t i = 0; i < spec->n_nics; i++) {
                size_t pairs = (size_t)qemu_recipe_nic(&p->recipe, i)->pairs;
                size_t needed = p->vhost_net ? 2 * pairs : pairs;
                int fds[MAX_FDS];
                int r;

                if (cc_isempty(spec->nics[i].tap))
                        continue;
                if (f->n + needed > MAX_FDS)
                        return cc_fail(err, CC_UNSUPPORTED,
                                       "qemu: the NICs need more than %d descriptors", MAX_FDS);
                r = hv_tap_open(spec->netns, spec->nics[i].tap, pairs, fds, err);
                if (r < 0)
                        return r;
                for (size_t k = 0; k < pairs; k++)
                        fds_add(f, fds[k], to++);
                for (size_t k = 0; p->vhost_net && k < pairs; k++) {
                        int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);

                        if (fd < 0)
                                return cc_fail_errno(err, errno, "open /dev/vhost-net");
                        fds_add(f, fd, to++);
                }
        }
        return 0;
}

/* QEMU would make it with whatever our caller's umask leaves, and a console may show anything. */
static int make_console_log(const struct vm_spec *spec, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->log_dir, QEMU_CONSOLE_LOG);
        CC_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);

        return fd < 0 ? cc_fail_errno(err, errno, "open log %s", path) : 0;
}

static int open_fds(const struct vm_spec *spec, const struct plan *p, struct fd_set_out *f,
                    struct cc_err *err)
{
        int fd;
        int r = hv_guest_memory(p->recipe.memory, p->recipe.hugepages, &fd, err);

        if (r < 0)
                return r;
        fds_add(f, fd, QEMU_FD_MEMORY);
        r = open_sockets(spec, &p->recipe, f, err);
        return r < 0 ? r : open_taps(spec, p, f, err);
}

/* QEMU's own words for a file it cannot read are about memory sizes; ours name the file. */
static int check_readable(const char *what, const char *path, struct cc_err *err)
{
        if (cc_isempty(path) || access(path, R_OK) == 0)
                return 0;
        return cc_fail_errno(err, errno, "qemu: %s %s", what, path);
}

static int check_files(const struct vm_spec *spec, struct cc_err *err)
{
        int r = check_readable("kernel", spec->kernel, err);

        if (r == 0)
                r = check_readable("initrd", spec->initrd, err);
        for (size_t i = 0; r == 0 && i < spec->n_disks; i++)
                r = check_readable("disk", spec->disks[i].path, err);
        return r;
}

static void warn_once(const struct vm_spec *spec, const struct plan *p)
{
        if (p->clamped)
                cc_warn("qemu.launch", "queue sizes are powers of two, 256-1024 (network) and at "
                                       "most 1024 (disk): "
                                       "rounded");
        if (spec->windows && !qemu_recipe_kvm(&p->recipe))
                cc_warn("qemu.launch", "no Hyper-V enlightenments under emulation");
}

static int query_running(struct qmp *q, struct cc_err *err)
{
        CC_JSON json_t *status = NULL;
        const char *s;
        int r = qmp_command(q, "query-status", NULL, QMP_COMMAND_MS, &status, err);

        if (r < 0)
                return r;
        s = json_string_value(json_object_get(status, "status"));
        if (!cc_streq(s, "running"))
                return cc_fail(err, CC_STATE, "launch qemu: the guest is %s, not running",
                               s ? s : "in an unknown state");
        return 0;
}

static int wait_running(const struct hv_env *env, const struct hv_launch *l,
                        const struct vm_proc *proc, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(l->run_dir, QEMU_API_SOCK);
        QMP struct qmp *q = NULL;
        struct cc_err why = CC_ERR_INIT;
        int r = qmp_connect(path, proc->pidfd,
                            env->socket_wait_ms > 0 ? env->socket_wait_ms : QMP_GREETING_MS, &q,
                            &why);

        if (r == 0)
                r = query_running(q, &why);
        if (r == 0)
                return 0;
        /* The socket goes a moment before the process. */
        if (r == -CC_NETWORK && cc_pidfd_wait(proc->pidfd, DEATH_MS) == 1)
                return hv_launch_died(l, err);
        (void)cc_err_copy(err, &why);
        if (r == -CC_TIMEOUT)
                return cc_wrap(err, "launch qemu");
        return r;
}

int qemu_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
                struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        CC_CLEANUP(fds_close) struct fd_set_out fds = { .n = 0 };
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *recipe = NULL;
        struct hv_launch l;
        int r = check_files(spec, err);

        if (r == 0)
                r = make_plan(env, spec, &p, false, err);
        if (r < 0)
                return r;
        warn_once(spec, &p);
        recipe = qemu_recipe_text(&p.recipe);
        l = (struct hv_launch){
                .title = "qemu",
                .run_dir = spec->run_dir,
                .log_dir = spec->log_dir,
                .log_name = QEMU_LOG,
                .pid_name = QEMU_PID,
                .argv = (const char *const *)p.argv.v,
                .netns = spec->netns,
        };
        r = make_console_log(spec, err);
        if (r == 0)
                r = open_fds(spec, &p, &fds, err);
        if (r == 0)
                r = hv_write_file(spec->run_dir, QEMU_RECIPE, recipe, err);
        if (r == 0) {
                l.fds = fds.map;
                l.n_fds = fds.n;
                r = hv_launch(&l, &proc, err);
        }
        /* Our copies of the listeners must go: a connection that only we would hold open could not
         * tell that QEMU is dead. */
        fds_close(&fds);
        if (r == 0)
                r = wait_running(env, &l, &proc, err);
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, qemu_runtime_files, NULL);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}
