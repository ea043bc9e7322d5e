/* cocoon doctor */
#include <ctype.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/table.h"
#include "doctor/doctor.h"
#include "image/module.h"

struct options {
        struct output_flags out;
        struct doctor_options how;
        bool upgrade;
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

/* --upgrade needs to be told from where, and what the files must be. */
static int prepare_upgrade(const struct cli *cli, struct options *o, struct doctor_fetch *fetch,
                           struct cc_err *err)
{
        const struct image_module *image;
        const void *module;
        int r;

        if (!o->upgrade) {
                if (*o->how.mirror || *o->how.pins || opt_given(&cli->set, "bin-dir"))
                        return cc_fail(err, CC_USAGE,
                                       "--mirror, --pins and --bin-dir require --upgrade");
                return 0;
        }
        if (!*o->how.mirror || !*o->how.pins)
                return cc_fail(err, CC_USAGE, "--upgrade requires --mirror and --pins");
        if (!cc_startswith(o->how.mirror, "https://") && !cc_startswith(o->how.mirror, "http://"))
                return cc_fail(err, CC_USAGE, "--mirror must be an http or https address");
        r = cc_module_open("image", &module, err);
        if (r < 0)
                return r;
        image = module;
        *fetch = (struct doctor_fetch){ image->download, image->unpack, image->digest };
        o->how.fetch = fetch;
        o->how.fix = true;
        return 0;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        DOCTOR_REPORT struct doctor_report report = { 0 };
        struct doctor_fetch fetch;
        int r;

        if (cli->n_args == 0) {
                r = prepare_upgrade(cli, o, &fetch, err);
                if (r < 0)
                        return r;
                r = doctor_run(&cli->config, &o->how, &report, err);
        } else {
                if (!cc_streq(cli->args[0], "vm") || cli->n_args != 2)
                        return cc_fail(err, CC_USAGE, "want \"doctor\" or \"doctor vm VM\"");
                if (o->how.fix || o->upgrade || opt_given(&cli->set, "subnet"))
                        return cc_fail(err, CC_USAGE, "\"doctor vm\" only looks: no --fix");
                r = doctor_vm(&cli->config, cli->args[1], &report, err);
        }
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
        { .name = "upgrade",
          .type = OPT_BOOL,
          .offset = offsetof(struct options, upgrade),
          .help = "also install hypervisors, firmware and CNI plugins; implies --fix" },
        { .name = "mirror",
          .type = OPT_STRING,
          .offset = offsetof(struct options, how.mirror),
          .metavar = "URL",
          .help = "where --upgrade finds the projects' release files" },
        { .name = "pins",
          .type = OPT_STRING,
          .offset = offsetof(struct options, how.pins),
          .metavar = "FILE",
          .help = "their SHA-256, as sha256sum writes them",
          .complete = COMPLETE_FILE },
        { .name = "bin-dir",
          .type = OPT_STRING,
          .offset = offsetof(struct options, how.bin_dir),
          .fallback = "/usr/local/bin",
          .metavar = "DIR",
          .help = "where --upgrade puts programs",
          .complete = COMPLETE_DIR },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { output_json_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

static const char *const subjects[] = { "vm", NULL };

const struct cmd cmd_doctor = {
        .path = "doctor",
        .args = "[vm VM]",
        .max = 2,
        .arg_values = subjects,
        .complete = COMPLETE_VM,
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
                "changes nothing more.\n\n"
                "--upgrade fetches release files of the projects from --mirror, at the paths that "
                "they have on the projects' own release pages "
                "(PROJECT/REPOSITORY/releases/download/TAG/FILE). What is not listed in --pins is "
                "not fetched, what differs from it is not used, and a program that does not run "
                "replaces none that does. CH_VERSION, FC_VERSION, FW_VERSION and CNI_VERSION in "
                "the environment choose other versions.\n\n"
                "doctor vm looks at one VM instead: its record against process, control socket, "
                "console, disks, network namespace and NICs.",
        .examples =
                "cocoon doctor\ncocoon doctor --fix --subnet 172.30.0.0/16\ncocoon doctor vm web\n"
                "cocoon doctor -o json | jq '.checks[] | select(.status != \"pass\")'\n",
        .opts = groups,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .run = run,
};
