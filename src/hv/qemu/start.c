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
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/qemu/accel.h"
#include "hv/qemu/process.h"
#include "hv/qemu/qemu.h"

#define MAX_EFIVARS ((size_t)64 << 20)

const char *const qemu_runtime_files[] = {
        QEMU_API_SOCK,  QEMU_EVENTS_SOCK, QEMU_SERIAL_SOCK, "console.sock", "agent.0.sock",
        "agent.1.sock", "agent.2.sock",   "agent.3.sock",   QEMU_PID,       "cmdline",
        NULL,
};

static int make_plan(const struct hv_env *env, const struct vm_spec *spec, struct qemu_plan *p,
                     bool standalone, struct cc_err *err)
{
        struct qemu_bindings bind;
        struct qemu_host host = { .balloon = env->balloon };
        int r = qemu_install_find(env->binary, env->cache_dir, &p->install, err);

        if (r == 0)
                r = qemu_accel_choose(env, &host.kvm, NULL, err);
        if (r == 0)
                r = qemu_plan_firmware(env, spec, p, err);
        if (r < 0)
                return r;
        host.version = p->install.version;
        host.machine = p->install.machine;
        host.fw_size = p->firmware.code_size;
        host.vars_size = p->firmware.vars_size;
        qemu_recipe_make(spec, &host, &p->recipe, &p->clamped);
        qemu_plan_bind(spec, p, &bind);
        bind.standalone = standalone;
        return qemu_argv(&p->recipe, &bind, &p->argv, err);
}

int qemu_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
               struct cc_strv *ret_copies, struct cc_err *err)
{
        QEMU_PLAN struct qemu_plan p = { 0 };
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
        QEMU_PLAN struct qemu_plan p = { 0 };
        CC_FREE char *path = cc_path_join(spec->run_dir, QEMU_EFIVARS);
        CC_FREE char *vars = NULL;
        size_t n;
        int r;

        if (!cc_isempty(spec->kernel) || cc_exists(path))
                return 0;
        r = qemu_install_find(env->binary, env->cache_dir, &p.install, err);
        if (r == 0)
                r = qemu_plan_firmware(env, spec, &p, err);
        if (r < 0 || !p.firmware.vars)
                return r;
        r = cc_read_file(p.firmware.vars, MAX_EFIVARS, &vars, &n, err);
        return r < 0 ? r : cc_publish(path, vars, n, 0600, err);
}

/* In the order in which the argv builder numbers them: a NIC's queues, then its vhost workers. */
static int open_fds(const struct vm_spec *spec, const struct qemu_plan *p, struct qemu_fds *f,
                    struct cc_err *err)
{
        int to = QEMU_FD_TAP;
        int fd;
        int r = hv_guest_memory(p->recipe.memory, p->recipe.hugepages, &fd, err);

        if (r == 0)
                r = qemu_fds_add(f, fd, QEMU_FD_MEMORY, err);
        for (size_t i = 0; i < spec->n_nics && r == 0; i++)
                if (!cc_isempty(spec->nics[i].tap))
                        r = qemu_fds_tap(f, spec->netns, spec->nics[i].tap,
                                         (size_t)qemu_recipe_nic(&p->recipe, i)->pairs,
                                         p->vhost_net, &to, err);
        return r;
}

/* QEMU's own words for a file it cannot read are about memory sizes; ours name the file. */
static int check_readable(const char *what, const char *path, struct cc_err *err)
{
        if (cc_isempty(path) || access(path, R_OK) == 0)
                return 0;
        return cc_fail_errno(err, errno, "qemu: %s %s", what, path);
}

int qemu_check_files(const struct vm_spec *spec, struct cc_err *err)
{
        int r = check_readable("kernel", spec->kernel, err);

        if (r == 0)
                r = check_readable("initrd", spec->initrd, err);
        for (size_t i = 0; r == 0 && i < spec->n_disks; i++)
                r = check_readable("disk", spec->disks[i].path, err);
        return r;
}

static void warn_once(const struct vm_spec *spec, const struct qemu_plan *p)
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

static const char *const snapshot_files[] = { QEMU_MEMORY, QEMU_STATE, NULL };

int qemu_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
                struct cc_err *err)
{
        QEMU_PLAN struct qemu_plan p = { 0 };
        QEMU_FDS struct qemu_fds fds = { .n = 0 };
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        QMP struct qmp *q = NULL;
        struct cc_err why = CC_ERR_INIT;
        struct hv_launch l;
        int r = qemu_check_files(spec, err);

        if (r == 0)
                r = make_plan(env, spec, &p, false, err);
        if (r < 0)
                return r;
        warn_once(spec, &p);
        /* A cold boot needs nothing of the snapshot that the machine once came from. */
        r = hv_remove_files(spec->run_dir, snapshot_files, err);
        if (r == 0)
                r = open_fds(spec, &p, &fds, err);
        if (r == 0)
                r = qemu_process_start(spec, &p, &fds, NULL, &l, &proc, err);
        if (r == 0)
                r = qemu_process_connect(env, &l, &proc, &q, err);
        if (r == 0) {
                r = query_running(q, &why);
                if (r < 0)
                        r = qemu_process_failed(&l, &proc, r, &why, err);
        }
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, qemu_runtime_files, NULL);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}
