/* Which hypervisors are installed, and whether KVM runs their guests. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "doctor/internal.h"

#define KVM "/dev/kvm"

static void say_companion(struct doctor *d, const struct hv_driver *drv)
{
        CC_FREE char *path = drv->companion ? cc_find_program(drv->companion) : NULL;

        if (drv->companion && !path)
                doctor_say(d, DOCTOR_WARN, "cocoon works without it; it is for looking into a VM",
                           "%s is not installed", drv->companion);
}

/* True when the driver can run VMs here. */
static bool say_driver(struct doctor *d, const struct hv_driver *drv)
{
        CC_BUF struct cc_buf version = { 0 };
        CC_BUF struct cc_buf detail = { 0 };
        struct cc_err why = CC_ERR_INIT;
        struct hv_env env;
        bool installed, usable;

        vm_hv_env(d->config, drv, &env);
        installed = drv->version(&env, &version, &why) == 0;
        usable = installed && drv->probe(&env, &detail, &why) == 0;
        if (!usable) {
                /* No harm while another one works: doctor_drivers() says so when none does. */
                if (installed)
                        doctor_say(d, DOCTOR_WARN, *why.hint ? why.hint : NULL, "%s %s: %s",
                                   drv->name, version.data, why.msg);
                else
                        doctor_say(d, DOCTOR_WARN, *why.hint ? why.hint : NULL, "%s", why.msg);
                return false;
        }
        doctor_say(d, DOCTOR_PASS, NULL, "%s %s: %s", drv->name, version.data,
                   detail.data ? detail.data : "usable");
        if (drv->full_version && strverscmp(version.data, drv->full_version) < 0)
                doctor_say(d, DOCTOR_WARN, NULL, "%s %s is older than %s: no %s", drv->name,
                           version.data, drv->full_version, drv->older_lacks);
        say_companion(d, drv);
        return true;
}

void doctor_drivers(struct doctor *d)
{
        const struct hv_driver *drv;

        for (size_t i = 0; (drv = hv_driver_at(i)); i++) {
                if (!say_driver(d, drv))
                        continue;
                d->usable = true;
                d->emulation |= (drv->caps & HV_CAP_EMULATION) != 0;
        }
        if (!d->usable)
                doctor_say(d, DOCTOR_FAIL, "install qemu-system-x86, or another of them",
                           "no hypervisor can run VMs here");
}

void doctor_kvm(struct doctor *d)
{
        struct cc_err why = CC_ERR_INIT;

        if (hv_kvm_probe(NULL, &why) == 0)
                doctor_say(d, DOCTOR_PASS, NULL, "runs guest code at hardware speed");
        else if (d->emulation)
                doctor_say(d, DOCTOR_WARN, *why.hint ? why.hint : NULL,
                           "%s: QEMU/TCG only, guests are 10-50x slower", why.msg);
        else
                doctor_say(d, DOCTOR_FAIL, *why.hint ? why.hint : NULL, "%s", why.msg);
}

int doctor_kvm_fix(struct doctor *d, struct cc_err *err)
{
        (void)d;
        /* Only permissions can be cured: what the probe measured is the machine's nature. */
        if (!cc_exists(KVM) || access(KVM, R_OK | W_OK) == 0)
                return 0;
        return chmod(KVM, 0666) < 0 ? cc_fail_errno(err, errno, "chmod 666 " KVM) : 0;
}
