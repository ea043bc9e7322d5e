/*
 * InstanceStart: the order of checks in which Firecracker builds a machine, because the first thing
 * wrong is the one it names. A machine that could not be started is still not started and may be
 * configured and started again.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/json.h"
#include "cmdline.h"
#include "serial.h"
#include "vm.h"

#define START "Start microvm error: "

enum {
        HIGH_MEMORY = 0x100000, /* where a kernel may begin */
        GSI_FIRST = 5,          /* interrupt lines of MMIO devices: 5 to 23 */
        GSI_COUNT = 19,
        MMIO_FIRST = 0xc0001000,
};

static bool read_at(int fd, void *buf, size_t n, uint64_t offset)
{
        return offset <= INT64_MAX && pread(fd, buf, n, (off_t)offset) == (ssize_t)n;
}

/* What the kernel loader says of an ELF image; NULL: it loads. */
static const char *check_elf(int fd, uint64_t memory)
{
        Elf64_Ehdr eh;
        struct stat st;

        if (!read_at(fd, &eh, sizeof(eh), 0) || fstat(fd, &st) < 0)
                return "Unable to read elf header";
        if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
                return "Invalid Elf magic number";
        if (eh.e_ident[EI_DATA] != ELFDATA2LSB)
                return "Trying to load big-endian binary on little-endian machine";
        if (eh.e_phentsize != sizeof(Elf64_Phdr))
                return "Invalid program header size";
        if (eh.e_phoff < sizeof(eh))
                return "Invalid program header offset";
        if (eh.e_entry < HIGH_MEMORY)
                return "Invalid entry address";
        for (unsigned i = 0; i < eh.e_phnum; i++) {
                Elf64_Phdr ph;

                if (eh.e_phoff > INT64_MAX - 0x1000000 ||
                    !read_at(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)))
                        return "Unable to read program header";
                if (ph.p_type != PT_LOAD || ph.p_filesz == 0)
                        continue;
                if (ph.p_filesz > memory || ph.p_paddr > memory - ph.p_filesz ||
                    ph.p_filesz > (uint64_t)st.st_size ||
                    ph.p_offset > (uint64_t)st.st_size - ph.p_filesz)
                        return "Unable to read kernel image";
        }
        return NULL;
}

/* Whether there could be that much memory; none is kept. */
static bool allocate(const struct fcd_vm *vm, struct dbl_reply *reply)
{
        uint64_t mib = (uint64_t)json_integer_value(json_object_get(vm->machine, "mem_size_mib"));
        void *memory;

        if (mib > INT64_MAX >> 20) {
                fcd_fault(reply, START "Invalid Memory Configuration: Total sum of memory regions "
                                       "exceeds largest possible file offset");
                return false;
        }
        memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
                fcd_fault(reply,
                          START "Invalid Memory Configuration: Cannot create mmap region: %s",
                          fcd_os_error(errno));
                return false;
        }
        (void)munmap(memory, mib << 20);
        return true;
}

static bool load_kernel(const struct fcd_vm *vm, struct dbl_reply *reply)
{
        uint64_t memory = (uint64_t)json_integer_value(json_object_get(vm->machine, "mem_size_mib"))
                          << 20;
        const char *problem = NULL;
        struct stat st;

        /* The versions that also take a compressed image look no further into it here. */
        if (!dbl_setting_bool(vm->settings, "BZIMAGE", false))
                problem = check_elf(vm->kernel, memory);
        if (problem) {
                fcd_fault(reply,
                          START "System configuration error: Cannot load kernel due to invalid "
                                "memory configuration or invalid kernel image: Kernel Loader: "
                                "failed to load ELF kernel image: Kernel Loader: %s",
                          problem);
                return false;
        }
        if (vm->initrd < 0)
                return true;
        if (fstat(vm->initrd, &st) < 0 || (uint64_t)st.st_size >= memory)
                problem = "Failed to compute the initrd address.";
        else if (st.st_size == 0)
                problem = "Cannot load initrd due to an invalid memory configuration.";
        if (problem)
                fcd_fault(reply, START "Error with initrd initialization: %s.", problem);
        return !problem;
}

/* One virtio device on the bus and, without PCI, on the command line. */
static bool attach(const struct fcd_vm *vm, char **cmdline, size_t *count, struct dbl_reply *reply)
{
        CC_FREE char *word = NULL;
        const char *problem;
        size_t n = (*count)++;

        if (vm->pci) {
                if (n < FCD_PCI_DEVICES)
                        return true;
                fcd_fault(reply, START "Could not attach device: Error attach PCI device: PCI "
                                       "root error: Could not find an available device slot on "
                                       "the PCI bus.");
                return false;
        }
        if (n >= GSI_COUNT) {
                fcd_fault(reply, START "Could not attach device: MMIO transport error: Failed to "
                                       "allocate requested resource: The requested resource is "
                                       "not available.");
                return false;
        }
        word = xasprintf("virtio_mmio.device=4K@0x%zx:%zu", (size_t)MMIO_FIRST + n * 0x1000,
                         GSI_FIRST + n);
        problem = fcd_cmdline_add(cmdline, word);
        if (problem)
                fcd_fault(reply,
                          START "Could not attach device: MMIO transport error: Failed to allocate "
                                "requested resourc: %s",
                          problem);
        return !problem;
}

