/*
 * What devices stand on: image files with their locks, TAP interfaces, sockets, boot files. All of
 * it is real, so that a test sees a second writer refused, a TAP's carrier come up and a stale
 * socket collide.
 */
#pragma once

#include <jansson.h>

#include "chain.h"

/* Open the image of a DiskConfig like the VMM does: readable or writable, direct or not, of the
 * declared type. An undeclared type is detected and written into the configuration. */
int ch_disk_open(json_t *disk, int *ret_fd, struct ch_error *e);

/* The image's lock: shared for a read-only disk, else exclusive. Held as long as fd is. */
int ch_disk_lock(const json_t *disk, int fd, int release, struct ch_error *e);

enum ch_tap_mode { CH_TAP_OPEN, CH_TAP_REQUIRE, CH_TAP_OFF };

/* Attach to every queue of a NetConfig's TAP; host_mac is set on it or read from it. ret_fds is an
 * allocated array of *ret_n. */
int ch_tap_open(json_t *net, enum ch_tap_mode mode, int **ret_fds, size_t *ret_n,
                struct ch_error *e);

/* Bind the host side of a vsock device. */
int ch_vsock_bind(const char *path, int *ret_fd, struct ch_error *e);

/* Connect to a vhost-user backend. The real VMM tries for a minute, this one once. */
int ch_vhost_connect(const char *path, int *ret_fd, struct ch_error *e);

/* Kernel, firmware and initramfs of a payload: they are there and look like what they should be.
 * The initramfs is opened before the devices, the others when the VM boots. */
int ch_check_initramfs(const json_t *payload, struct ch_error *e);
int ch_check_kernel(const json_t *payload, struct ch_error *e);
