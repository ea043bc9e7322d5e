/* What cocoon-snap.so exports. */
#include "snap/archive/module.h"
#include "version.h"

extern const struct snap_module cocoon_module_snap;

const struct snap_module cocoon_module_snap = {
        .header = { .version = COCOON_VERSION },
        .write = archive_write,
        .open = archive_open,
        .envelope = archive_envelope,
        .extract = archive_extract,
        .close = archive_close,
};
