/* cocoon image pull */
#include "cli/output.h"
#include "cli/pull.h"

struct options {
        struct output_flags out;
        bool force;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        ENGINE struct engine e = { 0 };
        json_t *array;
        int r;

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        array = json_array();
        for (size_t i = 0; i < cli->n_args && r == 0; i++) {
                IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;

                r = pull_image(cli, &e, cli->args[i], o->force, &image, err);
                if (r == 0 && o->out.quiet)
                        out_line(image.ref);
                if (r == 0)
                        json_array_append_new(
                                array, pull_view(image.manifest_digest ? IMAGE_OCI : IMAGE_CLOUDIMG,
                                                 &image));
        }
        /* What was pulled before a failure is reported too: it is there. */
        if (output_is_json(&o->out))
                out_json(json_incref(array));
        json_decref(array);
        return r;
}

static const struct opt rows[] = {
        { .name = "force",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, force),
          .help = "fetch a cloud image again although it is here" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_image_pull = {
        .path = "image pull",
        .args = "IMAGE [IMAGE...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Fetch images from registries or URLs",
        .long_help = "http:// and https:// name a cloud image; anything else is a reference to an "
                     "OCI image. Images are fetched one after the other; the first failure ends "
                     "the command. Pulling an unchanged image costs one request, of a cloud image "
                     "none.",
        .examples = "cocoon image pull debian:12\n"
                    "cocoon image pull registry.example/team/app:1.4\n"
                    "cocoon image pull https://files.example/disk.qcow2\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_IMAGE,
        .run = run,
};
