/*
 * The option engine: one const row per flag, from which parsing, defaults, help, completion and the
 * manual follow. GNU grammar and error texts are cli.md §1's. Nothing here knows commands; the walk
 * over the command line lives in parse.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum opt_type {
        OPT_BOOL,     /* bool */
        OPT_INT,      /* int64_t; decimal, 0x, 0o, 0b */
        OPT_SIZE,     /* int64_t bytes */
        OPT_STRING,   /* const char *, borrowed from the command line; "" without a default */
        OPT_STRINGS,  /* struct cc_strv; repeatable, never comma-split */
        OPT_DURATION, /* int64_t nanoseconds */
        OPT_ENUM,     /* const char *: one of `values`, or "" */
};

/* What a shell may offer as the value of a flag or as a positional argument. */
enum opt_complete {
        COMPLETE_NONE,
        COMPLETE_FILE,
        COMPLETE_DIR,
        COMPLETE_VM,         /* any VM */
        COMPLETE_VM_RUNNING, /* VMs that can be stopped or attached to */
        COMPLETE_VM_STOPPED, /* VMs that can be started */
        COMPLETE_IMAGE,
        COMPLETE_SNAPSHOT,
        COMPLETE_NETWORK, /* conflists and the provider words */
        COMPLETE_BRIDGE,
        COMPLETE_FORMAT, /* list formats */
};

enum {
        OPT_HIDDEN = 1 << 0,   /* parsed, but not in help, manual or completion */
        OPT_REQUIRED = 1 << 1, /* `required flag(s) "x" not set` */
};

struct opt {
        const char *name; /* long name; NULL ends a table */
        char letter;      /* short name, or 0 */
        enum opt_type type;
        size_t offset;              /* of the value in the group's struct */
        const char *fallback;       /* default in the flag's own syntax; NULL: zero value */
        const char *metavar;        /* "FILE"; NULL for booleans */
        const char *help;           /* one sentence without full stop */
        const char *const *values;  /* OPT_ENUM: allowed words, NULL-terminated */
        enum opt_complete complete; /* of the value */
        unsigned flags;
        const char *refuse; /* giving the flag fails with `--name <refuse>` */
};

#define OPT_LATER "is not supported yet by this version"

/* A table of rows whose offsets count from `base` inside the command's option struct, so that
 * several commands can share rows. A list of groups ends with rows == NULL. */
struct opt_group {
        const struct opt *rows;
        size_t base;
        const char *title; /* heading in help; NULL: "Flags" */
};

/* Two flags that exclude each other: `--a and --b are mutually exclusive[: why]`. The list ends
 * with a == NULL. A false boolean (`--fc=false`) counts as not given. */
struct opt_exclusive {
        const char *a, *b;
        const char *why;
};

/* Parsed values of one struct: the groups that describe it, and which rows were given. */
struct opt_set {
        const struct opt_group *groups;
        void *target;
        bool *given;       /* one per row, in order over all groups */
        const char **late; /* text of values that are checked after the command line as a whole */
};

/* Apply the defaults to *target (zeroed, sized by the caller). */
void opt_set_init(struct opt_set *set, const struct opt_group *groups, void *target);
void opt_set_clear(struct opt_set *set); /* also frees string lists inside the target */

/*
 * Parse the flag at argv[*i] (it starts with '-' and is neither "-" nor "--") against the sets in
 * order and step *i past what was used. USAGE with the texts of cli.md §1; a size or enum value is
 * only noted: opt_finish() judges it.
 */
int opt_parse(struct opt_set *sets, size_t n, char *const *argv, size_t argc, size_t *i,
              struct cc_err *err);

/* The checks that follow the configuration: required flags, then exclusive ones, then refused
 * flags, then sizes and enum values. */
int opt_check_required(const struct opt_set *set, struct cc_err *err);
int opt_check_exclusive(const struct opt_set *set, const struct opt_exclusive *list,
                        struct cc_err *err);
int opt_finish(struct opt_set *set, struct cc_err *err);

/* True if the flag was on the command line. */
bool opt_given(const struct opt_set *set, const char *name);

/* The row of a long or a short name, NULL if the groups have none; *ret_base (may be NULL) is its
 * group's base. */
const struct opt *opt_find(const struct opt_group *groups, const char *name, size_t len,
                           size_t *ret_base);
const struct opt *opt_find_letter(const struct opt_group *groups, char letter);

/* `"a", "b" or "c"` for messages. Caller frees. */
char *opt_values_text(const char *const *values);
