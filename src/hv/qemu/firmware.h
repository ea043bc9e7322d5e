/* Where firmware files are: SeaBIOS for direct boot, an OVMF pair for UEFI (qemu.md §4.2). */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct qemu_firmware {
        char *code;
        char *vars;                   /* template of the variables; NULL none */
        int64_t code_size, vars_size; /* bytes */
};

void qemu_firmware_clear(struct qemu_firmware *f); /* also the cleanup function */
#define QEMU_FIRMWARE CC_CLEANUP(qemu_firmware_clear)

/*
 * SeaBIOS: `configured` if not empty (must exist), else bios-256k.bin in data_dirs and the usual
 * places. `prefix` goes before every path searched ("" in production; a tree of their own in
 * tests).
 */
int qemu_bios_find(const char *configured, const struct cc_strv *data_dirs, const char *prefix,
                   struct qemu_firmware *ret, struct cc_err *err);

/* UEFI: `configured` ("CODE[:VARS]") if not empty; else the firmware descriptors in file-name
 * order, of which one below /etc hides its namesake below /usr/share; else well-known file names.
 */
int qemu_uefi_find(const char *configured, const char *machine, const char *prefix,
                   struct qemu_firmware *ret, struct cc_err *err);
