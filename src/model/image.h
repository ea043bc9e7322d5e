/* Image records (images.md §0): what the two stores keep per digest and per ref. */
#pragma once

#include "base/str.h"
#include "model/record.h"

#define IMAGE_OCI      "oci"
#define IMAGE_CLOUDIMG "cloudimg"

struct image_layer {
        char *digest;       /* sha256:<hex>: the blob's name */
        char *erofs_sha256; /* ours: hex of the EROFS bytes */
        char *builder;      /* ours: "cocoon-erofs/1" */
        char *diff_id;      /* ours: sha256:<hex> of the uncompressed tar */
        json_t *extra;
};
extern const struct record_type image_layer_type;

/* One record per ref, both kinds in one struct; the table writes the fields of its kind. */
struct image_record {
        char *ref;
        char *manifest_digest;      /* oci */
        struct record_array layers; /* oci: struct image_layer, bottom to top */
        char *kernel_layer,
                *initrd_layer; /* oci: digests of the layers whose boot/ directory has them */
        char *flat;            /* oci, ours: hex of the merged layer, once made */
        char *content_sum;     /* cloudimg: sha256:<hex> of the source bytes */
        int64_t size;
        int64_t created_at;
        json_t *extra;
};
extern const struct record_type image_oci_type;
extern const struct record_type image_cloudimg_type;

#define IMAGE_RECORD_INIT                                                                          \
        {                                                                                          \
                0                                                                                  \
        }
void image_record_clear(struct image_record *image); /* also the cleanup function */
#define IMAGE_RECORD CC_CLEANUP(image_record_clear)

static inline struct image_layer *image_layer_at(const struct image_record *image, size_t i)
{
        return (struct image_layer *)image->layers.v + i;
}
