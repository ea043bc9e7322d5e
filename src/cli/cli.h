/*
 * One run of the program, as its parts see it: the command line parsed, the configuration, and how
 * to report. main.c owns the order of steps; commands get a struct cli and return an error.
 */
#pragma once

#include "cli/cmd.h"
#include "cli/globals.h"
#include "vm/vm.h"

/* One failed item of a batch, for the structured error and `failed` in JSON. */
struct cli_item {
        char *id;
        char *error;
};

struct cli {
        const struct cmd *cmd;         /* NULL: help of a group or of the root */
        const struct cmd_group *group; /* with cmd NULL: the group, or NULL for the root */
        struct globals globals;
        struct opt_set global_set;
        struct opt_set set; /* of the command */
        void *opts;
        char **args; /* positional arguments, borrowed from argv */
        size_t n_args;
        size_t n_plain; /* of them in front of "--" */
        bool want_help;
        bool quiet_log; /* the command prints JSON or an ID: no success lines, no progress */
        struct config config;
        const char *items_verb; /* "start": in front of each item's error */
        struct cli_item *items; /* failed items of a batch */
        size_t n_items;
        int exit_code; /* for commands whose code is not 0 or 1, failed or not */
};

void cli_clear(struct cli *cli);

/*
 * Walk the command line: finds the command, parses all flags, counts arguments. USAGE with the
 * texts of cli.md §1. With `want_help` set nothing else has been checked.
 */
int cli_parse(struct cli *cli, size_t argc, char *const *argv, struct cc_err *err);

/* Steps after parsing, in order: configuration and log, required flags, exclusive flags, values. */
int cli_prepare(struct cli *cli, struct cc_err *err);

/* Open the engine for this run's configuration and lock timeout. */
int cli_engine(struct cli *cli, struct engine *ret, struct cc_err *err);

/* The INFO line that reports success (cli.md §5.3); dropped when the command prints JSON or an ID.
 */
void cli_success(const struct cli *cli, const char *tag, const char *fmt, ...) CC_PRINTF(3, 4);

/* Note a failed item of a batch. */
void cli_item_add(struct cli *cli, const char *id, const char *error);

/* Resolve one VM reference and load its record with the shown fields filled. */
int cli_vm_get(struct cli *cli, struct engine *e, const char *ref, struct vm_record *ret,
               struct cc_err *err);
