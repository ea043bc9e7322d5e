/*
 * The network index rows of NICs that plugins made (network.md §1): written as an intent before
 * ADD, completed after it, dropped once the DEL succeeded. Leases of the built-in network are rows
 * too, but not of this kind (lease.h).
 */
#pragma once

#include "meta/meta.h"

struct cni_row {
        char *type; /* the conflist's name */
        char *if_name;
        size_t index;
        struct nic_network network; /* ip NULL: an intent, or DHCP */
};

struct cni_rows {
        struct cni_row *v;
        size_t len;
};
void cni_rows_clear(struct cni_rows *rows);

/* The rows of one VM. */
int cni_rows_load(struct meta *m, const char *vm_id, struct cni_rows *ret, struct cc_err *err);

/* NULL if there is none. Valid until the next cni_rows_add(). */
const struct cni_row *cni_rows_find(const struct cni_rows *rows, const char *if_name);

/* Append one in memory. A name that is not eth<n> is passed over. */
void cni_rows_add(struct cni_rows *rows, const char *type, const char *if_name,
                  const struct nic_network *network);

/* Write n rows in one transaction, replacing those of the same interfaces. */
int cni_rows_put(struct meta *m, const char *vm_id, const struct cni_row *rows, size_t n,
                 struct cc_err *err);

int cni_row_drop(struct meta *m, const char *vm_id, const char *if_name, struct cc_err *err);

/* The VM of every such row there is. */
int cni_rows_owners(struct meta *m, struct cc_strv *ret, struct cc_err *err);
