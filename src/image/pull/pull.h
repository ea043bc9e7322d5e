/* The module's two verbs that make images, and nothing else of them: see image/module.h. */
#pragma once

#include "image/module.h"

int image_pull(const struct image_env *env, const char *ref, bool force, struct image_record *ret,
               bool *ret_unchanged, struct cc_err *err);

int image_import(const struct image_env *env, const char *name, const char *const *files, size_t n,
                 char ret_kind[16], struct image_record *ret, struct cc_err *err);
