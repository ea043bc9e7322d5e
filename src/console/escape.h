/* Recognising the detach sequence in what a user types (cli.md §7). Pure logic, no descriptors. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct console_escape {
        unsigned char byte;
        bool held; /* the escape byte came and waits for the next one */
};

/*
 * Feed n typed bytes. What goes to the guest is written to out (room for n + 1: a byte held from
 * the call before may be released) and counted in *ret_len. Returns true when the sequence is
 * complete; bytes behind it are dropped.
 */
bool console_escape_feed(struct console_escape *e, const unsigned char *in, size_t n,
                         unsigned char *out, size_t *ret_len);

/* "^]" or the byte itself. */
void console_escape_name(unsigned char byte, char out[3]);
