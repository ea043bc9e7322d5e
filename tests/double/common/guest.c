#include "guest.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/timeutil.h"

enum state { GUEST_OFF, GUEST_PAUSED, GUEST_RUNNING };

struct dbl_guest {
        struct dbl_loop *loop;
        struct dbl_journal *journal;
        const struct dbl_guest_host *host;
        void *ctx;
        int64_t boot_ns;
        int64_t button_ns; /* -1: ignored */

        enum state state;
        bool booted, silent;
        int64_t uptime, since;  /* guest clock: uptime + (now - since) while running */
        int64_t power_at;       /* guest clock at which it powers off; 0: never */
        unsigned timer;         /* the next thing on the guest's clock */
        struct dbl_shell shell; /* of a guest that is on */
        char *ready;            /* the readiness line but for the uptime */
        struct cc_buf line;     /* typed so far */
};

static void arm(struct dbl_guest *g);

struct dbl_guest *dbl_guest_new(struct dbl_loop *loop, struct dbl_journal *journal,
                                const struct dbl_settings *settings,
                                const struct dbl_guest_host *host, void *ctx)
{
        struct dbl_guest *g = xcalloc(1, sizeof(*g));
        const char *button = dbl_setting(settings, "POWER_BUTTON");
        long long ms = 0;

        g->loop = loop;
        g->journal = journal;
        g->host = host;
        g->ctx = ctx;
        g->boot_ns = dbl_setting_int(settings, "BOOT_MS", 0) * CC_NSEC_PER_MSEC;
        if (button && cc_startswith(button, "exit-after:"))
                (void)cc_parse_i64(button + strlen("exit-after:"), &ms);
        g->button_ns = cc_streq(button, "ignore") ? -1 : ms * CC_NSEC_PER_MSEC;
        return g;
}

void dbl_guest_free(struct dbl_guest *g)
{
        if (!g)
                return;
        dbl_guest_off(g);
        cc_buf_free(&g->line);
        free(g);
}

static int64_t clock_of(const struct dbl_guest *g)
{
        return g->uptime + (g->state == GUEST_RUNNING ? cc_monotonic() - g->since : 0);
}

static void note(struct dbl_guest *g, const char *what)
{
        dbl_journal_add(g->journal, "guest", json_pack("{s:s}", "what", what));
}

/* Guest terminals send CR LF. */
static void put(struct dbl_guest *g, const char *text)
{
        CC_BUF struct cc_buf out = { 0 };

        for (; *text; text++) {
                if (*text == '\n')
                        cc_buf_char(&out, '\r');
                cc_buf_char(&out, *text);
        }
        if (out.len && !g->silent)
                g->host->output(g->ctx, out.data, out.len);
}

static void prompt(struct dbl_guest *g)
{
        CC_FREE char *text = xasprintf("%s:~# ", g->shell.hostname);

        put(g, text);
}

static void announce(struct dbl_guest *g)
{
        CC_FREE char *text = xasprintf("\n%s uptime=%.2f\n", g->ready, (double)clock_of(g) / 1e9);

        g->booted = true;
        note(g, "ready");
        put(g, text);
        prompt(g);
}

static void power_off(struct dbl_guest *g, enum dbl_power what)
{
        note(g, what == DBL_POWER_OFF ? "poweroff" : "reboot");
        dbl_guest_off(g);
        g->host->power(g->ctx, what);
}

/* Something is due on the guest's clock. */
static void on_timer(void *arg)
{
        struct dbl_guest *g = arg;

        g->timer = 0;
        if (!g->booted && clock_of(g) >= g->boot_ns)
                announce(g);
        if (g->power_at && clock_of(g) >= g->power_at)
                power_off(g, DBL_POWER_OFF);
        else
                arm(g);
}

static void arm(struct dbl_guest *g)
{
        int64_t next = !g->booted ? g->boot_ns : g->power_at;

        dbl_loop_cancel(g->loop, g->timer);
        g->timer = 0;
        if (g->state == GUEST_RUNNING && (!g->booted || g->power_at))
                g->timer = dbl_loop_at(g->loop, g->since + next - g->uptime, on_timer, g);
}

