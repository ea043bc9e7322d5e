/*
 * The request bodies of Firecracker's API as tables for decode.h: what 1.16.1 takes, with the
 * version that introduced a field where that is later than 1.13. Bodies of requests that cocoon
 * must not make (memory hot-plug, pmem, metadata service) are not here.
 */
#pragma once

#include "decode.h"

extern const struct fcd_schema fcd_machine_config;
extern const struct fcd_schema fcd_machine_update;
extern const struct fcd_schema fcd_boot_source;
extern const struct fcd_schema fcd_drive;
extern const struct fcd_schema fcd_drive_update;
extern const struct fcd_schema fcd_net;
extern const struct fcd_schema fcd_net_update;
extern const struct fcd_schema fcd_balloon;
extern const struct fcd_schema fcd_balloon_update;
extern const struct fcd_schema fcd_balloon_stats;
extern const struct fcd_schema fcd_vsock;
extern const struct fcd_schema fcd_entropy;
extern const struct fcd_schema fcd_serial;
extern const struct fcd_schema fcd_logger;
extern const struct fcd_schema fcd_metrics;
extern const struct fcd_schema fcd_action;
extern const struct fcd_schema fcd_vm_state;
extern const struct fcd_schema fcd_snapshot_create;
extern const struct fcd_schema fcd_snapshot_load;
