/*
 * What is installed: the QEMU binary, its version, the machine type behind "q35" and the folders it
 * reads ROMs from. Learning this costs four processes (about 0.1 s), so it is cached by the
 * binary's identity. Firmware files are looked for in firmware.h.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/* The oldest QEMU with JSON -device and what §5 of qemu.md uses. */
#define QEMU_MIN_MAJOR 7
#define QEMU_MIN_MINOR 2

struct qemu_install {
        char *binary;             /* absolute path or as configured */
        char *version;            /* "7.2.22" */
        char *machine;            /* "pc-q35-7.2" */
        bool io_uring;            /* built with it, and the kernel allowed it when asked */
        struct cc_strv data_dirs; /* -L help, in search order */
};

void qemu_install_clear(struct qemu_install *i); /* also the cleanup function */
#define QEMU_INSTALL CC_CLEANUP(qemu_install_clear)

/* Find and ask `binary` (a name or path). cache_dir NULL or "": nothing is cached. UNAVAILABLE when
 * it is missing, too old or without q35, naming the fix. */
int qemu_install_find(const char *binary, const char *cache_dir, struct qemu_install *ret,
                      struct cc_err *err);

/* "QEMU emulator version 7.2.22 (Debian …)" → "7.2.22" (caller frees), major and minor. CC_INVALID
 * without text when the text is something else. */
int qemu_version_parse(const char *text, char **ret, int *ret_major, int *ret_minor);

/* The output of `-machine help` → the machine that q35 is an alias of (caller frees), NULL if there
 * is none. */
char *qemu_machine_parse(const char *text);

/* Does it have this (versioned) machine type? Asks the binary. */
bool qemu_install_has_machine(const struct qemu_install *i, const char *machine);
