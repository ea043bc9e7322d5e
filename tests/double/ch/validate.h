/* What makes a VmConfig invalid (schema.h only checks types): the rules of the real thing, in its
 * order and words. */
#pragma once

#include "chain.h"

/* Fails with the cause alone, kind CH_BAD_CONFIG or CH_DUPLICATE. Drops what a firmware boot
 * ignores (cmdline, initramfs) from the configuration. */
int ch_validate(json_t *config, struct ch_error *e);
