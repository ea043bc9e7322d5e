/* The tables of the image records (images.md §0): one struct, one table a kind. */
#include "model/image.h"

/* clang-format off: one field a line reads as the table that it is. */
#define F(st, member, ftype, fflags)                                                               \
        {                                                                                          \
                .name = #member, .type = (ftype), .offset = offsetof(struct st, member),           \
                .flags = (fflags)                                                                  \
        }
#define RECORD_TYPE(st, text, table)                                                               \
        {                                                                                          \
                .what = (text), .size = sizeof(struct st), .extra = offsetof(struct st, extra),    \
                .fields = (table), .n = CC_ARRAY_LEN(table)                                        \
        }

static const struct field layer_fields[] = {
        F(image_layer, digest, FIELD_STR, FIELD_ALWAYS),
        F(image_layer, erofs_sha256, FIELD_STR, 0),
        F(image_layer, builder, FIELD_STR, 0),
        F(image_layer, diff_id, FIELD_STR, 0),
};
const struct record_type image_layer_type = RECORD_TYPE(image_layer, "image layer", layer_fields);

#define LAYERS                                                                                     \
        {                                                                                          \
                .name = "layers", .type = FIELD_ARRAY, .flags = FIELD_ALWAYS,                      \
                .offset = offsetof(struct image_record, layers), .sub = &image_layer_type          \
        }

static const struct field oci_fields[] = {
        F(image_record, ref, FIELD_STR, FIELD_ALWAYS),
        F(image_record, manifest_digest, FIELD_STR, FIELD_ALWAYS),
        LAYERS,
        F(image_record, kernel_layer, FIELD_STR, 0),
        F(image_record, initrd_layer, FIELD_STR, 0),
        F(image_record, flat, FIELD_STR, 0),
        F(image_record, size, FIELD_INT, 0),
        F(image_record, created_at, FIELD_TIME, FIELD_ALWAYS),
};
const struct record_type image_oci_type = RECORD_TYPE(image_record, "image record", oci_fields);

static const struct field cloudimg_fields[] = {
        F(image_record, ref, FIELD_STR, FIELD_ALWAYS),
        F(image_record, content_sum, FIELD_STR, FIELD_ALWAYS),
        F(image_record, size, FIELD_INT, 0),
        F(image_record, created_at, FIELD_TIME, FIELD_ALWAYS),
};
const struct record_type image_cloudimg_type =
        RECORD_TYPE(image_record, "image record", cloudimg_fields);

/* What the struct owns, whatever the kind; only for clearing. */
static const struct field all_fields[] = {
        F(image_record, ref, FIELD_STR, 0),
        F(image_record, manifest_digest, FIELD_STR, 0),
        LAYERS,
        F(image_record, kernel_layer, FIELD_STR, 0),
        F(image_record, initrd_layer, FIELD_STR, 0),
        F(image_record, flat, FIELD_STR, 0),
        F(image_record, content_sum, FIELD_STR, 0),
};
static const struct record_type all_type = RECORD_TYPE(image_record, "image record", all_fields);
/* clang-format on */

void image_record_clear(struct image_record *image)
{
        record_clear(&all_type, image);
}
