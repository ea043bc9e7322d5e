/* cocoon ps: the running VMs. */
#include "cli/vm_list.h"

struct options {
        struct list_flags list;
        bool all;
};

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;

        if (!o->all)
                cc_strv_add(&o->list.filter, "state=running");
        return vm_list_run(cli, &o->list, NULL, 0, err);
}

static const struct opt rows[] = {
        { .name = "all",
          .letter = 'a',
          .type = OPT_BOOL,
          .offset = offsetof(struct options, all),
          .help = "also VMs that do not run" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { list_opts, offsetof(struct options, list), "Output" },
        { 0 },
};

const struct cmd cmd_ps = {
        .path = "ps",
        .args = "",
        .help = "List running virtual machines",
        .long_help = "Short for 'vm list --filter state=running'; with -a the same as 'vm list'.",
        .examples = "cocoon ps\ncocoon ps -a --sort name\n",
        .opts = groups,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .run = run,
};