/* The value of the last `key` word of a kernel command line, NULL without one. */
static char *last_word(const char *cmdline, const char *key)
{
        CC_STRV struct cc_strv words = { 0 };
        const char *word, *found = NULL;

        cc_split(cmdline, " ", &words);
        cc_strv_foreach (&words, i, word) {
                if (cc_streq(word, "--"))
                        break;
                if (cc_startswith(word, key))
                        found = word + strlen(key);
        }
        return found ? xstrdup(found) : NULL;
}

/* The address that a cocoon.net= word (<i>,<mac>,<ip>/<prefix>,…) gives this NIC. */
static char *by_mac(const struct cc_strv *words, const char *mac)
{
        const char *word;

        cc_strv_foreach (words, i, word) {
                CC_STRV struct cc_strv part = { 0 };

                if (!cc_startswith(word, "cocoon.net="))
                        continue;
                cc_split(word + strlen("cocoon.net="), ",", &part);
                if (part.len >= 3 && strcasecmp(part.v[1], mac) == 0)
                        return cc_streq(part.v[2], "dhcp")
                                       ? xstrdup("")
                                       : xstrndup(part.v[2], strcspn(part.v[2], "/"));
        }
        return NULL;
}

/* The address that an ip= word (<ip>::<gw>:<mask>:<name>:eth<i>:off) gives this NIC. */
static char *by_index(const struct cc_strv *words, size_t nic)
{
        CC_FREE char *dev = xasprintf(":eth%zu:", nic);
        const char *word;

        cc_strv_foreach (words, i, word) {
                if (cc_startswith(word, "ip=") && strstr(word, dev))
                        return xstrndup(word + 3, strcspn(word + 3, ":"));
        }
        return NULL;
}

char *dbl_guest_addresses(const char *cmdline, const char *const *macs, size_t n_nics)
{
        CC_STRV struct cc_strv words = { 0 };
        CC_STRV struct cc_strv found = { 0 };

        cc_split(cmdline, " ", &words);
        for (size_t i = 0; i < n_nics; i++) {
                CC_FREE char *ip = by_mac(&words, macs[i]);

                if (!ip)
                        ip = by_index(&words, i);
                if (!cc_isempty(ip))
                        cc_strv_add(&found, ip);
        }
        return found.len ? cc_strv_join(&found, ",") : xstrdup("none");
}

void dbl_guest_boot(struct dbl_guest *g, const struct dbl_guest_machine *m)
{
        CC_FREE char *name = last_word(m->cmdline, "cocoon.hostname=");
        CC_FREE char *net = dbl_guest_addresses(m->cmdline, m->macs, m->n_nics);
        json_t *disk;

        dbl_guest_off(g);
        dbl_shell_init(&g->shell);
        if (!cc_isempty(name))
                cc_strset(&g->shell.hostname, name);
        cc_strset(&g->shell.cmdline, m->cmdline);
        g->shell.cpus = m->cpus;
        disk = g->host->disk_load(g->ctx);
        if (disk) {
                json_decref(g->shell.disk);
                g->shell.disk = disk;
        }
        g->ready = xasprintf("cocoon-tiny ready: hostname=%s disks=%zu net=%s", g->shell.hostname,
                             m->disks, net);
        g->silent = m->silent;
        g->booted = false;
        g->power_at = 0;
        g->uptime = 0;
        g->since = cc_monotonic();
        g->state = GUEST_RUNNING;
        note(g, "boot");
        arm(g);
}

void dbl_guest_off(struct dbl_guest *g)
{
        dbl_loop_cancel(g->loop, g->timer);
        g->timer = 0;
        if (g->state != GUEST_OFF)
                dbl_shell_free(&g->shell);
        free(g->ready);
        g->ready = NULL;
        g->line.len = 0;
        g->state = GUEST_OFF;
}

void dbl_guest_pause(struct dbl_guest *g)
{
        if (g->state != GUEST_RUNNING)
                return;
        g->uptime = clock_of(g);
        g->state = GUEST_PAUSED;
        arm(g);
}

