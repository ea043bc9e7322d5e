/* What module.c binds into cocoon-snap.so. */
#pragma once

#include "snap/archive.h"

int archive_write(const struct snap_export *x, struct cc_err *err);
int archive_open(int fd, snap_progress_fn progress, void *ctx, struct snap_reader **ret,
                 struct cc_err *err);
const struct snap_envelope *archive_envelope(const struct snap_reader *r);
int archive_extract(struct snap_reader *r, const struct hv_driver *drv, const char *dir,
                    struct cc_err *err);
void archive_close(struct snap_reader *r);
