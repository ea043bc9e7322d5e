/*
 * Lists: one description per kind of object serves tables, JSON, field lists, sorting, filtering
 * and bare IDs alike (cli.md §5.1, §11.2, 11.4, 11.5).
 */
#pragma once

#include <jansson.h>

#include "cli/opt.h"

/* One thing that can be shown, sorted by and named in `--format a,b,c`. */
struct list_field {
        const char *name;  /* "memory" */
        const char *title; /* "MEMORY"; NULL: not in the table */
        bool numeric;      /* sorts as a number */
        /* Append the value: as people read it, or `raw` (bytes, RFC 3339) for scripts. */
        void (*text)(const void *item, bool raw, struct cc_buf *out);
};

struct list_type {
        const char *empty; /* "No VMs found." */
        const struct list_field *fields;
        size_t n_fields;
        const char *id;                  /* field that -q prints */
        const char *const *filter_keys;  /* NULL-terminated */
        const char *const *state_values; /* words allowed for `--filter state=`, or NULL */
        bool (*match)(const void *item, const char *key, const char *value);
        json_t *(*json)(const void *item); /* new reference */
};

/* For `text` of a field: the value, an absent one as "-" for people and nothing for scripts; a time
 * (ns since the epoch, 0: none); a size in bytes. */
void list_text(struct cc_buf *out, const char *text, bool raw);
void list_time(struct cc_buf *out, int64_t ns, bool raw);
void list_size(struct cc_buf *out, int64_t bytes, bool raw);

/* The flags that every list takes. */
struct list_flags {
        const char *format;
        const char *sort;
        bool no_header;
        bool quiet;
        struct cc_strv filter;
};
extern const struct opt list_opts[];

/* Judge format, sort and filters before any work is done. */
int list_check(const struct list_type *type, const struct list_flags *flags, struct cc_err *err);

/* True if the item passes the filters: values of one key are alternatives, keys add up. */
bool list_pass(const struct list_type *type, const struct list_flags *flags, const void *item);

/* A list under way: its rows are kept as text, the items are not. list_check() has passed; `type`
 * and `flags` outlive it. list_add() filters; list_end() sorts, prints to stdout and frees. Nothing
 * is printed before, so that a reader of the store never waits for a slow reader of ours. */
struct list_out;
struct list_out *list_begin(const struct list_type *type, const struct list_flags *flags);
void list_add(struct list_out *l, const void *item);
void list_end(struct list_out *l);
void list_dropp(struct list_out **l); /* cleanup function; NULL inside is fine */
#define LIST_OUT CC_CLEANUP(list_dropp)

/* All three at once. */
void list_print(const struct list_type *type, const struct list_flags *flags,
                const void *const *items, size_t n);
