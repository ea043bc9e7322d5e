/* The HTTP API: endpoints, their methods and bodies, and the status of every outcome. */
#pragma once

#include "common/server.h"
#include "vmm.h"

extern const struct dbl_server_form ch_api_form; /* its context is a struct ch_vmm */

/* The "build_version" and "version" of a release. */
const char *ch_build_version(int release);
