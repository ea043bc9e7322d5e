/* Byte sizes as users write and read them (cli.md §3, §5.1). All units are binary. */
#pragma once

#include <stdint.h>

/* "512M", "1.5 GiB", ".5G", "4Gi", "1024": bytes. Returns 0 or -CC_INVALID (no text). */
int cc_size_parse(const char *s, int64_t *ret);

/* `%.4g` and a binary unit without blank: "512MiB", "1.5GiB", "0B". */
void cc_size_format(int64_t bytes, char out[24]);
