/*
 * What a command is: one const struct per file in cmd/, listed in commands.def. Usage, help, arity,
 * flags, completion and manual all follow from it.
 */
#pragma once

#include "cli/opt.h"

struct cli;

#define CMD_ANY (-1)

enum {
        CMD_NO_CONFIG = 1 << 0, /* never loads the configuration: a broken file does not matter */
        CMD_HIDDEN = 1 << 1,    /* works, but is shown nowhere */
        CMD_STREAM = 1 << 2,    /* only reads: a reader that closed our stdout is success */
        CMD_RAW = 1 << 3,       /* arguments are taken as they are, flags included */
        CMD_COMMAND = 1 << 4,   /* what follows "--" is a guest's command, not counted */
};

struct cmd {
        const char *path;  /* "vm pause"; a one-word path is a command of the root */
        const char *alias; /* other last word, or NULL */
        const char *args;  /* "VM [VM...]", or "" */
        int min, max;      /* number of arguments; max may be CMD_ANY */
        const char *help;  /* one line */
        const char
                *long_help;   /* paragraphs separated by blank lines, wrapped when shown; or NULL */
        const char *examples; /* one command a line, "# " for remarks; or NULL */
        const struct opt_group *opts;         /* or NULL */
        const struct opt_exclusive *excludes; /* or NULL */
        size_t size;                          /* of the option struct */
        unsigned flags;
        enum opt_complete complete;    /* of positional arguments */
        const char *const *arg_values; /* words for the first positional, or NULL */

        /* `opts` is the option struct, filled. Returns 0 or a negative class; never prints the
         * error. */
        int (*run)(struct cli *cli, void *opts, struct cc_err *err);
};

/* A word that only holds commands and groups. */
struct cmd_group {
        const char *name; /* "vm", "vm fs" */
        const char *help;
};

/* Row i of the command table in the order of commands.def, NULL past the end. */
const struct cmd *cmd_at(size_t i);
const struct cmd_group *cmd_group_at(size_t i);

/* The command behind `word` in a group ("" or NULL: the root), by name or alias; NULL if none. */
const struct cmd *cmd_find(const char *group, const char *word);
const struct cmd_group *cmd_group_find(const char *parent, const char *word);

/* Last word of the path. */
const char *cmd_word(const struct cmd *cmd);

/* True if the command, or the group itself, sits in the group ("" the root). */
bool cmd_in_group(const struct cmd *cmd, const char *group);
bool cmd_group_in(const struct cmd_group *group, const char *parent);
const char *cmd_group_word(const struct cmd_group *group);
