/* Getting an image here: the loadable module, opened only when it is needed, with progress. */
#pragma once

#include "cli/cli.h"
#include "image/module.h"

/* A module ready for calls whose progress goes to stderr. */
struct pull {
        const struct image_module *module;
        struct image_env env;
        struct pull_progress *progress;
};
int pull_open(struct cli *cli, struct engine *e, const char *what, struct pull *ret,
              struct cc_err *err);
void pull_close(struct pull *p); /* ends the progress display; also the cleanup function */
#define PULL CC_CLEANUP(pull_close)

/* Pull one image and say so. */
int pull_image(struct cli *cli, struct engine *e, const char *ref, bool force,
               struct image_record *ret, struct cc_err *err);

/*
 * Have the image of a new VM here: `policy` missing pulls what is not stored, always pulls in any
 * case, never leaves the lookup to the create. With `flat` its merged layer is made too.
 */
int pull_ensure(struct cli *cli, struct engine *e, const char *ref, const char *policy, bool flat,
                struct cc_err *err);

/* The public view of a stored image. */
json_t *pull_view(const char *kind, const struct image_record *image);
