#include "model.h"

#define VARIANTS(...)                                                                              \
        .variants = (const char *const[])                                                          \
        {                                                                                          \
                __VA_ARGS__, NULL                                                                  \
        }
#define FIELDS(...)                                                                                \
        .fields = (const struct ch_field[])                                                        \
        {                                                                                          \
                __VA_ARGS__,                                                                       \
                {                                                                                  \
                        0                                                                          \
                }                                                                                  \
        }

/* What every PCI device has; the console and the built-in devices have it since v52. */
#define PCI_COMMON(first)                                                                          \
        { "id", CH_STRING, .since = first },                                                       \
                { "iommu", CH_BOOL, CH_SKIP_FALSE, "false", .since = 0 },                          \
                { "pci_segment", CH_U16, 0, "0", .since = first },                                 \
        {                                                                                          \
                "pci_device_id", CH_U8, .since = 52                                                \
        }

/* clang-format off */

static const struct ch_object token_bucket = {
        "TokenBucketConfig", FIELDS(
                { "size", CH_U64, CH_REQUIRED },
                { "one_time_burst", CH_U64 },
                { "refill_time", CH_U64, CH_REQUIRED }), .closed = true,
};

static const struct ch_object rate_limiter = {
        "RateLimiterConfig", FIELDS(
                { "bandwidth", CH_OBJECT, .object = &token_bucket },
                { "ops", CH_OBJECT, .object = &token_bucket }), .closed = true,
};

static const struct ch_object topology = {
        "CpuTopology", FIELDS(
                { "threads_per_core", CH_U16, CH_REQUIRED },
                { "cores_per_die", CH_U16, CH_REQUIRED },
                { "dies_per_package", CH_U16, CH_REQUIRED },
                { "packages", CH_U16, CH_REQUIRED }),
};

static const struct ch_object cpu_affinity = {
        "CpuAffinity", FIELDS(
                { "vcpu", CH_U32, CH_REQUIRED },
                { "host_cpus", CH_INT_LIST, CH_REQUIRED, .element = CH_USIZE }),
};

static const struct ch_object cpu_features = {
        "CpuFeatures", FIELDS({ "amx", CH_BOOL, 0, "false" }),
};

static const struct ch_object cpus = {
        "CpusConfig", FIELDS(
                { "boot_vcpus", CH_U32, CH_REQUIRED },
                { "max_vcpus", CH_U32, CH_REQUIRED },
                { "topology", CH_OBJECT, .object = &topology },
                { "kvm_hyperv", CH_BOOL, 0, "false" },
                { "max_phys_bits", CH_U8, 0, "46" },
                { "affinity", CH_LIST, .object = &cpu_affinity },
                { "features", CH_OBJECT, CH_DEFAULTS, .object = &cpu_features },
                { "nested", CH_BOOL, 0, "true" },
                { "core_scheduling", CH_ENUM, 0, "\"Vm\"", VARIANTS("Vm", "Vcpu", "Off"), .since = 52 },
                { "profile", CH_ENUM, 0, "\"Host\"", VARIANTS("Host"), .since = 53 }),
};

static const struct ch_object memory_zone = {
        "MemoryZoneConfig", FIELDS(
                { "id", CH_STRING, CH_REQUIRED },
                { "size", CH_U64, CH_REQUIRED },
                { "file", CH_PATH },
                { "shared", CH_BOOL, 0, "false" },
                { "hugepages", CH_BOOL, 0, "false" },
                { "hugepage_size", CH_U64 },
                { "host_numa_node", CH_U32 },
                { "hotplug_size", CH_U64 },
                { "hotplugged_size", CH_U64 },
                { "prefault", CH_BOOL, 0, "false" },
                { "reserve", CH_BOOL, 0, "false", .since = 53 },
                { "mergeable", CH_BOOL, 0, "false", .since = 53 }),
};

static const struct ch_object memory = {
        "MemoryConfig", FIELDS(
                { "size", CH_U64, CH_REQUIRED },
                { "mergeable", CH_BOOL, 0, "false" },
                { "hotplug_method", CH_ENUM, 0, "\"Acpi\"", VARIANTS("Acpi", "VirtioMem") },
                { "hotplug_size", CH_U64 },
                { "hotplugged_size", CH_U64 },
                { "shared", CH_BOOL, 0, "false" },
                { "hugepages", CH_BOOL, 0, "false" },
                { "hugepage_size", CH_U64 },
                { "prefault", CH_BOOL, 0, "false" },
                { "reserve", CH_BOOL, 0, "false", .since = 53 },
                { "zones", CH_LIST, .object = &memory_zone },
                { "thp", CH_BOOL, 0, "true" }),
};

