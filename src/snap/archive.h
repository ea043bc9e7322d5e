/*
 * The loadable snapshot module (cocoon-snap.so): archives (state.md §5), which need zlib and
 * libcrypto. The main binary opens it with cc_module_open("snap") for export and import.
 *
 * tar is read and written here, not by libarchive: the sparse map of a member is in a pax record of
 * its own, which libarchive does not hand out, and it does not verify the checksum of a gzip
 * stream.
 */
#pragma once

#include "base/module.h"
#include "snap/snap.h"

/* How far: bytes of file content done, of total (0: not known). */
typedef void (*snap_progress_fn)(void *ctx, int64_t done, int64_t total);

struct snap_export {
        const struct snapshot_record *rec; /* data_dir is read */
        const struct hv_driver *drv;
        int fd; /* the archive goes here, from the current position; any kind of file */
        bool gzip;
        snap_progress_fn progress; /* may be NULL */
        void *ctx;
};

struct snap_reader;

struct snap_module {
        struct cc_module_header header;

        /* Write an archive. Nothing is synced. */
        int (*write)(const struct snap_export *x, struct cc_err *err);

        /* Start reading: gzip is recognised, the first member looked at. `fd` stays the caller's.
         */
        int (*open)(int fd, snap_progress_fn progress, void *ctx, struct snap_reader **ret,
                    struct cc_err *err);
        /* The envelope as soon as it was met: after open() when it is the first member, as it
         * should be, at the latest after extract(). NULL before. */
        const struct snap_envelope *(*envelope)(const struct snap_reader *r);
        /* Everything else into the existing empty directory `dir`, to the end of the stream, which
         * is verified: checksums, sizes, digests, gzip trailer. `drv` NULL: not known yet, every
         * plain file is taken. On failure files may be left. */
        int (*extract)(struct snap_reader *r, const struct hv_driver *drv, const char *dir,
                       struct cc_err *err);
        void (*close)(struct snap_reader *r); /* NULL is fine */
};
/* The module exports `const struct snap_module cocoon_module_snap`. */
