/* See bodies.h. Columns: name, type, fallback, table of names or fields, since,
 * defaulted. */
#include "bodies.h"

#define REQUIRED NULL
#define OPTIONAL "null"

/* clang-format off */
#define SCHEMA(var, type_name, ...)                                                                \
        const struct fcd_schema var = {                                                            \
                .name = (type_name),                                                               \
                .fields = (const struct fcd_field[]){ __VA_ARGS__, { NULL } },                     \
        }
#define LOOSE_SCHEMA(var, type_name, ...)                                                          \
        const struct fcd_schema var = {                                                            \
                .name = (type_name),                                                               \
                .loose = true,                                                                     \
                .fields = (const struct fcd_field[]){ __VA_ARGS__, { NULL } },                     \
        }

static const char *const cpu_templates[] = { "C3", "T2", "T2S", "None", "T2CL", "T2A", NULL };
static const char *const huge_pages[] = { "None", "2M", NULL };
static const char *const cache_types[] = { "Unsafe", "Writeback", NULL };
static const char *const io_engines[] = { "Async", "Sync", NULL };
static const char *const action_types[] = { "FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL };
static const char *const vm_states[] = { "Paused", "Resumed", NULL };
static const char *const snapshot_types[] = { "Diff", "Full", NULL };
static const char *const mem_backends[] = { "File", "Uffd", NULL };

static LOOSE_SCHEMA(token_bucket, "TokenBucketConfig",
        { "size", FCD_U64, REQUIRED },
        { "one_time_burst", FCD_U64, OPTIONAL },
        { "refill_time", FCD_U64, REQUIRED });

static SCHEMA(rate_limiter, "RateLimiterConfig",
        { "bandwidth", FCD_OBJECT, OPTIONAL, &token_bucket },
        { "ops", FCD_OBJECT, OPTIONAL, &token_bucket });

SCHEMA(fcd_machine_config, "MachineConfig",
        { "vcpu_count", FCD_U8, REQUIRED },
        { "mem_size_mib", FCD_USIZE, REQUIRED },
        { "smt", FCD_BOOL, "false" },
        { "cpu_template", FCD_ENUM, OPTIONAL, cpu_templates, 0, true },
        { "track_dirty_pages", FCD_BOOL, "false" },
        { "huge_pages", FCD_ENUM, "\"None\"", huge_pages });

SCHEMA(fcd_machine_update, "MachineConfigUpdate",
        { "vcpu_count", FCD_U8, OPTIONAL, NULL, 0, true },
        { "mem_size_mib", FCD_USIZE, OPTIONAL, NULL, 0, true },
        { "smt", FCD_BOOL, OPTIONAL, NULL, 0, true },
        { "cpu_template", FCD_ENUM, OPTIONAL, cpu_templates, 0, true },
        { "track_dirty_pages", FCD_BOOL, OPTIONAL, NULL, 0, true },
        { "huge_pages", FCD_ENUM, OPTIONAL, huge_pages, 0, true });

SCHEMA(fcd_boot_source, "BootSourceConfig",
        { "kernel_image_path", FCD_STRING, REQUIRED },
        { "initrd_path", FCD_STRING, OPTIONAL },
        { "boot_args", FCD_STRING, OPTIONAL });

SCHEMA(fcd_drive, "BlockDeviceConfig",
        { "drive_id", FCD_STRING, REQUIRED },
        { "partuuid", FCD_STRING, OPTIONAL },
        { "is_root_device", FCD_BOOL, REQUIRED },
        { "cache_type", FCD_ENUM, "\"Unsafe\"", cache_types },
        { "is_read_only", FCD_BOOL, OPTIONAL },
        { "path_on_host", FCD_STRING, OPTIONAL },
        { "rate_limiter", FCD_OBJECT, OPTIONAL, &rate_limiter },
        { "io_engine", FCD_ENUM, OPTIONAL, io_engines },
        { "socket", FCD_STRING, OPTIONAL });

SCHEMA(fcd_drive_update, "BlockDeviceUpdateConfig",
        { "drive_id", FCD_STRING, REQUIRED },
        { "path_on_host", FCD_STRING, OPTIONAL },
        { "rate_limiter", FCD_OBJECT, OPTIONAL, &rate_limiter });

SCHEMA(fcd_net, "NetworkInterfaceConfig",
        { "iface_id", FCD_STRING, REQUIRED },
        { "host_dev_name", FCD_STRING, REQUIRED },
        { "guest_mac", FCD_MAC, OPTIONAL },
        { "mtu", FCD_U16, OPTIONAL, NULL, 16 },
        { "rx_rate_limiter", FCD_OBJECT, OPTIONAL, &rate_limiter },
        { "tx_rate_limiter", FCD_OBJECT, OPTIONAL, &rate_limiter });

SCHEMA(fcd_net_update, "NetworkInterfaceUpdateConfig",
        { "iface_id", FCD_STRING, REQUIRED },
        { "rx_rate_limiter", FCD_OBJECT, OPTIONAL, &rate_limiter },
        { "tx_rate_limiter", FCD_OBJECT, OPTIONAL, &rate_limiter });

SCHEMA(fcd_balloon, "BalloonDeviceConfig",
        { "amount_mib", FCD_U32, REQUIRED },
        { "deflate_on_oom", FCD_BOOL, REQUIRED },
        { "stats_polling_interval_s", FCD_U16, "0" },
        { "free_page_hinting", FCD_BOOL, "false", NULL, 14 },
        { "free_page_reporting", FCD_BOOL, "false", NULL, 14 });

SCHEMA(fcd_balloon_update, "BalloonUpdateConfig",
        { "amount_mib", FCD_U32, REQUIRED });

SCHEMA(fcd_balloon_stats, "BalloonUpdateStatsConfig",
        { "stats_polling_interval_s", FCD_U16, REQUIRED });

SCHEMA(fcd_vsock, "VsockDeviceConfig",
        { "vsock_id", FCD_STRING, OPTIONAL, NULL, 0, true },
        { "guest_cid", FCD_U32, REQUIRED },
        { "uds_path", FCD_STRING, REQUIRED });

SCHEMA(fcd_entropy, "EntropyDeviceConfig",
        { "rate_limiter", FCD_OBJECT, OPTIONAL, &rate_limiter });

SCHEMA(fcd_serial, "SerialConfig",
        { "serial_out_path", FCD_PATH, OPTIONAL },
        { "rate_limiter", FCD_OBJECT, OPTIONAL, &token_bucket, 16 });

SCHEMA(fcd_logger, "LoggerConfig",
        { "log_path", FCD_PATH, OPTIONAL },
        { "level", FCD_LEVEL, OPTIONAL },
        { "show_level", FCD_BOOL, OPTIONAL },
        { "show_log_origin", FCD_BOOL, OPTIONAL },
        { "module", FCD_STRING, OPTIONAL });

LOOSE_SCHEMA(fcd_metrics, "MetricsConfig",
        { "metrics_path", FCD_PATH, REQUIRED });

SCHEMA(fcd_action, "ActionBody",
        { "action_type", FCD_ENUM, REQUIRED, action_types });

SCHEMA(fcd_vm_state, "Vm",
        { "state", FCD_ENUM, REQUIRED, vm_states });

SCHEMA(fcd_snapshot_create, "CreateSnapshotParams",
        { "snapshot_type", FCD_ENUM, "\"Full\"", snapshot_types },
        { "snapshot_path", FCD_PATH, REQUIRED },
        { "mem_file_path", FCD_PATH, REQUIRED });

static SCHEMA(mem_backend, "MemBackendConfig",
        { "backend_path", FCD_PATH, REQUIRED },
        { "backend_type", FCD_ENUM, REQUIRED, mem_backends });

static LOOSE_SCHEMA(network_override, "NetworkOverride",
        { "iface_id", FCD_STRING, REQUIRED },
        { "host_dev_name", FCD_STRING, REQUIRED });

static LOOSE_SCHEMA(vsock_override, "VsockOverride",
        { "uds_path", FCD_STRING, REQUIRED });

SCHEMA(fcd_snapshot_load, "LoadSnapshotConfig",
        { "snapshot_path", FCD_PATH, REQUIRED },
        { "mem_file_path", FCD_PATH, OPTIONAL },
        { "mem_backend", FCD_OBJECT, OPTIONAL, &mem_backend },
        { "enable_diff_snapshots", FCD_BOOL, "false" },
        { "track_dirty_pages", FCD_BOOL, "false" },
        { "resume_vm", FCD_BOOL, "false" },
        { "network_overrides", FCD_LIST, "[]", &network_override },
        { "vsock_override", FCD_OBJECT, OPTIONAL, &vsock_override, 16 },
        { "clock_realtime", FCD_BOOL, "false", NULL, 16 });
/* clang-format on */
