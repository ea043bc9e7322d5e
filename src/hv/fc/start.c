/*
 * Starting Firecracker (firecracker.md §1-3).
 *
 * Order: look everything up, build argv and requests, make the console's PTY, fork. Firecracker
 * makes its API socket itself: it is waited for, or for the end of the process. Then the requests
 * in their order, then InstanceStart, once. Until the fork nothing needs undoing but files; after
 * it, hv_abort() ends the process, and the runtime files go. The caller holds the VM's lock
 * throughout.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "hv/fc/api.h"
#include "hv/fc/fc.h"
#include "hv/fc/install.h"
#include "hv/fc/machine.h"
#include "hv/fc/process.h"
#include "hv/launch.h"

/* Everything a start needs to know before it touches anything. */
struct plan {
        struct fc_install install;
        struct fc_requests requests;
        struct cc_strv argv;
        bool io_uring;
};

static void plan_clear(struct plan *p)
{
        fc_install_clear(&p->install);
        fc_requests_clear(&p->requests);
        cc_strv_free(&p->argv);
}

static int make_plan(const struct hv_env *env, const struct vm_spec *spec, struct plan *p,
                     struct cc_err *err)
{
        struct fc_host host;
        int r = fc_machine_check(spec, err);

        if (r == 0)
                r = fc_install_find(env->binary, env->cache_dir, &p->install, err);
        if (r < 0)
                return r;
        p->io_uring = fc_io_uring_usable();
        host = (struct fc_host){
                .io_uring = p->io_uring,
                .nic_mtu = fc_version_at_least(&p->install, 1, 16, 0),
        };
        fc_process_argv(spec, p->install.binary, &p->argv);
        return fc_machine_requests(spec, &host, &p->requests, err);
}

int fc_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
             struct cc_strv *ret_copies, struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        int r = make_plan(env, spec, &p, err);

        (void)ret_copies;
        if (r < 0)
                return r;
        *ret_argv = p.argv;
        p.argv = (struct cc_strv){ 0 };
        return 0;
}

int fc_debug_requests(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret,
                      struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        int r = make_plan(env, spec, &p, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < p.requests.n; i++) {
                cc_strv_add(ret, p.requests.v[i].method);
                cc_strv_add(ret, p.requests.v[i].target);
                cc_strv_add(ret, p.requests.v[i].body);
        }
        cc_strv_add(ret, "PUT");
        cc_strv_add(ret, "/actions");
        cc_strv_add(ret, FC_INSTANCE_START);
        return 0;
}

/* Our words for a file it cannot read name the file; Firecracker's are an error number. */
static int check_readable(const char *what, const char *path, struct cc_err *err)
{
        if (cc_isempty(path) || access(path, R_OK) == 0)
                return 0;
        return cc_fail_errno(err, errno, "%s %s", what, path);
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

static int send_all(const struct fc_process *process, const struct fc_requests *requests, int pidfd,
                    struct cc_err *err)
{
        struct fc_api api = { .run_dir = process->spec->run_dir, .pidfd = pidfd };
        struct cc_err why = CC_ERR_INIT;
        const char *target = NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && i < requests->n; i++) {
                const struct fc_request *q = &requests->v[i];

                target = q->target;
                r = fc_call(&api, q->method, target, q->body, FC_CALL_MS, true, NULL, &why);
        }
        if (r == 0) {
                target = "/actions (InstanceStart)";
                r = fc_instance_start(&api, &why);
        }
        return r == 0 ? 0 : fc_process_failed(process, pidfd, target, &why, err);
}

int fc_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
              struct cc_err *err)
{
        CC_CLEANUP(plan_clear) struct plan p = { 0 };
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        struct fc_process process = { .env = env, .spec = spec, .doing = "launch" };
        /* Firecracker never unlinks its sockets, and cannot bind where one is. */
        int r = hv_remove_files(spec->run_dir, fc_runtime_files, err);

        if (r == 0)
                r = check_files(spec, err);
        if (r == 0)
                r = make_plan(env, spec, &p, err);
        if (r == 0)
                r = fc_check_taps(spec, err);
        if (r < 0)
                return cc_wrap(err, "launch firecracker");
        if (!p.io_uring)
                cc_warn("fc.launch",
                        "vm %s: io_uring cannot be used here, disks are served by "
                        "blocking calls (slower)",
                        spec->id);
        process.argv = (const char *const *)p.argv.v;
        r = fc_process_start(&process, &proc, err);
        if (r == 0)
                r = send_all(&process, &p.requests, proc.pidfd, err);
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, fc_runtime_files, NULL);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}
