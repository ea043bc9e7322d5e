/* The driver table, made from drivers.def, and the two questions asked of it. See driver.h. */
#include <stddef.h>

#include "base/str.h"
#include "hv/driver.h"

#define HV_DRIVER(n) extern const struct hv_driver hv_driver_##n;
#include "hv/drivers.def"
#undef HV_DRIVER

#define HV_DRIVER(n) &hv_driver_##n,
static const struct hv_driver *const drivers[] = {
#include "hv/drivers.def"
};
#undef HV_DRIVER

/* What a record without a driver name means: upstream wrote none for its first driver. */
#define UNNAMED_DRIVER "cloud-hypervisor"

const struct hv_driver *hv_driver_at(size_t i)
{
        return i < CC_ARRAY_LEN(drivers) ? drivers[i] : NULL;
}

int hv_driver_find(const char *name, const struct hv_driver **ret, struct cc_err *err)
{
        CC_STRV struct cc_strv known = { 0 };
        CC_FREE char *list = NULL;

        if (cc_isempty(name))
                name = UNNAMED_DRIVER;
        for (size_t i = 0; i < CC_ARRAY_LEN(drivers); i++) {
                if (cc_streq(drivers[i]->name, name)) {
                        *ret = drivers[i];
                        return 0;
                }
                cc_strv_add(&known, drivers[i]->name);
        }
        list = cc_strv_join(&known, ", ");
        return cc_fail(err, CC_UNSUPPORTED, "hypervisor \"%s\" is not available in this build (%s)",
                       name, list);
}

int hv_require_for(const struct hv_driver *drv, unsigned cap, const char *verb, const char *what,
                   struct cc_err *err)
{
        if ((drv->caps & cap) == cap)
                return 0;
        return cc_fail(err, CC_UNSUPPORTED, "%s: backend %s: backend does not support %s", verb,
                       drv->name, what);
}

int hv_require_plug(const struct hv_driver *drv, unsigned cap, bool pci, const char *verb,
                    const char *what, struct cc_err *err)
{
        bool mmio = (drv->caps & HV_CAP_PCI_FLAG) && !pci;

        if ((drv->caps & cap) != cap || !mmio)
                return hv_require_for(drv, cap, verb, what, err);
        return cc_fail(err, CC_UNSUPPORTED,
                       "%s: backend %s: backend does not support %s: the VM boots on the MMIO "
                       "transport (created without --pci)",
                       verb, drv->name, what);
}

int hv_require(const struct hv_driver *drv, unsigned cap, const char *what, struct cc_err *err)
{
        return hv_require_for(drv, cap, what, what, err);
}

int hv_console_open(const char *driver, const char *run_dir, int vmm_pidfd, int *ret,
                    struct cc_err *err)
{
        const struct hv_driver *drv;
        int r = hv_driver_find(driver, &drv, err);

        return r < 0 ? r : drv->console_open(run_dir, vmm_pidfd, ret, err);
}
