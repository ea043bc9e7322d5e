/* cocoon vm fs attach */
#include "cli/attach_cmd.h"

struct options {
        struct output_flags out;
        const char *socket, *tag;
        int64_t num_queues, queue_size;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        struct hv_attachment what = {
                .kind = HV_ATTACH_FS,
                .key = (char *)o->tag,
                .socket = (char *)o->socket,
                .num_queues = o->num_queues,
                .queue_size = o->queue_size,
        };

        return attach_run(cli, &o->out, &what, "tag", err);
}

static const struct opt rows[] = {
        { .name = "socket",
          .type = OPT_STRING,
          .offset = offsetof(struct options, socket),
          .metavar = "PATH",
          .help = "socket of the virtiofsd that serves the folder",
          .complete = COMPLETE_FILE,
          .flags = OPT_REQUIRED },
        { .name = "tag",
          .type = OPT_STRING,
          .offset = offsetof(struct options, tag),
          .metavar = "TAG",
          .help = "the guest mounts it with: mount -t virtiofs TAG DIR",
          .flags = OPT_REQUIRED },
        { .name = "num-queues",
          .type = OPT_INT,
          .offset = offsetof(struct options, num_queues),
          .metavar = "N",
          .help = "request queues; 0: 1" },
        { .name = "queue-size",
          .type = OPT_INT,
          .offset = offsetof(struct options, queue_size),
          .metavar = "N",
          .help = "entries of a queue; 0: 1024" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_fs_attach = {
        .path = "vm fs attach",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Share a folder with a running VM",
        .long_help =
                "The folder is served by a virtiofsd that you start; it ends when the share is "
                "detached. Needs a VM created with --shared-memory on Cloud Hypervisor. Shares "
                "are not recorded: they are gone after a stop, and prevent snapshots.",
        .examples = "cocoon vm fs attach web-1 --socket /run/src.sock --tag src\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
