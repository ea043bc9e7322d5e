/*
 * From a list of layers to a committed image: which blobs exist, building the others, boot files,
 * the record. Shared by pull and import, which differ only in how a layer is built.
 *
 * Theory of operation. Everything a record will name is made under exclusive blob locks, taken in
 * hex order before the first layer is built and held until the record is committed; so gc cannot
 * take a fresh blob, and a second process pulling the same layers waits, then finds them. Each
 * finished layer is renamed into place at once: after kill -9 the next pull keeps what was
 * complete. A failure that the image or the host is to blame for removes what this call added; only
 * an interrupted pull or a broken connection leaves finished layers for the next attempt (gc takes
 * them otherwise).
 */
#pragma once

#include "image/module.h"
#include "image/pull/cancel.h"
#include "image/pull/convert.h"
#include "image/pull/manifest.h"
#include "image/pull/scratch.h"

struct assembly {
        const struct image_env *env;
        const char *ref;                 /* record key, verbatim */
        const char *manifest_digest;     /* sha256:<hex> */
        const struct descriptor *layers; /* bottom to top; digests may repeat */
        size_t n_layers;
        const struct image_config *config;
        bool force;              /* verify existing blobs, rebuild damaged ones */
        struct scratch *scratch; /* made here unless it exists */
        struct cancel *cancel;

        /* Build layers[layer] into the new file `out`; runs on threads `worker` below
         * assembly_workers(). */
        int (*build)(void *ctx, size_t worker, size_t layer, const char *out,
                     struct built_layer *ret, struct cc_err *err);
        void *ctx;
};

/* How many threads build layers. */
size_t assembly_workers(const struct image_env *env, size_t n_layers);

/* Does `ref` already stand for that manifest, with all files valid? Then *ret is its record. */
int assembly_current(const struct image_env *env, const char *ref, const char *manifest_digest,
                     struct image_record *ret, bool *ret_same, struct cc_err *err);

/* *ret: the record as committed; *ret_unchanged (may be NULL): it was there already, complete. */
int assembly_run(const struct assembly *a, struct image_record *ret, bool *ret_unchanged,
                 struct cc_err *err);
