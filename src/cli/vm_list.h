/* VMs as a list: loading, columns and filters shared by `vm list`, `vm status` and `ps`. */
#pragma once

#include "cli/cli.h"
#include "cli/list.h"

extern const struct list_type vm_list_type;

/* Print the VMs that pass the filters and, if n_refs > 0, one of the references (exact ID, exact
 * name, ID prefix of >= 3; an unmatched reference is no error). */
int vm_list_run(struct cli *cli, const struct list_flags *flags, char *const *refs, size_t n_refs,
                struct cc_err *err);

/* True if one of the references means the VM; without references all are meant. */
bool vm_list_wanted(char *const *refs, size_t n_refs, const struct vm_record *vm);