void dbl_guest_resume(struct dbl_guest *g)
{
        if (g->state != GUEST_PAUSED)
                return;
        g->since = cc_monotonic();
        g->state = GUEST_RUNNING;
        arm(g);
}

bool dbl_guest_running(const struct dbl_guest *g)
{
        return g->state == GUEST_RUNNING;
}

bool dbl_guest_booted(const struct dbl_guest *g)
{
        return g->state != GUEST_OFF && g->booted;
}

void dbl_guest_power_button(struct dbl_guest *g)
{
        note(g, "power-button");
        /* Nobody listens before the guest is up. */
        if (!dbl_guest_booted(g) || g->button_ns < 0 || g->power_at)
                return;
        g->power_at = clock_of(g) + g->button_ns;
        if (g->power_at == 0)
                g->power_at = 1;
        arm(g);
}

/* Enter was typed: run the line. */
static void enter(struct dbl_guest *g)
{
        CC_FREE char *line = cc_buf_take(&g->line);
        CC_BUF struct cc_buf out = { 0 };
        enum dbl_power power = dbl_shell_run(&g->shell, line, clock_of(g), &out);

        put(g, out.data ? out.data : "");
        if (g->shell.disk_changed) {
                g->host->disk_store(g->ctx, g->shell.disk);
                g->shell.disk_changed = false;
        }
        if (power)
                power_off(g, power);
        else
                prompt(g);
}

void dbl_guest_input(struct dbl_guest *g, const char *data, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                char c = data[i];

                /* A kernel that boots, or stands still, has nobody reading. */
                if (g->state != GUEST_RUNNING || !g->booted)
                        return;
                if (c == '\r' || c == '\n') {
                        put(g, "\n");
                        enter(g);
                } else if (c == 3) {
                        g->line.len = 0;
                        put(g, "^C\n");
                        prompt(g);
                } else if (c == 127 || c == 8) {
                        if (g->line.len) {
                                g->line.data[--g->line.len] = '\0';
                                put(g, "\b \b");
                        }
                } else if ((unsigned char)c >= ' ' && g->line.len < 4096) {
                        cc_buf_char(&g->line, c);
                        put(g, (char[]){ c, '\0' });
                }
        }
}

json_t *dbl_guest_save(const struct dbl_guest *g)
{
        return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:b, s:b, s:O, s:O}", "hostname",
                         g->shell.hostname, "cmdline", g->shell.cmdline, "ready", g->ready, "cpus",
                         g->shell.cpus, "counter", (json_int_t)g->shell.counter, "uptime",
                         (json_int_t)clock_of(g), "power_at", (json_int_t)g->power_at, "booted",
                         (int)g->booted, "silent", (int)g->silent, "memory", g->shell.memory,
                         "disk", g->shell.disk);
}

int dbl_guest_load(struct dbl_guest *g, const json_t *state, struct cc_err *err)
{
        const char *hostname, *cmdline, *ready;
        json_t *memory, *disk;
        json_int_t counter, uptime, power_at;
        int cpus, booted, silent;

        dbl_guest_off(g);
        if (json_unpack((json_t *)state, "{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:b, s:b, s:o, s:o}",
                        "hostname", &hostname, "cmdline", &cmdline, "ready", &ready, "cpus", &cpus,
                        "counter", &counter, "uptime", &uptime, "power_at", &power_at, "booted",
                        &booted, "silent", &silent, "memory", &memory, "disk", &disk) < 0)
                return cc_fail(err, CC_INVALID, "no saved guest");
        dbl_shell_init(&g->shell);
        cc_strset(&g->shell.hostname, hostname);
        cc_strset(&g->shell.cmdline, cmdline);
        g->shell.cpus = cpus;
        g->shell.counter = counter;
        json_object_update(g->shell.memory, memory);
        json_object_update(g->shell.disk, disk);
        g->ready = xstrdup(ready);
        g->booted = booted;
        g->silent = silent;
        g->uptime = uptime;
        g->power_at = power_at;
        g->state = GUEST_PAUSED;
        return 0;
}
