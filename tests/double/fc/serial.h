/*
 * The guest's serial line: standard output, which is made non-blocking and loses what it does not
 * take at once, and standard input, a terminal or pipe, which is read while the machine runs. The
 * terminal is set up as Firecracker does it: no line discipline, no echo, no signals, but the
 * output conversions stay on.
 */
#pragma once

#include "vm.h"

/* Where output goes. Returns 0 or the errno of a PUT /serial file that cannot be opened. */
int fcd_serial_open(struct fcd_vm *vm);

/* The machine lives: the terminal raw and non-blocking, input read. */
void fcd_serial_start(struct fcd_vm *vm);

/* Read input or, while the machine is paused, leave it in the terminal. */
void fcd_serial_listen(struct fcd_vm *vm, bool on);

/* Bytes from the guest. */
void fcd_serial_write(struct fcd_vm *vm, const char *data, size_t n);

/* The machine is gone: the terminal as shells like it. */
void fcd_serial_end(struct fcd_vm *vm);