static const struct ch_object payload = {
        "PayloadConfig", FIELDS(
                { "firmware", CH_PATH },
                { "kernel", CH_PATH },
                { "cmdline", CH_STRING },
                { "initramfs", CH_PATH }),
};

static const struct ch_object queue_affinity = {
        "VirtQueueAffinity", FIELDS(
                { "queue_index", CH_U16, CH_REQUIRED },
                { "host_cpus", CH_INT_LIST, CH_REQUIRED, .element = CH_USIZE }),
};

const struct ch_object ch_disk = {
        "DiskConfig", FIELDS(
                PCI_COMMON(0),
                { "path", CH_PATH },
                { "readonly", CH_BOOL, 0, "false" },
                { "direct", CH_BOOL, 0, "false" },
                { "num_queues", CH_USIZE, 0, "1" },
                { "queue_size", CH_U16, 0, "128" },
                { "vhost_user", CH_BOOL, 0, "false" },
                { "vhost_socket", CH_STRING },
                { "rate_limit_group", CH_STRING },
                { "rate_limiter_config", CH_OBJECT, .object = &rate_limiter },
                { "disable_io_uring", CH_BOOL, 0, "false" },
                { "disable_aio", CH_BOOL, 0, "false" },
                { "serial", CH_STRING },
                { "queue_affinity", CH_LIST, .object = &queue_affinity },
                { "backing_files", CH_BOOL, 0, "false" },
                { "sparse", CH_BOOL, 0, "true" },
                { "image_type", CH_ENUM, 0, "\"Unknown\"",
                  VARIANTS("FixedVhd", "Qcow2", "Raw", "Vhdx", "Unknown") },
                { "lock_granularity", CH_ENUM, 0, "\"ByteRange\"", VARIANTS("ByteRange", "Full"),
                  .since = 52 }),
};

const struct ch_object ch_net = {
        "NetConfig", FIELDS(
                PCI_COMMON(0),
                { "tap", CH_STRING },
                { "ip", CH_STRING },
                { "mask", CH_STRING },
                { "mac", CH_MAC, CH_RANDOM_MAC },
                { "host_mac", CH_MAC },
                { "mtu", CH_U16 },
                { "num_queues", CH_USIZE, 0, "2" },
                { "queue_size", CH_U16, 0, "256" },
                { "vhost_user", CH_BOOL, 0, "false" },
                { "vhost_socket", CH_STRING },
                { "vhost_mode", CH_ENUM, 0, "\"Client\"", VARIANTS("Client", "Server") },
                { "fds", CH_INT_LIST, .element = CH_I32 },
                { "rate_limiter_config", CH_OBJECT, .object = &rate_limiter },
                { "offload_tso", CH_BOOL, 0, "true" },
                { "offload_ufo", CH_BOOL, 0, "true" },
                { "offload_csum", CH_BOOL, 0, "true" }),
};

static const struct ch_object rng = {
        "RngConfig", FIELDS(PCI_COMMON(52), { "src", CH_PATH, CH_REQUIRED }),
};

static const struct ch_object balloon = {
        "BalloonConfig", FIELDS(
                PCI_COMMON(52),
                { "size", CH_U64, CH_REQUIRED },
                { "deflate_on_oom", CH_BOOL, 0, "false" },
                { "free_page_reporting", CH_BOOL, 0, "false" }),
};

const struct ch_object ch_fs = {
        "FsConfig", FIELDS(
                PCI_COMMON(0),
                { "tag", CH_STRING, CH_REQUIRED },
                { "socket", CH_PATH, CH_REQUIRED },
                { "num_queues", CH_USIZE, 0, "1" },
                { "queue_size", CH_U16, 0, "1024" }),
};

#define MODES VARIANTS("Off", "Pty", "Tty", "File", "Socket", "Null")

static const struct ch_object serial = {
        "SerialConfig", FIELDS(
                { "file", CH_PATH },
                { "mode", CH_ENUM, CH_REQUIRED, MODES },
                { "iommu", CH_BOOL, CH_READ_ONLY },
                { "socket", CH_PATH }),
};

static const struct ch_object console = {
        "ConsoleConfig", FIELDS(
                { "file", CH_PATH },
                { "mode", CH_ENUM, CH_REQUIRED, MODES },
                { "socket", CH_PATH },
                PCI_COMMON(52)),
};

static const struct ch_object debug_console = {
        "DebugConsoleConfig", FIELDS(
                { "file", CH_PATH },
                { "mode", CH_ENUM, CH_REQUIRED, MODES },
                { "iobase", CH_U16 }),
};

