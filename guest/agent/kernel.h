/* The few words of the kernel's interface that a libc without the kernel's headers does not have.
 */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef AF_VSOCK
#define AF_VSOCK 40
#endif
#define VSOCK_CID_ANY  0xffffffffU
#define VSOCK_CID_HOST 2U

struct vsock_address {
        sa_family_t family;
        uint16_t reserved;
        uint32_t port;
        uint32_t cid;
        uint8_t zero[4];
};

#define UEVENT_PROTOCOL 15 /* of AF_NETLINK */
#define UEVENT_GROUP    1  /* the kernel's own, not udev's */

struct netlink_address {
        sa_family_t family;
        uint16_t pad;
        uint32_t pid;
        uint32_t groups;
};

/* Of /dev/urandom. */
#define RANDOM_ADD_ENTROPY _IOW('R', 0x03, int[2])
#define RANDOM_RESEED      _IO('R', 0x07)
