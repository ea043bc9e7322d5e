/* The table of checks, and how one is run. See doctor.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/interrupt.h"
#include "doctor/internal.h"

/* Drivers come before KVM, whose verdict depends on them; plugins before the lists that name them,
 * lists before what only matters to a network of theirs. */
static const struct doctor_check checks[] = {
        { "drivers", doctor_drivers, NULL },
        { "kvm", doctor_kvm, doctor_kvm_fix },
        { "modules", doctor_modules, NULL },
        { "tools", doctor_tools, doctor_tools_fix },
        { "firmware", doctor_firmware, NULL },
        { "dirs", doctor_dirs, doctor_dirs_fix },
        { "space", doctor_space, NULL },
        { "reflink", doctor_reflinks, NULL },
        { "tun", doctor_tun, doctor_modprobe_tun },
        { "vsock", doctor_vsock, doctor_modprobe_vsock },
        { "cgroup", doctor_cgroup, NULL },
        { "cni-plugins", doctor_plugins, NULL },
        { "cni-conf", doctor_conflists, doctor_conflists_fix },
        { "sysctl", doctor_sysctl, doctor_sysctl_fix },
        { "forward", doctor_forward, doctor_forward_fix },
        { "store", doctor_store, NULL },
        { "consistency", doctor_consistency, NULL },
};

const char *doctor_verdict_name(enum doctor_verdict v)
{
        static const char *const names[] = { "pass", "warn", "fail" };

        return names[v];
}

static void line_clear(struct doctor_line *l)
{
        free(l->text);
        free(l->hint);
}

void doctor_report_clear(struct doctor_report *r)
{
        for (size_t i = 0; i < r->n; i++)
                line_clear(&r->v[i]);
        free(r->v);
        *r = (struct doctor_report){ 0 };
}

void doctor_say(struct doctor *d, enum doctor_verdict verdict, const char *hint, const char *fmt,
                ...)
{
        struct doctor_report *r = d->report;
        char *text = NULL;
        va_list ap;

        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                abort();
        va_end(ap);
        r->v = xreallocarray(r->v, r->n + 1, sizeof(*r->v));
        r->v[r->n++] = (struct doctor_line){
                .check = d->check,
                .verdict = verdict,
                .text = text,
                .hint = hint ? xstrdup(hint) : NULL,
        };
}

void doctor_report_move(struct doctor_report *from, struct doctor_report *to)
{
        for (size_t i = 0; i < from->n; i++)
                from->count[from->v[i].verdict]++;
        *to = *from;
        *from = (struct doctor_report){ 0 };
}

static bool all_pass(const struct doctor_report *r, size_t first)
{
        for (size_t i = first; i < r->n; i++)
                if (r->v[i].verdict != DOCTOR_PASS)
                        return false;
        return true;
}

/* Was the same thing well before? */
static bool was_well(const struct doctor_report *before, const struct doctor_line *line)
{
        for (size_t i = 0; i < before->n; i++)
                if (before->v[i].verdict == DOCTOR_PASS &&
                    strcmp(before->v[i].text, line->text) == 0)
                        return true;
        return false;
}

/* Move the lines from `first` on out of the report. */
static void take_lines(struct doctor_report *from, size_t first, struct doctor_report *to)
{
        to->n = from->n - first;
        to->v = xreallocarray(NULL, to->n + 1, sizeof(*to->v));
        memcpy(to->v, from->v + first, to->n * sizeof(*to->v));
        from->n = first;
}

static void fix(struct doctor *d, const struct doctor_check *c, size_t first)
{
        DOCTOR_REPORT struct doctor_report before = { 0 };
        struct cc_err why = CC_ERR_INIT;
        CC_FREE char *label = xasprintf("doctor.%s", c->name);
        int r = c->fix(d, &why);

        if (r == 0)
                r = cc_failpoint(label, &why);
        take_lines(d->report, first, &before);
        c->probe(d);
        for (size_t i = first; i < d->report->n; i++) {
                struct doctor_line *l = &d->report->v[i];

                l->fixed = l->verdict == DOCTOR_PASS && !was_well(&before, l);
        }
        if (r < 0)
                doctor_say(d, DOCTOR_WARN, *why.hint ? why.hint : NULL, "not fixed: %s", why.msg);
}

static void run_check(struct doctor *d, const struct doctor_check *c)
{
        size_t first = d->report->n;

        d->check = c->name;
        c->probe(d);
        if (d->options->fix && c->fix && !all_pass(d->report, first))
                fix(d, c, first);
}

int doctor_run(const struct config *config, const struct doctor_options *options,
               struct doctor_report *ret, struct cc_err *err)
{
        DOCTOR_REPORT struct doctor_report report = { 0 };
        struct doctor d = { .config = config, .options = options, .report = &report };
        int r = doctor_subnet_parse(cc_isempty(options->subnet) ? "10.88.0.0/16" : options->subnet,
                                    d.subnet, d.gateway, err);

        if (r < 0)
                return r;
        if (options->fetch)
                doctor_upgrade(&d, options->fetch);
        for (size_t i = 0; i < CC_ARRAY_LEN(checks); i++) {
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                run_check(&d, &checks[i]);
        }
        doctor_report_move(&report, ret);
        return 0;
}
