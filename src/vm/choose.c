/* Which driver a new VM gets (DESIGN §3). Every other verb takes the driver from the record. */
#include "base/log.h"
#include "base/str.h"
#include "vm/internal.h"

/* A driver may be chosen without being named when it boots every kind of image. */
#define AUTO_CAPS (HV_CAP_DIRECT_BOOT | HV_CAP_UEFI)

/* A driver that was named need not pass the KVM probe: its user may know better, and the VMM says
 * itself what it misses. */
static int try_driver(const struct config *c, const struct hv_driver *drv, bool named,
                      struct cc_buf *detail, struct cc_err *err)
{
        struct hv_env env;
        int r;

        vm_hv_env(c, drv, &env);
        r = drv->probe(&env, detail, err);
        if (r < 0)
                return r;
        if (!named && !(drv->caps & HV_CAP_EMULATION))
                return hv_kvm_probe(env.cache_dir, err);
        return 0;
}

/* One line, once per create: which driver, and why not the better one. */
static void tell(const struct hv_driver *drv, const struct cc_buf *detail, const char *skipped)
{
        if (cc_isempty(detail->data))
                return;
        if (cc_startswith(detail->data, "kvm") && *skipped)
                cc_info("vm.create", "using %s with %s: %s", drv->name, detail->data, skipped);
        else
                cc_info("vm.create", "using %s with %s", drv->name, detail->data);
}

static int choose_auto(const struct config *c, const struct hv_driver **ret, struct cc_err *err)
{
        struct cc_err first = CC_ERR_INIT;
        const struct hv_driver *drv;

        for (size_t i = 0; (drv = hv_driver_at(i)); i++) {
                CC_BUF struct cc_buf detail = { 0 };
                struct cc_err why = CC_ERR_INIT;

                if ((drv->caps & AUTO_CAPS) != AUTO_CAPS)
                        continue;
                if (try_driver(c, drv, false, &detail, &why) == 0) {
                        if (drv->caps & HV_CAP_EMULATION)
                                tell(drv, &detail, first.msg);
                        *ret = drv;
                        return 0;
                }
                cc_join(&first, &why);
        }
        if (first.class == CC_OK)
                return cc_fail(err, CC_UNAVAILABLE, "no hypervisor is built in");
        (void)cc_err_copy(err, &first);
        return cc_wrap(err, "no usable hypervisor");
}

int vm_choose_driver(const struct config *c, const char *forced, const struct hv_driver **ret,
                     struct cc_err *err)
{
        CC_BUF struct cc_buf detail = { 0 };
        const struct hv_driver *drv;
        int r;

        if (cc_isempty(forced))
                forced = c->use_firecracker ? "firecracker" : c->hypervisor;
        if (cc_isempty(forced) || cc_streq(forced, "auto"))
                return choose_auto(c, ret, err);
        r = hv_driver_find(forced, &drv, err);
        if (r == 0)
                r = try_driver(c, drv, true, &detail, err);
        if (r < 0)
                return r;
        if (drv->caps & HV_CAP_EMULATION)
                tell(drv, &detail, "");
        *ret = drv;
        return 0;
}
