/* What cocoon-image.so exports. */
#include "image/pull/pull.h"
#include "image/pull/vmlinux.h"
#include "version.h"

extern const struct image_module cocoon_module_image;

static int flatten(const struct image_env *env, struct image_record *image, struct cc_err *err)
{
        return cc_fail(err, CC_UNSUPPORTED,
                       "merging the layers of an image is not supported yet by this version");
}

const struct image_module cocoon_module_image = {
        .header = { .version = COCOON_VERSION },
        .pull = image_pull,
        .import = image_import,
        .flatten = flatten,
        .vmlinux = vmlinux_extract,
};
