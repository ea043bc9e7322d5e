/* POSIX ACLs of tar entries as the kernel's attribute value. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/str.h"

/*
 * Encode the entry's ACL of one libarchive type (ACCESS or DEFAULT) into *ret. False when it has
 * none. An access ACL's mask becomes the group bits of *mode, as chmod and stat see it. Entries for
 * names without a number are dropped: a layer is numeric.
 */
bool acl_encode(struct archive_entry *ae, int type, mode_t *mode, struct cc_buf *ret);
