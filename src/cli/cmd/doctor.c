/* cocoon doctor */
#include <ctype.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/table.h"
#include "doctor/doctor.h"

struct options {
        struct output_flags out;
        struct doctor_options how;
};

static void print_text(const struct doctor_report *report)
{
        CC_BUF struct cc_buf b = { 0 };

        for (size_t i = 0; i < report->n; i++) {
                const struct doctor_line *l = &report->v[i];
                char verdict[8] = "";

                for (const char *p = doctor_verdict_name(l->verdict); *p; p++)
                        verdict[p - doctor_verdict_name(l->verdict)] = (char)toupper(*p);
                table_sanitise(l->text);
                cc_buf_printf(&b, "%-4s  %-12s %s%s\n", verdict, l->check,
                              l->fixed ? "fixed: " : "", l->text);
                if (l->hint && l->verdict != DOCTOR_PASS)
                        cc_buf_printf(&b, "%19s-> %s\n", "", l->hint);
        }
        cc_buf_printf(&b, "%zu passed, %zu warnings, %zu failed\n", report->count[DOCTOR_PASS],
                      report->count[DOCTOR_WARN], report->count[DOCTOR_FAIL]);
        out_text(b.data);
}

static void print_json(const struct doctor_report *report)
{
        json_t *root = json_object();
        json_t *checks = json_array();
        json_t *summary = json_object();

        for (size_t i = 0; i < report->n; i++) {
                const struct doctor_line *l = &report->v[i];
                json_t *j = json_object();

                json_object_set_new(j, "check", json_string(l->check));
                json_object_set_new(j, "status", json_string(doctor_verdict_name(l->verdict)));
                json_object_set_new(j, "message", out_string(l->text));
                if (l->hint)
                        json_object_set_new(j, "hint", out_string(l->hint));
                if (l->fixed)
                        json_object_set_new(j, "fixed", json_true());
                json_array_append_new(checks, j);
        }
        for (int v = 0; v < DOCTOR_VERDICTS; v++)
                json_object_set_new(summary, doctor_verdict_name(v),
                                    json_integer((json_int_t)report->count[v]));
        json_object_set_new(root, "checks", checks);
        json_object_set_new(root, "summary", summary);
        out_json(root);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        DOCTOR_REPORT struct doctor_report report = { 0 };
        int r = doctor_run(&cli->config, &o->how, &report, err);

        if (r < 0)
                return r;
        if (output_is_json(&o->out))
                print_json(&report);
        else
                print_text(&report);
        if (report.count[DOCTOR_FAIL] == 0)
                return 0;
        return cc_fail(err, CC_UNAVAILABLE, "doctor: %zu of %zu checks failed",
                       report.count[DOCTOR_FAIL], report.n);
}

static const struct opt rows[] = {
        { .name = "fix",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, how.fix),
          .help = "put right what can be put right" },
        { .name = "subnet",
          .type = OPT_STRING,
          .offset = offsetof(struct options, how.subnet),
          .fallback = "10.88.0.0/16",
          .metavar = "CIDR",
          .help = "of the network that --fix sets up where there is none" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_json_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_doctor = {
        .path = "doctor",
        .args = "",
        .help = "Check this host and the store, and put right what can be",
        .long_help =
                "One line per finding: PASS, WARN (something will not work, or not as well) or "
                "FAIL (VMs cannot run, or data is in danger; the exit status is 1). Without --fix "
                "nothing is changed.\n\n"
                "--fix makes directories and closes those that are open to others, installs "
                "missing "
                "tools with the distribution's package manager, loads kernel modules, turns "
                "forwarding on, appends the firewall rules of cni0, and writes a default network "
                "list where there is none and the plugins for it are installed. Running it again "
                "changes nothing more.",
        .examples = "cocoon doctor\ncocoon doctor --fix --subnet 172.30.0.0/16\n"
                    "cocoon doctor -o json | jq '.checks[] | select(.status != \"pass\")'\n",
        .opts = groups,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .run = run,
};
