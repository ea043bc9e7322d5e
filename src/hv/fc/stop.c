/*
 * Ending Firecracker (firecracker.md §4): Ctrl-Alt-Del, SIGTERM, SIGKILL. The guest answers
 * Ctrl-Alt-Del with a reboot, and a reboot ends the VMM. There is no handler for SIGTERM: it ends
 * the VMM at once and leaves its sockets behind.
 */
#include "base/log.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "hv/fc/api.h"
#include "hv/fc/fc.h"

static int canceled(struct cc_err *err)
{
        return cc_fail(err, CC_CANCELED, "stop interrupted, the VM may still be shutting down");
}

/* 1 ended, 0 not. */
static int ctrl_alt_del(const char *run_dir, const struct vm_proc *proc, int grace_ms)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = proc->pidfd };
        int64_t deadline = cc_monotonic() + grace_ms * CC_NSEC_PER_MSEC;
        struct cc_err why = CC_ERR_INIT;
        int64_t left;
        int r = fc_call(&api, "PUT", "/actions", FC_CTRL_ALT_DEL,
                        grace_ms < FC_CALL_MS ? grace_ms : FC_CALL_MS, false, NULL, &why);

        /* A lost reply may well mean that the guest is on its way down. */
        if (r < 0 && r != -CC_CANCELED && !fc_reply_lost(r)) {
                cc_debug("fc.stop", "%s", why.msg);
                return cc_pidfd_wait(proc->pidfd, 0);
        }
        left = (deadline - cc_monotonic() + CC_NSEC_PER_MSEC - 1) / CC_NSEC_PER_MSEC;
        if (r != -CC_CANCELED)
                r = cc_pidfd_wait(proc->pidfd, left > 0 ? (int)left : 0);
        return r;
}

int fc_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc, int grace_ms,
            struct cc_err *err)
{
        int r = cc_pidfd_wait(proc->pidfd, 0);

        if (r == 0 && grace_ms > 0)
                r = ctrl_alt_del(run_dir, proc, grace_ms);
        if (r == 0) {
                r = cc_terminate(proc->pidfd, env->grace_ms, err);
                if (r < 0)
                        return cc_wrap(err, "stop firecracker");
        }
        if (r < 0)
                return canceled(err);
        cc_reap(proc->pid);
        return 0;
}
