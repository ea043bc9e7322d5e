/* What cocoon-image.so exports. */
#include "image/pull/digest.h"
#include "image/pull/flatten.h"
#include "image/pull/pull.h"
#include "image/pull/tool.h"
#include "image/pull/vmlinux.h"
#include "version.h"

extern const struct image_module cocoon_module_image;

const struct image_module cocoon_module_image = {
        .header = { .version = COCOON_VERSION },
        .pull = image_pull,
        .import = image_import,
        .flatten = image_flatten,
        .vmlinux = vmlinux_extract,
        .digest = digest_of_file,
        .download = tool_download,
        .unpack = tool_unpack,
};
