/* The `--data-disk` mini language (cli.md §4.2): comma-separated key=value. */
#pragma once

#include "base/str.h"
#include "vm/vm.h"

struct data_disks {
        struct vm_data_disk *v;
        size_t n;
};

/* Parse all specs: defaults filled in, names unique, `data1`, `data2`… given to the unnamed ones.
 * USAGE with "--data-disk: …" texts; on failure *ret is empty. */
int data_disks_parse(const struct cc_strv *specs, struct data_disks *ret, struct cc_err *err);
void data_disks_clear(struct data_disks *d); /* also the cleanup function */
#define DATA_DISKS CC_CLEANUP(data_disks_clear)
