/*
 * Manifests, indexes and image configurations as data (images.md §1.3): parsing, bounds, platform
 * choice. Nothing here talks to a registry or a file.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
        MANIFEST_MAX = 4 << 20, /* bytes of a manifest, index or configuration */
        INDEX_DEPTH_MAX = 3,
        /*
         * Layers of one image. Each becomes a virtio disk of the VM and an overlay mount path: the
         * smallest driver takes 17 disks, the kernel's page of mount options about 128 paths, and
         * Docker itself builds no more than 127.
         */
        LAYERS_MAX = 128,
};

/* What to send in Accept for a manifest. */
extern const char manifest_accept[];

struct descriptor {
        char *media_type; /* NULL when absent */
        char *digest;     /* valid sha256 */
        int64_t size;     /* >= 0 */
};
void descriptor_clear(struct descriptor *d);

enum manifest_kind { MANIFEST_INDEX, MANIFEST_IMAGE };

struct manifest {
        enum manifest_kind kind;
        char *artifact_type; /* or NULL */
        struct descriptor config;
        struct descriptor *layers; /* bottom to top */
        size_t n_layers;
        struct index_entry {
                struct descriptor descriptor;
                bool matches;     /* linux and our architecture; no platform means linux/amd64 */
                bool no_platform; /* none is given, as in most layouts' index.json */
                char *platform;   /* "linux/arm64", for messages */
                char *ref_name;   /* org.opencontainers.image.ref.name, or NULL */
        } * entries;
        size_t n_entries;
};
void manifest_clear(struct manifest *m); /* also the cleanup function */
#define MANIFEST CC_CLEANUP(manifest_clear)

/*
 * Parse the bytes of a manifest or index. The kind is taken from the body's mediaType, else from
 * `content_type` (may be NULL), else from the shape. Classes: INVALID for anything malformed or out
 * of bounds, UNSUPPORTED for Docker schema 1, disk artifacts and snapshots.
 */
int manifest_parse(const char *data, size_t n, const char *content_type, struct manifest *ret,
                   struct cc_err *err);

/* The entry for this machine: the first that matches. INVALID, listing the platforms, if none. */
int manifest_choose(const struct manifest *index, const struct index_entry **ret,
                    struct cc_err *err);

struct image_config {
        struct cc_strv diff_ids; /* empty when the configuration has none */
        char *kernel, *initrd;   /* labels cocoon.kernel and cocoon.initrd, or NULL */
};
void image_config_clear(struct image_config *c); /* also the cleanup function */
#define IMAGE_CONFIG CC_CLEANUP(image_config_clear)

/* Parse a configuration blob for an image of `n_layers`: its diff_ids must be as many, if any. */
int image_config_parse(const char *data, size_t n, size_t n_layers, struct image_config *ret,
                       struct cc_err *err);

/* "amd64" or "arm64", as image platforms name this machine. */
const char *manifest_architecture(void);
