/* What plugging into a running QEMU shares: the list of what is plugged in, and taking one out. */
#pragma once

#include "hv/qemu/qmp.h"

/* Connect to the control socket of the machine in run_dir. watch: its pidfd, so that its end is
 * noticed at once; -1 without. */
int qemu_plug_connect(const char *run_dir, int watch, struct qmp **ret, struct cc_err *err);

/* Ids of the devices that have one ("nic0", "disk-rp8"). */
int qemu_plugged(struct qmp *q, struct cc_strv *ret, struct cc_err *err);

/* A string property of a device, "" when it is no string. Caller frees. */
int qemu_property(struct qmp *q, const char *id, const char *property, char **ret,
                  struct cc_err *err);

/*
 * Ask the guest to release device `id`, once, and wait until it has. Gone already is success; a
 * request that is pending is only waited for. TIMEOUT naming the device: nothing may be torn down.
 */
int qemu_unplug(struct qmp *q, const char *id, struct cc_err *err);
