/*
 * The "key=value,key=[list]" strings of the command line, split and converted as the real thing
 * splits and converts them, into JSON members of the API's objects.
 */
#pragma once

#include <jansson.h>

#include "chain.h"
#include "schema.h"

/* How an option's text becomes JSON. */
enum ch_convert {
        CH_OPT_TOGGLE, /* on|off|true|false, any case */
        CH_OPT_SIZE,   /* bytes, suffix K, M or G */
        CH_OPT_NUMBER, /* of the member's type */
        CH_OPT_TEXT,   /* unquoted */
        CH_OPT_MAC,
        CH_OPT_WORD,     /* one of ->words, any case */
        CH_OPT_AFFINITY, /* [queue@[cpu,…],…] */
        CH_OPT_FLAG,     /* key without value: the member becomes ->json */
        CH_OPT_FOREIGN,  /* known to the real thing, of no use here: refused by name */
};

struct ch_option {
        const char *key;
        enum ch_convert convert;
        const char *member;       /* NULL: as the key */
        const char *const *words; /* pairs of text and JSON string, NULL-terminated */
        const char *json;
};

/* Parse `text` by `options` (up to a NULL key) into members of `object`. Members of an empty value
 * stay absent. Fails with the cause alone; the caller wraps it with "Error parsing --…". */
int ch_options(const char *text, const struct ch_option *options, const struct ch_object *object,
               json_t **ret, struct ch_error *e);
