/* Where an OCI reference is fetched from: API host, scheme, and the keys of its credentials. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "config/config.h"
#include "image/image.h"

struct reference {
        char *registry;   /* as in image_name: the credentials' key */
        char *base;       /* "https://registry-1.docker.io", no slash at the end */
        char *repository; /* "library/ubuntu" */
        char *target;     /* tag or digest to ask for */
        char *digest;     /* sha256:<hex> when asked by digest, else NULL */
        bool plain;       /* http: a loopback host or one of insecure_registries */
};

/*
 * Scheme http only for loopback names and addresses and for hosts listed in insecure_registries
 * (as "host" or "host:port"); private addresses are not downgraded silently (images.md §1.1).
 */
int reference_parse(const struct config *config, const char *ref, struct reference *ret,
                    struct cc_err *err);
void reference_clear(struct reference *r); /* also the cleanup function */
#define REFERENCE CC_CLEANUP(reference_clear)

/* True for names and IP literals of this host: localhost, *.localhost, 127/8, ::1. `host` may have
 * a port and brackets. */
bool reference_host_is_loopback(const char *host);

/* True for IP literals that are private, link-local, loopback or unspecified. */
bool reference_host_is_internal(const char *host);