/* The root drive's words, should there be one. */
static const char *add_root(const json_t *drive, char **cmdline)
{
        const char *uuid = json_string_value(json_object_get(drive, "partuuid"));
        CC_FREE char *root = uuid ? xasprintf("root=PARTUUID=%s", uuid) : xstrdup("root=/dev/vda");
        const char *problem;

        if (!json_is_true(json_object_get(drive, "is_root_device")))
                return NULL;
        problem = fcd_cmdline_add(cmdline, root);
        return problem ? problem
                       : fcd_cmdline_add(cmdline,
                                         json_is_true(json_object_get(drive, "is_read_only"))
                                                 ? "ro"
                                                 : "rw");
}

/* VM generation id and clock are devices too: without PCI they want interrupt lines. */
static bool attach_platform(const struct fcd_vm *vm, size_t count, struct dbl_reply *reply)
{
        static const char *const names[] = { "VMGenID", "VMClock" };
        size_t taken = vm->pci ? 0 : count;
        size_t wanted = vm->minor >= 15 ? 2 : 1;

        for (size_t i = 0; i < wanted; i++) {
                if (taken + i < GSI_COUNT)
                        continue;
                fcd_fault(reply,
                          START "Could not attach device: Error while registering ACPI with KVM: "
                                "%s: Could not allocate GSI: The requested resource is not "
                                "available.",
                          names[i]);
                return false;
        }
        return true;
}

static bool attach_all(struct fcd_vm *vm, char **cmdline, struct dbl_reply *reply)
{
        size_t count = 0;
        const char *problem = vm->pci ? NULL : fcd_cmdline_add(cmdline, "pci=off");

        if (!problem && vm->balloon && !attach(vm, cmdline, &count, reply))
                return false;
        for (size_t i = 0; !problem && i < vm->drives.n; i++) {
                problem = add_root(vm->drives.v[i].config, cmdline);
                if (!problem && !attach(vm, cmdline, &count, reply))
                        return false;
        }
        if (problem) {
                fcd_fault(reply, START "Invalid kernel command line: %s", problem);
                return false;
        }
        for (size_t i = 0; i < vm->nics.n + (vm->vsock != NULL) + (vm->entropy != NULL); i++) {
                if (!attach(vm, cmdline, &count, reply))
                        return false;
        }
        return attach_platform(vm, count, reply);
}

static void power_on(struct fcd_vm *vm, const char *cmdline)
{
        const char **macs = xcalloc(vm->nics.n + 1, sizeof(*macs));
        struct dbl_guest_machine machine = {
                .cmdline = cmdline,
                .cpus = (int)json_integer_value(json_object_get(vm->machine, "vcpu_count")),
                .disks = vm->drives.n,
                .macs = macs,
                .n_nics = vm->nics.n,
                .silent = !strstr(cmdline, "console=ttyS0"),
        };

        for (size_t i = 0; i < vm->nics.n; i++) {
                macs[i] = json_string_value(json_object_get(vm->nics.v[i].config, "guest_mac"));
                if (!macs[i])
                        macs[i] = "";
        }
        dbl_guest_boot(vm->guest, &machine);
        free(macs);
}

void fcd_start(struct fcd_vm *vm, struct dbl_reply *reply)
{
        CC_FREE char *cmdline = NULL;
        unsigned char nonce[16];
        int errnum;

        if (!vm->boot) {
                fcd_fault(reply, START "Cannot start microvm without kernel configuration.");
                return;
        }
        if (!allocate(vm, reply))
                return;
        cmdline = xstrdup(vm->cmdline);
        errnum = fcd_serial_open(vm);
        if (errnum) {
                fcd_fault(reply, START "Failed to create device manager: Error with EventFd: %s",
                          fcd_os_error(errnum));
                return;
        }
        if (!load_kernel(vm, reply) || !attach_all(vm, &cmdline, reply))
                return;
        if (vm->pci && strstr(cmdline, "pci=off"))
                fcd_violation(vm, "pci=off on the command line of a PCI machine");
        fcd_serial_start(vm);
        cc_random(nonce, sizeof(nonce));
        cc_hex(nonce, sizeof(nonce), vm->nonce);
        vm->state = FCD_RUNNING;
        power_on(vm, cmdline);
        fcd_ok(reply);
}
