/* cocoon vm reconcile-stale-create: collect what a killed create left. */
#include "base/id.h"
#include "cli/cli.h"
#include "cli/output.h"

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct output_flags *o = opts;
        ENGINE struct engine e = { 0 };
        char id[CC_ID_LEN + 1] = "";
        const char *outcome = "";
        json_t *json;
        int r;

        cli->quiet_log = output_is_json(o);
        r = cli_engine(cli, &e, err);
        if (r == 0)
                r = vm_reconcile_stale_create(&e, cli->args[0], &outcome, id, err);
        if (r < 0)
                return r;
        if (!output_is_json(o)) {
                cli_success(cli, "vm.reconcile", "%s: %s", *id ? id : cli->args[0], outcome);
                return 0;
        }
        json = json_object();
        if (*id)
                json_object_set_new(json, "id", json_string(id));
        json_object_set_new(json, "outcome", json_string(outcome));
        out_json(json);
        return 0;
}

static const struct opt_group groups[] = { { output_json_opts, 0, NULL }, { 0 } };

const struct cmd cmd_vm_reconcile_stale_create = {
        .path = "vm reconcile-stale-create",
        .args = "VM",
        .min = 1,
        .max = 1,
        .help = "Remove what an interrupted create left behind",
        .long_help = "The outcome is collected, busy (the create still runs), not-creating or "
                     "not-found; all of them are success.",
        .examples = "cocoon vm reconcile-stale-create web-1 -o json\n",
        .opts = groups,
        .size = sizeof(struct output_flags),
        .complete = COMPLETE_VM,
        .run = run,
};
