/* Readers of configuration files: both turn the text into (key, value) pairs of strings. Which keys
 * exist and what their values mean is config.c's business. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* One key: path joined with '.', value as text; a list comes joined with ','; NULL: something else
 * (a map, whose own keys follow if it is at the top; an alias; a list of lists). */
typedef int (*config_file_fn)(void *ctx, const char *key, const char *value, struct cc_err *err);

/* YAML, and JSON as its subset. Nulls and maps inside maps are skipped. */
int config_read_yaml(const char *text, size_t n, config_file_fn fn, void *ctx, struct cc_err *err);

/* The part of TOML that a flat file needs: comments, [table], dotted and quoted keys, one-line
 * strings, integers, booleans, arrays of those on one line. Anything else is refused by line. */
int config_read_toml(const char *text, size_t n, config_file_fn fn, void *ctx, struct cc_err *err);
