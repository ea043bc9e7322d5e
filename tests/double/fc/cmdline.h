/*
 * The kernel command line as Firecracker keeps it: boot arguments and, behind " -- ", init
 * arguments, together at most 2048 bytes with the final NUL, to which it adds words of its own.
 * Errors are its texts: static strings, NULL when there is none.
 */
#pragma once

#define FCD_CMDLINE_DEFAULT                                                                        \
        "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd "         \
        "swiotlb=noforce"

/* From PUT /boot-source. *ret is the caller's. */
const char *fcd_cmdline_new(const char *text, char **ret);

/* One more word at the end of the boot arguments. */
const char *fcd_cmdline_add(char **cmdline, const char *word);
