/* What each capability is to users. The drivers' own rows say who has it; docs/limitations.md is
 * made from both, and a test holds the commands to it. */
#include "hv/driver.h"

static const struct hv_cap_row rows[] = {
        { HV_CAP_DIRECT_BOOT, HV_CAP_ASKED, "OCI images (direct kernel boot)", "`vm run`" },
        { HV_CAP_UEFI, HV_CAP_ASKED, "cloud images (UEFI firmware)", "`vm run` of a cloud image" },
        { HV_CAP_WINDOWS, HV_CAP_ASKED, "Windows guests", "`--windows`" },
        { HV_CAP_SHARED_MEMORY, HV_CAP_ASKED, "guest memory shared with helpers",
          "`--shared-memory`" },
        { HV_CAP_HUGEPAGES, HV_CAP_ASKED, "guest memory from hugetlbfs", "`--hugepages`" },
        { HV_CAP_MERGEABLE, HV_CAP_ASKED, "guest memory that the host merges", "`--mergeable`" },
        { HV_CAP_NO_WATCHDOG, HV_CAP_ASKED, "a watchdog, which can be left out",
          "`--no-watchdog`" },
        { HV_CAP_PCI_FLAG, HV_CAP_ASKED, "a choice between PCI and MMIO", "`--pci`" },
        { HV_CAP_USER_NET, HV_CAP_ASKED, "a network without privileges", "`--network user`" },
        { HV_CAP_NIC_HOTPLUG, HV_CAP_ASKED,
          "NICs of a running VM (where `--pci` is a choice: with it)", "`vm net`" },
        { HV_CAP_DISK_ATTACH, HV_CAP_ASKED, "disks of a running VM (likewise)",
          "`vm disk attach`" },
        { HV_CAP_FS_ATTACH, HV_CAP_ASKED, "shared folders of a running VM", "`vm fs attach`" },
        { HV_CAP_DEVICE_ATTACH, HV_CAP_ASKED, "PCI devices of a running VM", "`vm device attach`" },
        { HV_CAP_SNAPSHOT, HV_CAP_ASKED, "snapshots, clones, hibernation", "`snapshot save`" },
        { HV_CAP_NIC_SWAP, HV_CAP_ASKED, "clones with more or fewer NICs", "`vm clone --nics`" },
        { HV_CAP_DISK_REQUEUE, HV_CAP_ASKED, "clones with another ring depth of disks",
          "`vm clone --disk-queue-size`" },
        { HV_CAP_VCPU_MAX, HV_CAP_ASKED, "processors beyond those that boot",
          "`vm debug --max-cpu`" },

        { HV_CAP_EMULATION, HV_CAP_QUIET, "runs without KVM", "not chosen where KVM is missing" },
        { HV_CAP_DIRECT_IO, HV_CAP_QUIET, "disks past the host's page cache",
          "buffered; `directio=` of a data disk is ignored with a warning" },
        { HV_CAP_DISK_QUEUES, HV_CAP_QUIET, "a queue per vCPU on disks", "one queue a disk" },
        { HV_CAP_SERIAL_NAMES, HV_CAP_QUIET, "disks that the guest knows by serial",
          "the guest finds them by their order, `/dev/vda` first" },
        { HV_CAP_BALLOON, HV_CAP_QUIET, "a balloon unless `--no-balloon`",
          "none, or only where the configuration says so" },

        { HV_CAP_ELF_KERNEL, HV_CAP_BOUND, "boots uncompressed ELF kernels only",
          "cocoon unpacks the image's kernel" },
        { HV_CAP_ONE_QUEUE, HV_CAP_BOUND, "one queue pair a NIC",
          "network throughput does not grow with the vCPUs" },
        { HV_CAP_FIXED_PATHS, HV_CAP_BOUND, "snapshots name disks by absolute paths",
          "they load only where root and run directories are the same" },
};

const struct hv_cap_row *hv_cap_row_at(size_t i)
{
        return i < CC_ARRAY_LEN(rows) ? &rows[i] : NULL;
}
