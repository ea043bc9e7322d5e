/* TEMPORARY seam to the EROFS writer. */
#pragma once
#include "config/config.h"
#include "image/pull/inflate.h"
struct erofs_builder;
const char *erofs_builder(void);
int erofs_build_start(const char *out, const struct config *config, struct erofs_builder **ret,
                      struct cc_err *err);
int erofs_build_read(struct erofs_builder *b, inflate_source_fn source, void *ctx,
                     struct cc_err *err);
int erofs_build_finish(struct erofs_builder *b, const char *diff_hex, char *sha256,
                       struct cc_err *err);
void erofs_build_free(struct erofs_builder *b);
