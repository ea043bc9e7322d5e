/* cocoon vm rm */
#include "base/alloc.h"
#include "base/fs.h"
#include "cli/batch.h"
#include "cli/dry_run.h"

struct options {
        struct output_flags out;
        bool force, dry_run;
};

static int rm(struct engine *e, const char *id, void *ctx, struct cc_err *err)
{
        const struct options *o = ctx;

        return vm_rm(e, id, o->force, err);
}

/* Judged as the removal would: a VM that runs is refused without --force. */
static int would_rm(struct cli *cli, const struct options *o, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        DRY_RUN struct dry_run dry = { 0 };
        CC_FREE struct vm_batch_item *items = NULL;
        size_t n = 0;
        int r = cli_engine(cli, &e, err);

        if (r == 0)
                r = vm_resolve_all(&e, (const char *const *)cli->args, cli->n_args, &items, &n,
                                   err);
        for (size_t i = 0; i < n && r == 0; i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;

                r = meta_vm_get(e.meta, items[i].id, &vm, err);
                if (r < 0)
                        break;
                vm_present(&cli->config, &vm);
                if (cc_streq(vm.state, vm_state_name(VM_RUNNING)) && !o->force) {
                        cli->items_verb = "rm";
                        cli_item_add(cli, vm.id, "running (force required)");
                        continue;
                }
                dry_run_add(&dry, "VM", vm.id, vm.config.name,
                            (cc_isempty(vm.run_dir) ? 0 : cc_tree_bytes(vm.run_dir)) +
                                    (cc_isempty(vm.log_dir) ? 0 : cc_tree_bytes(vm.log_dir)));
        }
        if (r < 0)
                return r;
        dry_run_print(&dry, &o->out);
        return cli->n_items == 0 ? 0
                                 : cc_fail(err, CC_STATE, "rm: item %s: %s", cli->items[0].id,
                                           cli->items[0].error);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        struct batch batch = {
                .verb = "rm",
                .tag = "vm.rm",
                .done = "deleted VM",
                .none = "no VMs deleted",
                .fn = rm,
                .ctx = o,
        };

        return o->dry_run ? would_rm(cli, o, err) : batch_run(cli, &batch, &o->out, err);
}

static const struct opt rows[] = {
        { .name = "force",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, force),
          .help = "stop a running VM at once, then delete it" },
        DRY_RUN_ROW(offsetof(struct options, dry_run)),
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_rm = {
        .path = "vm rm",
        .args = "VM [VM...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Delete virtual machines with their disks",
        .long_help = "A running VM is refused unless --force is given. Images stay.",
        .examples = "cocoon vm rm web-1\ncocoon vm rm --force $(cocoon vm list -q)\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM,
        .run = run,
};
