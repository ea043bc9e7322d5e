/*
 * The files of the fake guest's disk, kept in the first writable drive through its open descriptor:
 * in its last bytes, away from the file system a real guest would find there.
 */
#pragma once

#include "vm.h"

json_t *fcd_disk_load(const struct fcd_vm *vm); /* NULL: none there; new reference */
void fcd_disk_store(const struct fcd_vm *vm, json_t *files);

/* Write a text at the start of every writable drive. */
int fcd_disk_pattern(const struct fcd_vm *vm, const char *text, struct cc_err *err);
