/*
 * The API of the Firecracker double: routes, the checks a request meets before it reaches the
 * machine, and the phase of the machine's life it belongs to.
 */
#pragma once

#include "vm.h"

/* How the server treats requests; its context is the struct fcd_vm. */
extern const struct dbl_server_form fcd_api_form;
/* The same for versions that know no DELETE. */
extern const struct dbl_server_form fcd_api_form_old;
