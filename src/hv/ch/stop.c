/*
 * Ending Cloud Hypervisor (cloud-hypervisor.md §4.3): power button, vm.shutdown, SIGTERM, SIGKILL.
 *
 * The button gives the guest the chance to write back what it holds in memory; vm.shutdown only
 * flushes the VMM's disk backends. So a direct-boot guest gets it as well, but with a shorter
 * grace: such images need not have anything that listens to it. Every call is sent once; the
 * process, not the reply, tells what became of it.
 */
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "hv/ch/api.h"
#include "hv/ch/ch.h"

#define DIRECT_GRACE_MS 10000

static int canceled(struct cc_err *err)
{
        return cc_fail(err, CC_CANCELED, "stop interrupted, the VM may still be shutting down");
}

/* 1 ended, 0 not. */
static int power_down(const char *run_dir, const struct vm_proc *proc, int grace_ms,
                      struct cc_err *err)
{
        CC_FREE char *serial = cc_path_join(run_dir, CH_SERIAL_SOCK);
        struct cc_err why = CC_ERR_INIT;
        int r;

        /* Only a UEFI machine has the socket. */
        if (grace_ms > DIRECT_GRACE_MS && !cc_exists(serial))
                grace_ms = DIRECT_GRACE_MS;
        r = ch_put(run_dir, "vm.power-button", NULL, grace_ms, NULL, &why);
        if (r == -CC_CANCELED)
                return canceled(err);
        if (r < 0) {
                cc_debug("ch.stop", "%s", why.msg);
                /* Refused or never sent: nothing to wait for. Otherwise it may have been pressed.
                 */
                if (r != -CC_IO)
                        return cc_pidfd_wait(proc->pidfd, 0);
        }
        r = cc_pidfd_wait(proc->pidfd, grace_ms);
        return r == -CC_CANCELED ? canceled(err) : r;
}

int ch_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc, int grace_ms,
            struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r = cc_pidfd_wait(proc->pidfd, 0);

        if (r == 0 && grace_ms > 0)
                r = power_down(run_dir, proc, grace_ms, err);
        if (r == 0) {
                /* SIGTERM is the same request in other words, so this one need not get the whole
                 * time of an API call. */
                r = ch_put(run_dir, "vm.shutdown", NULL, 2 * env->grace_ms, NULL, &why);
                if (r == -CC_CANCELED)
                        return canceled(err);
                if (r < 0)
                        cc_debug("ch.stop", "%s", why.msg);
                r = cc_terminate(proc->pidfd, env->grace_ms, err);
                if (r < 0)
                        return cc_wrap(err, "stop cloud-hypervisor");
        }
        if (r < 0)
                return r == -CC_CANCELED ? canceled(err) : r;
        cc_reap(proc->pid);
        return 0;
}
