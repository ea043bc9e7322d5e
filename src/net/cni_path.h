/* Where CNI plugins are looked for (network.md §4). In the main binary: doctor asks as well. */
#pragma once

#include <stdbool.h>

#include "base/str.h"

/* Directories that hold plugins: `configured` (':'-separated, may be NULL), then the usual ones. */
void cni_plugin_path(const char *configured, struct cc_strv *ret);

/* The file of a plugin, the first regular one; NULL if there is none. Caller frees. */
char *cni_plugin_find(const struct cc_strv *path, const char *type);

/* Is there a plugin of that name in one of the directories? */
bool cni_plugin_exists(const struct cc_strv *path, const char *type);
