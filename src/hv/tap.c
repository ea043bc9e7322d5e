/* Looking at and opening existing TAP devices inside a VM's network namespace. See launch.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/str.h"
#include "hv/launch.h"

/*
 * TUNSETIFF creates a device that does not exist, and one created here would vanish with the VMM:
 * so its existence is asked first, on a socket of the same namespace.
 */
static int tap_exists(const char *name, struct cc_err *err)
{
        CC_CLOSE int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq ifr = { 0 };

        if (sock < 0)
                return cc_fail_errno(err, errno, "create socket");
        memcpy(ifr.ifr_name, name, strlen(name) + 1);
        if (ioctl(sock, SIOCGIFFLAGS, &ifr) < 0)
                return cc_fail_errno(err, errno, "TAP device %s", name);
        return 0;
}

static int open_queues(const char *name, bool make, size_t pairs, int *fds, struct cc_err *err)
{
        short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        int r = make ? 0 : tap_exists(name, err);

        if (r < 0)
                return r;
        if (make && pairs > 1)
                flags |= IFF_MULTI_QUEUE;
        for (size_t i = 0; i < pairs; i++) {
                struct ifreq ifr = { 0 };

                fds[i] = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
                if (fds[i] < 0)
                        return cc_fail_errno(err, errno, "open /dev/net/tun");
                memcpy(ifr.ifr_name, name, strlen(name) + 1);
                ifr.ifr_flags = flags;
                if (ioctl(fds[i], TUNSETIFF, &ifr) == 0)
                        continue;
                /* EINVAL on the first queue: the device has the other kind of queueing. */
                if (errno != EINVAL || i > 0 || (flags & IFF_MULTI_QUEUE))
                        return cc_fail_errno(err, errno, "attach to TAP device %s", name);
                flags |= IFF_MULTI_QUEUE;
                ifr.ifr_flags = flags;
                if (ioctl(fds[i], TUNSETIFF, &ifr) < 0)
                        return cc_fail_errno(err, errno, "attach to TAP device %s", name);
        }
        return 0;
}

static int check_name(const char *name, struct cc_err *err)
{
        if (!cc_isempty(name) && strlen(name) < IFNAMSIZ)
                return 0;
        return cc_fail(err, CC_INVALID, "TAP device name \"%s\" is not valid", name ? name : "");
}

/* Visit a namespace ("" or NULL: stay). *ret_home is the way back, -1: there is none to go. */
static int enter(const char *netns, int *ret_home, struct cc_err *err)
{
        CC_CLOSE int home = -1;
        CC_CLOSE int target = -1;

        *ret_home = -1;
        if (cc_isempty(netns))
                return 0;
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (home < 0)
                return cc_fail_errno(err, errno, "open own network namespace");
        target = open(netns, O_RDONLY | O_CLOEXEC);
        if (target < 0)
                return cc_fail_errno(err, errno, "open network namespace %s", netns);
        if (setns(target, CLONE_NEWNET) < 0)
                return cc_fail_errno(err, errno, "enter network namespace %s", netns);
        *ret_home = TAKE_FD(home);
        return 0;
}

static void leave(int home)
{
        /* Going on in a guest's namespace would act on the wrong network (network.md §3). */
        if (home >= 0 && setns(home, CLONE_NEWNET) < 0)
                abort();
        if (home >= 0)
                close(home);
}

static int open_in(const char *netns, const char *name, bool make, size_t pairs, int *ret,
                   struct cc_err *err)
{
        int home = -1;
        int r = check_name(name, err);

        for (size_t i = 0; i < pairs; i++)
                ret[i] = -1;
        if (r == 0)
                r = enter(netns, &home, err);
        if (r < 0)
                return r;
        r = open_queues(name, make, pairs, ret, err);
        leave(home);
        for (size_t i = 0; r < 0 && i < pairs; i++) {
                if (ret[i] >= 0)
                        close(ret[i]);
                ret[i] = -1;
        }
        return r;
}

int hv_taps_check(const char *netns, const char *const *names, size_t n, struct cc_err *err)
{
        int home = -1;
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = check_name(names[i], err);
        if (r == 0)
                r = enter(netns, &home, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r == 0; i++)
                r = tap_exists(names[i], err);
        leave(home);
        return r;
}

int hv_tap_open(const char *netns, const char *name, size_t pairs, int *ret, struct cc_err *err)
{
        return open_in(netns, name, false, pairs, ret, err);
}

int hv_tap_make(const char *netns, const char *name, size_t pairs, int *ret, struct cc_err *err)
{
        return open_in(netns, name, true, pairs, ret, err);
}
