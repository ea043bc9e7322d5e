/*
 * One run of one CNI plugin (network.md §4, exec protocol): environment, standard input, output,
 * errors and time limit. The order of plugins, versions and results are in cni_chain.h.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "net/cni_path.h"

/* Codes of the specification that we act on. */
enum {
        CNI_CODE_NONE = 0, /* not the plugin's word: it could not be run, hung, printed garbage */
        CNI_CODE_VERSION = 1,
        CNI_CODE_UNKNOWN_CONTAINER = 3,
        CNI_CODE_TRY_AGAIN = 11,
        CNI_CODE_GENERIC = 999,
};

struct cni_call {
        const char *id;             /* CNI_CONTAINERID */
        const char *netns;          /* path; "" on a DEL without one */
        const char *if_name, *args; /* args: "K=V;K=V" or "" */
        const struct cc_strv *path; /* directories of plugins */
        int timeout_ms;             /* a plugin that takes longer is killed with its children */
        int64_t deadline;           /* of cc_monotonic(), 0 none: cuts the time limit */
};

/* UNAVAILABLE: `no such plugin in DIRS`. */
int cni_plugin_missing(const struct cc_strv *path, struct cc_err *err);

/*
 * Run plugin `type` with `command` ("ADD", "DEL", "VERSION" …) and `config` on its standard input.
 * What it prints is *ret (an object, owned), {} if nothing and the command needs no answer. On
 * failure *ret_code is its code or CNI_CODE_NONE, and the text
 * `plugin type="bridge" failed (add): …`.
 */
int cni_exec(const struct cni_call *call, const char *command, const char *type,
             const json_t *config, json_t **ret, unsigned *ret_code, struct cc_err *err);

/* Wait a second; -CC_CANCELED when interrupted. */
int cni_pause(struct cc_err *err);
