/* Where things live below root_dir, run_dir and log_dir (state.md §1). Only path arithmetic: every
 * function returns an owned string and touches nothing. */
#pragma once

#include <sys/types.h>

#include "config/config.h"

/* "cloudhypervisor", "firecracker", "qemu": the directory of a driver is given by the driver row.
 */
char *layout_meta_dir(const struct config *c);
char *layout_lock_dir(const struct config *c);                      /* root/locks */
char *layout_vm_lock(const struct config *c, const char *id);       /* root/locks/vm/<id>.lock */
char *layout_blob_lock(const struct config *c, const char *hex);    /* root/locks/blob/<hex>.lock */
char *layout_oci_blob(const struct config *c, const char *hex);     /* root/oci/blobs/<hex>.erofs */
char *layout_oci_boot_dir(const struct config *c, const char *hex); /* root/oci/boot/<hex> */
char *layout_oci_temp(const struct config *c);                      /* root/oci/temp */
char *layout_cloudimg_blob(const struct config *c, const char *hex);
char *layout_cloudimg_temp(const struct config *c);
char *layout_snap_lock(const struct config *c, const char *id); /* root/locks/snap/<id>.lock */
char *layout_snapshot_dir(const struct config *c,
                          const char *id);         /* root/snapshot/localfile/<id> */
char *layout_firmware_dir(const struct config *c); /* root/firmware */
char *layout_vms_dir(const struct config *c, const char *backend_dir);
char *layout_cni_results(const struct config *c); /* root/cni/cache/results */
char *layout_vm_run_dir(const struct config *c, const char *backend_dir, const char *id);
char *layout_vm_log_dir(const struct config *c, const char *backend_dir, const char *id);

/* Append every directory that records and locks need; and the mode that each is made with. */
void layout_dirs(const struct config *c, struct cc_strv *ret);
mode_t layout_dir_mode(const struct config *c, const char *dir);

/* mkdir -p every directory that records and locks need (0750; meta 0700). */
int layout_create(const struct config *c, struct cc_err *err);
