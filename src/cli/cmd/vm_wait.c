/* cocoon vm wait: block until VMs are as wanted; for scripts that would otherwise poll. */
#include <string.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/timeutil.h"
#include "cli/guest.h"
#include "cli/vm_list.h"
#include "cli/vm_watch.h"

#define EXIT_TIMEOUT 124 /* as timeout(1) */

struct options {
        const char *what;
        int64_t timeout;
        struct vm_batch_item *items;
        size_t n_items;
        struct cc_err *err;
        bool reached;
};

static const struct vm_record *view_find(const void **view, size_t n, const char *id)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(((const struct vm_record *)view[i])->id, id) == 0)
                        return view[i];
        return NULL;
}

static bool has_ip(const struct vm_record *vm)
{
        for (size_t i = 0; i < vm->network_configs.len; i++)
                if (vm_nic(vm, i)->network && !cc_isempty(vm_nic(vm, i)->network->ip))
                        return true;
        return false;
}

/* A VM whose process is gone has stopped, whatever the record still says. */
static bool reached(const struct vm_record *vm, const char *what)
{
        if (!vm)
                return cc_streq(what, "deleted");
        if (cc_streq(what, "ip"))
                return cc_streq(vm->state, "running") && has_ip(vm);
        if (cc_streq(what, "stopped"))
                return cc_streq(vm->state, "stopped") || cc_streq(vm->state, VM_STATE_STALE);
        if (cc_streq(what, "agent"))
                return cc_streq(vm->state, "running");
        return cc_streq(vm->state, what);
}

/* What can no longer come about by waiting. */
static int check_lost(const struct vm_record *vm, const char *id, const char *what,
                      struct cc_err *err)
{
        if (!vm)
                return cc_fail(err, CC_STATE, "wait: vm %s was deleted", id);
        if (cc_streq(vm->state, "error"))
                return cc_streq(what, "deleted")
                               ? 0
                               : cc_fail(err, CC_STATE, "wait: vm %s is in state error", id);
        return 0;
}

static bool judge(void *ctx, const struct vm_event *events, size_t n_events, const void **view,
                  size_t n_view)
{
        struct options *o = ctx;
        size_t there = 0;

        for (size_t i = 0; i < o->n_items; i++) {
                const char *id = o->items[i].id;
                const struct vm_record *vm = view_find(view, n_view, id);

                if (reached(vm, o->what))
                        there++;
                else if (check_lost(vm, id, o->what, o->err) < 0)
                        return false;
        }
        o->reached = there == o->n_items;
        return !o->reached;
}

/* A reference that is gone already is what `--for deleted` asks for. */
static int resolve(struct cli *cli, struct options *o, struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        int r = cli_engine(cli, &e, err);

        if (r < 0)
                return r;
        o->items = xcalloc(cli->n_args, sizeof(*o->items));
        for (size_t i = 0; i < cli->n_args; i++) {
                struct cc_err why = CC_ERR_INIT;

                r = meta_vm_resolve(e.meta, cli->args[i], o->items[o->n_items].id, &why);
                if (r == 0)
                        o->n_items++;
                else if (r != -CC_NOT_FOUND || !cc_streq(o->what, "deleted"))
                        return cc_err_copy(err, &why);
        }
        return 0;
}

/* Of VMs that run: none of them tells when its agent is there, so each is asked. */
static int await_agents(struct cli *cli, const struct options *o, int64_t deadline,
                        struct cc_err *err)
{
        ENGINE struct engine e = { 0 };
        int r = cli_engine(cli, &e, err);

        for (size_t i = 0; i < o->n_items && r == 0; i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;
                VM_AGENT struct vm_agent agent = { 0 };
                AGENT_CONN struct agent_conn conn = AGENT_CONN_INIT;
                struct agent_dial how = { .connect_ms = INT32_MAX };

                if (deadline) {
                        int64_t left = (deadline - cc_monotonic()) / CC_NSEC_PER_MSEC;

                        how.connect_ms = how.queue_ms = left > 1 ? left : 1;
                }
                r = cli_vm_get(cli, &e, o->items[i].id, &vm, err);
                if (r == 0)
                        r = vm_agent_find(&cli->config, &vm, &agent, err);
                if (r == 0)
                        r = agent_dial(&agent.peer, &how, &conn, err);
                if (r == -CC_NETWORK && deadline && cc_monotonic() >= deadline - CC_NSEC_PER_SEC)
                        return -CC_TIMEOUT;
        }
        return r < 0 ? cc_wrap(err, "wait") : 0;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        struct list_flags none = { .format = "table", .sort = "" };
        struct cc_err lost = CC_ERR_INIT;
        struct vm_watch_args args = {
                .filter = &none,
                .interval_s = 5,
                .timeout = o->timeout,
                .detached = true,
                .changed = judge,
                .ctx = o,
        };
        int64_t deadline = o->timeout > 0 ? cc_monotonic() + o->timeout : 0;
        char **ids = NULL;
        int r;

        if (o->timeout < 0)
                return cc_fail(err, CC_USAGE, "--timeout must not be negative");
        o->err = &lost;
        r = resolve(cli, o, err);
        ids = xcalloc(o->n_items + 1, sizeof(*ids));
        for (size_t i = 0; i < o->n_items; i++)
                ids[i] = o->items[i].id;
        args.refs = ids;
        args.n_refs = o->n_items;
        /* Without references the watch would mean all VMs. */
        o->reached = o->n_items == 0;
        if (r == 0 && !o->reached)
                r = vm_watch_run(cli, &args, err);
        if (r == 0 && o->reached && cc_streq(o->what, "agent"))
                r = await_agents(cli, o, deadline, err);
        free(ids);
        free(o->items);
        if (r == -CC_TIMEOUT) {
                cli->exit_code = EXIT_TIMEOUT;
                return cc_fail(err, CC_TIMEOUT, "wait: not %s in time", o->what);
        }
        if (r < 0)
                return r;
        if (lost.class != CC_OK)
                return cc_err_copy(err, &lost);
        return o->reached ? 0 : cc_fail(err, CC_CANCELED, "wait: interrupted");
}

static const char *const conditions[] = { "running", "stopped", "ip", "agent", "deleted", NULL };

static const struct opt rows[] = {
        { .name = "for",
          .type = OPT_ENUM,
          .offset = offsetof(struct options, what),
          .fallback = "running",
          .metavar = "STATE",
          .help = "running, stopped, ip (running with a known address), agent (its guest's agent "
                  "answers) or deleted",
          .values = conditions },
        { .name = "timeout",
          .type = OPT_DURATION,
          .offset = offsetof(struct options, timeout),
          .metavar = "DURATION",
          .help = "give up after this time; 0 waits for ever" },
        { 0 },
};

static const struct opt_group groups[] = { { rows, 0, NULL }, { 0 } };

const struct cmd cmd_vm_wait = {
        .path = "vm wait",
        .args = "VM [VM...]",
        .min = 1,
        .max = CMD_ANY,
        .help = "Wait until virtual machines are in a state",
        .long_help =
                "Exits with 0 when all are as wanted, 124 after the timeout, 1 when it cannot "
                "come about any more: a VM was deleted or is in state error. A VM whose process "
                "died counts as stopped at once.",
        .examples = "cocoon vm wait web-1\ncocoon vm wait --for stopped --timeout 1m job-1 job-2\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM,
        .run = run,
};
