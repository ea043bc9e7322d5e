/* cocoon vm disk attach */
#include "cli/attach_cmd.h"

struct options {
        struct output_flags out;
        const char *path, *name, *directio;
        bool readonly;
};

static int direct_of(const char *word)
{
        if (cc_streq(word, "on"))
                return 1;
        return cc_streq(word, "off") ? 0 : -1;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        struct hv_attachment what = {
                .kind = HV_ATTACH_DISK,
                .key = (char *)o->name,
                .path = (char *)o->path,
                .ro = o->readonly,
                .direct = direct_of(o->directio),
        };

        return attach_run(cli, &o->out, &what, "name", err);
}

static const char *const directio[] = { "auto", "on", "off", NULL };

static const struct opt rows[] = {
        { .name = "path",
          .type = OPT_STRING,
          .offset = offsetof(struct options, path),
          .metavar = "FILE",
          .help = "raw image, outside of cocoon's own directories",
          .complete = COMPLETE_FILE,
          .flags = OPT_REQUIRED },
        { .name = "name",
          .type = OPT_STRING,
          .offset = offsetof(struct options, name),
          .metavar = "NAME",
          .help = "serial number in the guest, and what to detach it by",
          .flags = OPT_REQUIRED },
        { .name = "readonly",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, readonly),
          .help = "the guest cannot write" },
        { .name = "directio",
          .type = OPT_ENUM,
          .offset = offsetof(struct options, directio),
          .fallback = "auto",
          .metavar = "MODE",
          .help = "bypass the host's page cache: on, off or auto",
          .values = directio },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_disk_attach = {
        .path = "vm disk attach",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Attach a disk image to a running VM",
        .long_help = "The guest sees it as a disk with the name as its serial number. It is not "
                     "recorded: it is gone after a stop, and prevents snapshots. The file stays "
                     "yours.",
        .examples = "cocoon vm disk attach web-1 --path /srv/db.img --name db\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
