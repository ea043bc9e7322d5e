/*
 * The knobs of a double, all named COCOON_DOUBLE_<NAME>: from the environment or, because a VMM is
 * started with a clean one, from the file double.env (KEY=VALUE lines) in the directory its
 * argv[0] names. A test therefore links the double into a directory of its own and writes
 * the file beside the link. The environment wins.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct dbl_settings;

struct dbl_settings *dbl_settings_load(const char *argv0);
void dbl_settings_free(struct dbl_settings *s);

/* The value of COCOON_DOUBLE_<name>, owned by the settings; NULL when unset or empty. */
const char *dbl_setting(const struct dbl_settings *s, const char *name);

/* A non-negative number; anything else is a mistake of the test and ends the process. */
int64_t dbl_setting_int(const struct dbl_settings *s, const char *name, int64_t fallback);
bool dbl_setting_bool(const struct dbl_settings *s, const char *name, bool fallback);