const struct ch_object ch_device = {
        "DeviceConfig", FIELDS(
                PCI_COMMON(0),
                { "path", CH_PATH },
                { "fd", CH_I32, .since = 53 },
                { "x_nv_gpudirect_clique", CH_U8 },
                { "x_exclude_mmap_bars", CH_INT_LIST, 0, "[]", .element = CH_U64, .since = 53 }),
};

const struct ch_object ch_vsock = {
        "VsockConfig", FIELDS(
                PCI_COMMON(0),
                { "cid", CH_U32, CH_REQUIRED },
                { "socket", CH_PATH, CH_REQUIRED }),
};

static const struct ch_object platform = {
        "PlatformConfig", FIELDS(
                { "num_pci_segments", CH_U16, 0, "1" },
                { "iommu_segments", CH_INT_LIST, .element = CH_U16 },
                { "iommu_address_width_bits", CH_U8, 0, "64" },
                { "system_serial_number", CH_STRING },
                { "serial_number", CH_STRING, CH_READ_ONLY, .real = "system_serial_number" },
                { "system_uuid", CH_STRING },
                { "uuid", CH_STRING, CH_READ_ONLY, .real = "system_uuid" },
                { "oem_strings", CH_STRING_LIST },
                { "iommufd", CH_BOOL, 0, "false", .since = 53 },
                { "vfio_p2p_dma", CH_BOOL, 0, "true", .since = 53 }),
};

static const struct ch_object rtc = { "RtcConfig", FIELDS(PCI_COMMON(53)) };

const struct ch_object ch_vm_config = {
        "VmConfig", FIELDS(
                { "cpus", CH_OBJECT, CH_DEFAULTS, "{\"boot_vcpus\":1,\"max_vcpus\":1}", .object = &cpus },
                { "memory", CH_OBJECT, CH_DEFAULTS, "{\"size\":536870912}", .object = &memory },
                { "payload", CH_OBJECT, .object = &payload },
                { "disks", CH_LIST, .object = &ch_disk },
                { "net", CH_LIST, .object = &ch_net },
                { "rng", CH_OBJECT, CH_DEFAULTS, "{\"src\":\"/dev/urandom\"}", .object = &rng },
                { "balloon", CH_OBJECT, .object = &balloon },
                { "fs", CH_LIST, .object = &ch_fs },
                { "serial", CH_OBJECT, CH_DEFAULTS, "{\"mode\":\"Null\"}", .object = &serial },
                { "console", CH_OBJECT, CH_DEFAULTS, "{\"mode\":\"Tty\"}", .object = &console },
                { "debug_console", CH_OBJECT, CH_DEFAULTS, "{\"mode\":\"Off\",\"iobase\":233}",
                  .object = &debug_console },
                { "devices", CH_LIST, .object = &ch_device },
                { "vsock", CH_OBJECT, .object = &ch_vsock },
                { "pvpanic", CH_BOOL, 0, "false" },
                { "iommu", CH_BOOL, 0, "false" },
                { "watchdog", CH_BOOL, 0, "false" },
                { "rtc", CH_OBJECT, .object = &rtc, .since = 53 },
                { "platform", CH_OBJECT, .object = &platform },
                { "landlock_enable", CH_BOOL, 0, "false" }),
};

const struct ch_object ch_remove_device = {
        "VmRemoveDeviceData", FIELDS({ "id", CH_STRING, CH_REQUIRED }),
};

const struct ch_object ch_snapshot = {
        "VmSnapshotConfig", FIELDS({ "destination_url", CH_STRING, CH_REQUIRED }),
};

static const struct ch_object restored_net = {
        "RestoredNetConfig", FIELDS(
                { "id", CH_STRING, CH_REQUIRED },
                { "num_fds", CH_USIZE, 0, "0" },
                { "fds", CH_INT_LIST, .element = CH_I32 }),
};

const struct ch_object ch_restore = {
        "RestoreConfig", FIELDS(
                { "source_url", CH_PATH, CH_REQUIRED },
                { "prefault", CH_BOOL, 0, "false" },
                { "memory_restore_mode", CH_ENUM, 0, "\"Copy\"", VARIANTS("Copy", "OnDemand"), .since = 52 },
                { "net_fds", CH_LIST, .object = &restored_net },
                { "resume", CH_BOOL, 0, "false", .since = 52 }),
};

const struct ch_object ch_resize = {
        "VmResizeData", FIELDS(
                { "desired_vcpus", CH_U32 },
                { "desired_ram", CH_U64 },
                { "desired_balloon", CH_U64 }),
};
/* clang-format on */
