/* cocoon vm status: the VMs asked for, once. */
#include "cli/vm_list.h"

struct options {
        struct list_flags list;
        int64_t interval;
        bool watch, event;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;

        return vm_list_run(cli, &o->list, cli->args, cli->n_args, err);
}

static const struct opt rows[] = {
        { .name = "watch",
          .letter = 'w',
          .type = OPT_BOOL,
          .offset = offsetof(struct options, watch),
          .help = "redraw when something changes",
          .refuse = OPT_LATER },
        { .name = "event",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, event),
          .help = "print changes as they happen",
          .refuse = OPT_LATER },
        { .name = "interval",
          .letter = 'n',
          .type = OPT_INT,
          .offset = offsetof(struct options, interval),
          .metavar = "SECONDS",
          .help = "longest time between two looks",
          .refuse = OPT_LATER },
        { 0 },
};

static const struct opt_group groups[] = {
        { list_opts, offsetof(struct options, list), NULL },
        { rows, 0, "Following" },
        { 0 },
};

static const struct opt_exclusive excludes[] = { { "event", "watch", NULL }, { 0 } };

const struct cmd cmd_vm_status = {
        .path = "vm status",
        .args = "[VM...]",
        .max = CMD_ANY,
        .help = "Show the state of virtual machines",
        .long_help = "Without arguments all VMs. An argument is an ID, a name, or the beginning of "
                     "an ID (3 characters or more); one that matches nothing is not an error.",
        .examples = "cocoon vm status web-1\ncocoon vm status --format json\n",
        .opts = groups,
        .excludes = excludes,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .complete = COMPLETE_VM,
        .run = run,
};
