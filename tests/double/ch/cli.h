/*
 * The command line: flags, their number of values and groups as the real thing's argument parser
 * knows them, and the VmConfig they add up to.
 */
#pragma once

#include "chain.h"
#include "schema.h"

struct ch_cli {
        bool version;
        const char *api_socket; /* NULL without one */
        const char *restore;    /* --restore's value, NULL without it */
        bool no_shutdown;
        bool payload; /* a VM is to be created and booted */

        /* Private: the values of each flag. */
        struct cc_strv values[64];
        bool given[64];
};

/* Ends the process with status 2, or 0 after --help, like the real parser, if argv is wrong. */
void ch_cli_parse(struct ch_cli *cli, int argc, char **argv);
void ch_cli_free(struct ch_cli *cli);

/* The configuration that was asked for, not yet validated. */
int ch_cli_config(const struct ch_cli *cli, const struct ch_dialect *d, json_t **ret,
                  struct ch_error *e);

/* What --restore asks for, a RestoreConfig. */
int ch_cli_restore(const struct ch_cli *cli, const struct ch_dialect *d, json_t **ret,
                   struct ch_error *e);
