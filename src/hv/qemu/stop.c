/*
 * Ending QEMU (qemu.md §6): power button, quit, SIGTERM, SIGKILL. Each stage begins only when the
 * one before has not ended the process in its time. SIGKILL comes last because `quit` and SIGTERM
 * still write qcow2 metadata.
 */
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "hv/qemu/qemu.h"
#include "hv/qemu/qmp.h"

#define POWER_AGAIN_MS 5000 /* a guest that is still booting ignores the button */
#define QUIT_MS        2000

/* One command on a connection of its own. A command that ends the process may end the connection
 * before the reply: the caller judges by the process. */
static int command(const char *run_dir, const struct vm_proc *proc, const char *name,
                   int timeout_ms, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, QEMU_API_SOCK);
        QMP struct qmp *q = NULL;
        int r = qmp_connect(path, proc->pidfd, timeout_ms, &q, err);

        if (r == 0)
                r = qmp_command(q, name, NULL, timeout_ms, NULL, err);
        return r;
}

static int canceled(struct cc_err *err)
{
        return cc_fail(err, CC_CANCELED, "stop interrupted, the VM may still be shutting down");
}

/* 1 ended, 0 not. */
static int power_down(const char *run_dir, const struct vm_proc *proc, int grace_ms,
                      struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + grace_ms * CC_NSEC_PER_MSEC;

        for (;;) {
                int64_t left = (deadline - cc_monotonic()) / CC_NSEC_PER_MSEC;
                struct cc_err why = CC_ERR_INIT;
                int wait = left < POWER_AGAIN_MS ? (int)left : POWER_AGAIN_MS;
                int r;

                if (left <= 0)
                        return 0;
                r = command(run_dir, proc, "system_powerdown", wait, &why);
                if (r == -CC_CANCELED)
                        return canceled(err);
                if (r < 0)
                        cc_debug("qemu.stop", "power button: %s", why.msg);
                left = (deadline - cc_monotonic()) / CC_NSEC_PER_MSEC;
                wait = left < POWER_AGAIN_MS ? (int)left : POWER_AGAIN_MS;
                r = cc_pidfd_wait(proc->pidfd, wait > 0 ? wait : 0);
                if (r == -CC_CANCELED)
                        return canceled(err);
                if (r == 1)
                        return 1;
        }
}

int qemu_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc, int grace_ms,
              struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r = cc_pidfd_wait(proc->pidfd, 0);

        if (r == 0 && grace_ms > 0)
                r = power_down(run_dir, proc, grace_ms, err);
        if (r == 0) {
                if (command(run_dir, proc, "quit", QUIT_MS, &why) < 0)
                        cc_debug("qemu.stop", "quit: %s", why.msg);
                r = cc_pidfd_wait(proc->pidfd, QUIT_MS);
                if (r == -CC_CANCELED)
                        return canceled(err);
        }
        if (r == 0) {
                r = cc_terminate(proc->pidfd, env->grace_ms, err);
                if (r < 0)
                        return cc_wrap(err, "stop qemu");
        }
        if (r < 0)
                return r;
        cc_reap(proc->pid);
        return 0;
}
