/*
 * The one builder of QEMU's command line (qemu.md §4.1): a pure function of the recipe (what the
 * guest can see) and the bindings (what this start plugs into it). Launch and `vm debug` both use
 * it, so they cannot drift. Whoever starts the process makes the descriptors that QEMU_FD_* name.
 */
#pragma once

#include "base/str.h"
#include "hv/qemu/recipe.h"

/* Descriptor numbers in the child. TAP queues follow from QEMU_FD_TAP, NIC by NIC. */
enum {
        QEMU_FD_STATE = 9, /* device state of a snapshot */
        QEMU_FD_MEMORY = 10,
        QEMU_FD_API = 11,
        QEMU_FD_EVENTS = 12,
        QEMU_FD_SERIAL = 13,
        QEMU_FD_AGENT = 14, /* QEMU_AGENTS of them */
        QEMU_FD_TAP = 20,
};

#define QEMU_CONSOLE_LOG "console.log" /* below the log dir */

struct qemu_bindings {
        const struct vm_spec *spec; /* names, paths, MACs, forwards; the hardware is the recipe's */
        const char *binary;
        const char *fw_code; /* file of pflash0: SeaBIOS or the UEFI code */
        const char *fw_vars; /* UEFI: this VM's writable variables; NULL none */
        char uuid[37];
        char generation[37]; /* vmgenid */
        /* For `vm debug`: nobody passes descriptors, so memory, sockets and TAPs go by name, and
         * the serial line is the terminal. What the guest sees is the same. */
        bool standalone;
        bool io_uring; /* else a thread pool serves the disks */
        bool vhost_net;
        int64_t guest_cid; /* with recipe.vsock */
        /* A machine that is loaded, not booted: it waits for its state, then for resume. */
        bool incoming;
        /* Guest memory is a private mapping of this file: a snapshot's memory.bin, shared by all
         * of its clones. NULL: the descriptor QEMU_FD_MEMORY. */
        const char *memory_file;
        bool memory_read_only; /* QEMU >= 8.2: the file need not be writable for that */
        /* User-mode stacks that are about to be replaced reach nothing; one per NIC, or NULL. */
        const bool *isolated;
};

/* CC_INVALID when recipe and spec disagree in number or kind of devices, or a string is not UTF-8
 * (JSON could not carry it). */
int qemu_argv(const struct qemu_recipe *r, const struct qemu_bindings *b, struct cc_strv *ret,
              struct cc_err *err);

/* NIC i as the argument of device_add or -device: on root port i, over netdev net<i>. NULL when the
 * MAC is not UTF-8. New reference. */
json_t *qemu_nic_device(const struct qemu_nic *n, size_t i, const char *mac);

/* Disk i as the arguments of blockdev-add and device_add, or of -blockdev and -device: node blk<i>,
 * device disk<i>. -CC_INVALID (no text) when a string is not UTF-8. New references. */
int qemu_disk_options(const struct qemu_disk *d, const struct hv_disk *disk, size_t i, bool uefi,
                      bool io_uring, json_t **ret_blockdev, json_t **ret_device);

/* The part of the command line that identifies a VM's process (qemu.md §4.2). Caller frees. */
char *qemu_argv_needle(const char *log_dir);
