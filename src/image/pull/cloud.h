/* The one place that says no to cloud images (images.md §3): URLs, qcow2 files, disk artifacts. */
#pragma once

#include "base/err.h"

static inline int cloud_image_refuse(struct cc_err *err)
{
        int r = cc_fail(err, CC_UNSUPPORTED, "cloud images are not supported yet by this version");

        cc_code(err, "cloud_images_unsupported");
        return r;
}
