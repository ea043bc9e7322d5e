/*
 * Images, the light part in the main binary: references, lookup, list, rm, and what a VM needs from
 * an image. Pulling, importing and converting are in the loadable module (image/module.h).
 */
#pragma once

#include "config/config.h"
#include "meta/meta.h"

/* A parsed OCI reference (images.md §1.1). */
struct image_name {
        char *registry;   /* host[:port]; "index.docker.io" when none was given */
        char *repository; /* "library/ubuntu" */
        char *tag;        /* "latest", or NULL with a digest */
        char *digest;     /* sha256:<hex>, or NULL */
};
int image_name_parse(const char *ref, struct image_name *ret, struct cc_err *err);
void image_name_clear(struct image_name *name);
char *image_name_normalise(const struct image_name *name); /* registry/repository[:tag][@digest] */

/* Default VM name for an image string (cli.md §3); works for URLs too. Caller frees. */
char *image_default_vm_name(const char *ref);

/* Public view of one ref. */
struct image_view {
        char *id, *name, *type;
        int64_t size, created_at;
};
extern const struct record_type image_view_type;

/* All refs, by type then creation time. *ret: array of image_view; record_array semantics. */
int image_list(struct meta *m, struct record_array *ret, struct cc_err *err);

/*
 * One resolver for every verb (cli.md §3): exact ref, normalised ref, full digest, digest prefix of
 * >= 12 hex digits, over both kinds. NOT_FOUND `image "X": not found in any backend` (code
 * image_not_found, hint closest ref), AMBIGUOUS when both kinds or several digests match.
 */
int image_resolve(struct meta *m, const char *ref, char ret_kind[16], struct image_record *ret,
                  struct cc_err *err);

/* Remove refs: all are resolved first, any miss aborts; a digest removes every ref of it. Removed
 * ref names go to *ret_removed. With dry_run nothing is removed. */
int image_rm(struct meta *m, const char *const *refs, size_t n, bool dry_run,
             struct cc_strv *ret_removed, struct cc_err *err);

/* What a VM needs from an image: absolute paths, verified to be valid files, and the blob pins. */
struct image_files {
        struct cc_strv
                layers; /* blob paths bottom to top (one with flat), or one cloud-image blob */
        struct cc_strv layer_hex;
        char *kernel, *initrd; /* oci */
        struct cc_strv pins;   /* hex: layers, kernel and initrd layers, with flat the merged one */
};
/* The caller holds SH blob locks (image_lock_blobs) from before this until the record with the pins
 * is committed. `flat`: use the merged blob, which must exist. */
int image_files(const struct config *c, const char *kind, const struct image_record *image,
                bool flat, struct image_files *ret, struct cc_err *err);
void image_files_clear(struct image_files *f);

/* SH (or EX) locks on all blobs of an image in hex order; *ret holds the descriptors. */
struct image_locks {
        int *fds;
        size_t n;
};
int image_lock_blobs(const struct config *c, const struct image_record *image, const char *kind,
                     struct image_locks *ret, struct cc_err *err);
void image_unlock(struct image_locks *locks);
