/* The flags that describe a new VM (cli.md §4.2), shared by create, run and debug. */
#pragma once

#include "cli/cli.h"
#include "cli/data_disk.h"

struct vm_flags {
        bool fc, qemu;
        const char *name;
        int64_t cpu, memory, storage;
        int64_t nics, queue_size, disk_queue_size;
        const char *network, *bridge;
        struct cc_strv publish, label, data_disk;
        const char *user, *password;
        bool flat, no_direct_io, windows, shared_memory, hugepages, mergeable;
        bool no_watchdog, no_balloon, pci;
        int64_t cpu_weight, cpu_quota_us, cpu_period_us, cpu_burst_us;
        const char *cpuset_cpus;
};
extern const struct opt vm_machine_opts[], vm_disk_opts[], vm_net_opts[], vm_cgroup_opts[];
extern const struct opt_exclusive vm_excludes[];

/* The groups of a command whose option struct has `member` of type struct vm_flags. */
#define VM_FLAG_GROUPS(type, member)                                                               \
        { vm_machine_opts, offsetof(type, member), "Machine" },                                    \
                { vm_disk_opts, offsetof(type, member), "Disks" },                                 \
                { vm_net_opts, offsetof(type, member), "Network" },                                \
        {                                                                                          \
                vm_cgroup_opts, offsetof(type, member), "Limits"                                   \
        }

/* Turn flags into a request; strings are borrowed from the flags and from `disks`. */
int vm_flags_request(const struct vm_flags *f, const char *image, struct data_disks *disks,
                     struct vm_request *ret, struct cc_err *err);
