/* docs/limitations.md: what each driver cannot do, from the drivers' own rows. */
#pragma once

#include "base/str.h"

void limits_markdown(struct cc_buf *ret);
