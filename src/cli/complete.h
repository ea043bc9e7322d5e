/* Candidates for shell completion (cli.md §9): from the command and flag rows, the store and the
 * host. Fast, takes no lock, and silent whatever goes wrong. */
#pragma once

#include "base/str.h"

/*
 * The words behind "cocoon", of which the last is being typed (it may be ""). Writes one candidate
 * a line, with TAB and a description where there is one, then ":<bits>": 4 no file names, 16
 * directories only.
 */
void complete_words(char *const *words, size_t n, struct cc_buf *ret);
