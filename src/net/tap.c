/* TAP devices. See tap.h. */
#include "net/tap.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/str.h"

int tap_create(int tun, const char *name, int64_t pairs, struct cc_err *err)
{
        unsigned flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL;
        struct ifreq ifr = { 0 };

        if (cc_isempty(name) || strlen(name) >= IFNAMSIZ)
                return cc_fail(err, CC_INVALID, "TAP device name \"%s\" is not valid", name);
        if (pairs > 1)
                flags |= IFF_MULTI_QUEUE;
        memcpy(ifr.ifr_name, name, strlen(name) + 1);
        ifr.ifr_flags = (short)flags;
        if (ioctl(tun, TUNSETIFF, &ifr) < 0) {
                int sys = errno;
                int r = cc_fail_errno(err, sys, "create TAP device %s", name);

                if (sys == EBUSY || sys == EEXIST) {
                        r = cc_fail(err, CC_CONFLICT,
                                    "create TAP device %s: it exists already (Device or resource "
                                    "busy)",
                                    name);
                        if (err)
                                err->sys = sys;
                }
                return r;
        }
        if (ioctl(tun, TUNSETPERSIST, 1) < 0)
                return cc_fail_errno(err, errno, "keep TAP device %s", name);
        return 0;
}
