/*
 * CNI network lists (network.md §4): which networks a configuration directory offers. Only reading
 * and judging files, no plugin is run: the choice of a network and completion need no more. In the
 * main binary.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/* The newest CNI specification that we speak. */
#define CNI_VERSION "1.1.0"

struct conflist {
        char *name;
        char *version;   /* what to speak with its plugins, "0.4.0" */
        json_t *plugins; /* array of objects, each with a valid "type"; inlined ones included */
};
void conflist_clear(struct conflist *c);

struct conflists {
        struct conflist *v; /* the default first */
        size_t len;
        struct cc_strv skipped; /* "FILE: why it was left out" */
};
void conflists_clear(struct conflists *l); /* also the cleanup function */
#define CONFLISTS CC_CLEANUP(conflists_clear)

/*
 * Every usable list of `dir`: *.conflist sorted bytewise, then single-plugin *.conf and *.json. A
 * file that is no list is left out and named in `skipped`, as is a name that an earlier file has. A
 * missing directory (or NULL, "") is no list; one that cannot be read is an error.
 */
int conflists_load(const char *dir, struct conflists *ret, struct cc_err *err);

/* By name; NULL if there is none. */
const struct conflist *conflists_find(const struct conflists *l, const char *name);

/* NOT_FOUND: `conflist "NAME" not found (available: …)`, the skipped files and the closest name
 * behind it. `more` (may be NULL): names that are available as well. */
int conflists_not_found(const struct conflists *l, const char *name, const struct cc_strv *more,
                        struct cc_err *err);

/* One list from n bytes of JSON; either form. `extra_dir` (may be NULL) is where the directory
 * <name>/ with further plugins may be. */
int conflist_parse(const char *text, size_t n, const char *extra_dir, struct conflist *ret,
                   struct cc_err *err);

/* The list as JSON that conflist_parse() reads back, version and inlined plugins as decided. */
char *conflist_text(const struct conflist *c);

/* ---- versions ---- */

/* -1, 0, 1 as a is older than, equal to, newer than b. Both must be valid. */
int cni_version_compare(const char *a, const char *b);
/* "1.0.0": three numbers. */
bool cni_version_valid(const char *s);
