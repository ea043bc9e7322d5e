/*
 * Loadable parts of cocoon (DESIGN §5): heavy libraries stay out of the main binary and are opened
 * when a verb needs them. A module is cocoon-<name>.so beside the build tree's binary or in
 * <prefix>/lib/cocoon, and exports one const struct as `cocoon_module_<name>`; it uses the main
 * binary's own base functions.
 */
#pragma once

#include "base/err.h"

/* Every module struct starts with this; a build mismatch is refused. */
struct cc_module_header {
        const char *version; /* must equal COCOON_VERSION of the loader */
};

/* Open a module once per process. The struct stays valid until exit. Class UNAVAILABLE when absent.
 */
int cc_module_open(const char *name, const void **ret, struct cc_err *err);
