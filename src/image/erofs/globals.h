/*
 * Records of pax headers that libarchive passes over or reads too coarsely: global ones, times
 * before 1970, sockets. Works on the raw headers in front of an entry, beside libarchive, which has
 * accepted them already.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct pax_attrs {
        bool has_mtime, has_uid, has_gid;
        bool is_socket; /* by its own record only */
        int64_t mtime;
        uint32_t mtime_nsec;
        uint32_t uid, gid;
};

/*
 * The headers of one entry, extended ones first: n bytes as in the archive. Global records are
 * added to *globals, where a later one of the same name replaces an earlier and an empty one
 * removes it; *ret is what then holds for this entry: its own record, or the global one. INVALID
 * for damaged records, for more than 31 extended headers in a row, and for global records that
 * would move data or give every entry one name: readers disagree about those.
 */
int pax_read(const uint8_t *headers, size_t n, struct pax_attrs *globals, struct pax_attrs *ret,
             struct cc_err *err);
