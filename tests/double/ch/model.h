/* The objects of the API (schema.h), from the published description and source of v53. */
#pragma once

#include "schema.h"

extern const struct ch_object ch_vm_config;
extern const struct ch_object ch_disk;
extern const struct ch_object ch_net;
extern const struct ch_object ch_fs;
extern const struct ch_object ch_device;
extern const struct ch_object ch_vsock;
extern const struct ch_object ch_remove_device;
extern const struct ch_object ch_snapshot;
extern const struct ch_object ch_restore;
extern const struct ch_object ch_resize;
