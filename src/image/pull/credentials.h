/* What the user stored for a registry: docker's config.json, containers' auth.json, and the
 * credential helpers they name (images.md §1.2). Nothing here is ever logged. */
#pragma once

#include "base/err.h"

struct credentials {
        char *username, *password; /* both or none */
        char *identity_token;      /* to be exchanged for bearer tokens */
        char *registry_token;      /* is the bearer token */
};

/*
 * Look up `registry` (host[:port]; index.docker.io for the Hub) and `repository`. No file or no
 * entry: success with an empty *ret (anonymous). INVALID for a file that cannot be parsed, AUTH for
 * a helper that fails.
 */
int credentials_find(const char *registry, const char *repository, struct credentials *ret,
                     struct cc_err *err);
void credentials_clear(struct credentials *c);
