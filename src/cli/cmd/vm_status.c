/* cocoon vm status: the VMs asked for, once, redrawn, or as a stream of events. */
#include <stdio.h>
#include <time.h>

#include "base/timeutil.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/vm_list.h"
#include "cli/vm_watch.h"

#define DEFAULT_INTERVAL 5

struct options {
        struct list_flags list;
        int64_t interval;
        bool watch, event;
        bool told_header;
};

static void field(const char *name, const struct vm_record *vm, struct table *t)
{
        for (size_t f = 0; f < vm_list_type.n_fields; f++) {
                CC_BUF struct cc_buf cell = { 0 };

                if (!cc_streq(vm_list_type.fields[f].name, name))
                        continue;
                vm_list_type.fields[f].text(vm, false, &cell);
                table_cell(t, cell.data ? cell.data : "");
        }
}

static void print_rows(const struct vm_event *events, size_t n)
{
        static const char *const names[] = {
                "id", "name", "state", "cpu", "memory", "ip", "image"
        };
        struct table t = { .columns = 1 + CC_ARRAY_LEN(names) };
        CC_BUF struct cc_buf out = { 0 };

        for (size_t i = 0; i < n; i++) {
                table_cell(&t, events[i].type);
                for (size_t k = 0; k < CC_ARRAY_LEN(names); k++)
                        field(names[k], events[i].vm, &t);
        }
        table_render(&t, &out);
        table_clear(&t);
        if (out.data)
                out_text(out.data);
}

static bool print_events(void *ctx, const struct vm_event *events, size_t n, const void **view,
                         size_t n_view)
{
        struct options *o = ctx;

        if (cc_startswith(o->list.format, "json")) {
                for (size_t i = 0; i < n; i++) {
                        json_t *line = json_object();

                        json_object_set_new(line, "event", json_string(events[i].type));
                        json_object_set_new(line, "vm", vm_list_type.json(events[i].vm));
                        out_json_line(line);
                }
                return true;
        }
        if (!o->told_header && !o->list.no_header)
                out_text("EVENT\tID\tNAME\tSTATE\tCPU\tMEMORY\tIP\tIMAGE\n");
        o->told_header = true;
        print_rows(events, n);
        (void)fflush(stdout);
        return true;
}

static bool redraw(void *ctx, const struct vm_event *events, size_t n, const void **view,
                   size_t n_view)
{
        struct options *o = ctx;
        char now[32];

        if (isatty(STDOUT_FILENO))
                out_text("\033[H\033[2J");
        cc_time_table(cc_now(), now);
        out_line(now);
        out_line("");
        list_print(&vm_list_type, &o->list, view, n_view);
        (void)fflush(stdout);
        return true;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        struct vm_watch_args args = {
                .refs = cli->args,
                .n_refs = cli->n_args,
                .filter = &o->list,
                .interval_s = o->interval > 0 ? o->interval : DEFAULT_INTERVAL,
                .changed = o->event ? print_events : redraw,
                .ctx = o,
        };
        int r;

        if (!o->watch && !o->event)
                return vm_list_run(cli, &o->list, cli->args, cli->n_args, err);
        r = list_check(&vm_list_type, &o->list, err);
        if (r < 0)
                return r;
        if (o->watch && !cc_streq(o->list.format, "table"))
                return cc_fail(err, CC_USAGE, "--watch draws a table; use --event --format json");
        if (o->event && !cc_streq(o->list.format, "table") &&
            !cc_startswith(o->list.format, "json"))
                return cc_fail(err, CC_USAGE,
                               "--format \"%s\" is invalid: want \"table\" or \"json\"",
                               o->list.format);
        return vm_watch_run(cli, &args, err);
}

static const struct opt rows[] = {
        { .name = "watch",
          .letter = 'w',
          .type = OPT_BOOL,
          .offset = offsetof(struct options, watch),
          .help = "redraw when something changes" },
        { .name = "event",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, event),
          .help = "print changes as they happen; with --format json one object a line" },
        { .name = "interval",
          .letter = 'n',
          .type = OPT_INT,
          .offset = offsetof(struct options, interval),
          .fallback = "5",
          .metavar = "SECONDS",
          .help = "longest time between two looks" },
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
                     "an ID (3 characters or more); one that matches nothing is not an error: the "
                     "VM may come. Following ends with a signal or when the output has no reader. "
                     "The end of a VM's process is told at once, as the state \"stopped (stale)\".",
        .examples = "cocoon vm status web-1\ncocoon vm status --watch\n"
                    "cocoon vm status --event --format json\n",
        .opts = groups,
        .excludes = excludes,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .complete = COMPLETE_VM,
        .run = run,
};
