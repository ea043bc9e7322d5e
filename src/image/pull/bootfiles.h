/* Boot files of an image: chosen from its blobs, published in <root>/oci/boot/<hex>/. */
#pragma once

#include "config/config.h"
#include "image/pull/manifest.h"

struct boot_result {
        char *kernel_layer, *initrd_layer; /* sha256:<hex> naming the boot directory */
        int64_t size;                      /* of both files */
        struct cc_strv made;               /* files this call published */
};
void boot_result_clear(struct boot_result *b); /* also the cleanup function */
#define BOOT_RESULT CC_CLEANUP(boot_result_clear)

/*
 * `digests` are the image's layers bottom to top, whose blobs exist. A file goes to the directory
 * of the layer it comes from; when that holds another kernel already (another image chose
 * differently from the same layer), to one named after file and layers. The caller holds the blob
 * locks of all layers. `repair`: directories of these digests (NULL-able strings) hold this very
 * image's files, damaged ones are replaced.
 */
int bootfiles_publish(const struct config *config, const struct cc_strv *digests,
                      const struct image_config *labels, const char *scratch,
                      const char *repair_kernel, const char *repair_initrd, struct boot_result *ret,
                      struct cc_err *err);
