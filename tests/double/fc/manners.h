/*
 * How a client starts Firecracker, checked by the process that it started: what it inherits, which
 * session and terminal it is in, where its arguments point. Everything wrong is a violation in the
 * journal; the process goes on as the real one would.
 */
#pragma once

#include "args.h"
#include "vm.h"

/* What came with the process, to be read before it opens anything itself. */
struct fcd_heritage {
        unsigned long fds;     /* bit i: descriptor i is open */
        unsigned long blocked; /* signal mask, bit i: signal i + 1 */
        unsigned long ignored;
};

void fcd_heritage_read(struct fcd_heritage *h);
void fcd_heritage_note(struct fcd_vm *vm, const struct fcd_heritage *h);

/* Arguments, log and streams of a process that is going to serve an API. */
void fcd_check_manners(struct fcd_vm *vm, int argc, char **argv, const struct fcd_args *args);
