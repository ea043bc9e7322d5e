/* Printing a log file to stdout and following it through truncations (cli.md §7). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Print the last `tail` lines (0: all), then with `follow` whatever is added until a signal or
 * until stdout's reader is gone (both success). A file whose first 64 bytes changed, or that
 * shrank, is printed from its start. Absent: NOT_FOUND.
 */
int follow_file(const char *path, int64_t tail, bool follow, struct cc_err *err);
