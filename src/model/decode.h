/* The quick half of record_parse(), for its tests: see decode.c. */
#pragma once

#include "model/record.h"

/* Decode text that ends in NUL at text[n]. False: not certain, *rec is empty, ask record_load(). */
bool record_decode(const struct record_type *type, const char *text, size_t n, void *rec);
