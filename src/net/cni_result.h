/*
 * What a CNI plugin answers to ADD, in every version of the format (network.md §4), reduced to what
 * a guest and a DEL need of it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct cni_address {
        bool v6;
        uint8_t ip[16]; /* network byte order; IPv4 in the first four */
        unsigned prefix;
};

struct cni_result {
        char ip[16], gateway[16]; /* the guest's IPv4; "" none: it uses DHCP */
        unsigned prefix;
        struct cni_address *addresses; /* every address of the interface, both families */
        size_t n;
        struct cc_strv dns; /* valid addresses only */
};
void cni_result_clear(struct cni_result *r); /* also the cleanup function */
#define CNI_RESULT CC_CLEANUP(cni_result_clear)

/* The addresses of `if_name` in a result of any version. CC_INVALID when an address is malformed.
 */
int cni_result_parse(const json_t *json, const char *if_name, struct cni_result *ret,
                     struct cc_err *err);

/* Append "a.b.c.d" with its prefix to the addresses; false if malformed. */
bool cni_result_add(struct cni_result *r, const char *ip, int64_t prefix);

/*
 * The same result as one of `version` for the next plugin: its cniVersion, and for versions below
 * 1.0.0 the `version` of every address. New reference; NULL when the formats have nothing in
 * common (before and since 0.3.0) or the version passes no results on.
 */
json_t *cni_result_for_version(const json_t *result, const char *version);
