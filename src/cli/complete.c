/* Completion. See complete.h. */
#include "cli/complete.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "config/layout.h"
#include "image/image.h"

enum { BITS_NO_FILES = 4, BITS_DIRS = 16 };

#define CANDIDATES_MAX 1000
#define BUSY_MS        100 /* a busy store means no candidates, not a hanging shell */

struct completion {
        struct cli cli;     /* as far as the words before could be understood */
        const char *word;   /* being typed */
        const char *prefix; /* printed in front of each candidate: "--pull=" */
        enum opt_complete kind;
        size_t shown;
        int bits;
        struct cc_buf *out;
};

static void offer(struct completion *c, const char *candidate, const char *about)
{
        CC_FREE char *clean = xstrdup(candidate);
        CC_FREE char *text = xstrdup(about ? about : "");

        if (!cc_startswith(candidate, c->word) || c->shown++ >= CANDIDATES_MAX)
                return;
        table_sanitise(clean);
        table_sanitise(text);
        cc_buf_printf(c->out, "%s%s%s%s\n", c->prefix, clean, *text ? "\t" : "", text);
}

static int open_store(struct completion *c, struct meta **ret)
{
        struct config_flag flags[GLOBALS_CONFIG_MAX];
        size_t n = globals_config_flags(&c->cli.global_set, flags);
        const char *file = c->cli.globals.config_file;
        struct meta_open_args args = { .busy_timeout_ms = BUSY_MS };
        CC_FREE char *dir = NULL;

        if (config_load(*file ? file : NULL, flags, n, &c->cli.config, NULL) < 0)
                return -1;
        dir = layout_meta_dir(&c->cli.config);
        if (!cc_exists(dir)) /* opening would make a store; completion makes nothing */
                return -1;
        args.root_dir = c->cli.config.root_dir;
        args.run_dir = c->cli.config.run_dir;
        return meta_open(&args, ret, NULL);
}

static void offer_all(struct completion *c, const struct cc_strv *names, const char *about)
{
        const char *name;

        cc_strv_foreach (names, i, name)
                offer(c, name, about);
}

/* May a VM in this state stand where `kind` is wanted? */
static bool fits(enum opt_complete kind, enum vm_state state)
{
        return kind == COMPLETE_VM || (kind == COMPLETE_VM_RUNNING) == (state == VM_RUNNING);
}

/* From the derived columns alone: a shell waits for this, however many VMs there are. */
static void offer_vms(struct completion *c)
{
        META struct meta *m = NULL;

        if (open_store(c, &m) < 0)
                return;
        for (enum vm_state state = 0; state < VM_STATE_MAX; state++) {
                CC_STRV struct cc_strv names = { 0 };

                if (fits(c->kind, state) &&
                    meta_vm_names_in_state(m, vm_state_name(state), c->word, CANDIDATES_MAX, &names,
                                           NULL) == 0)
                        offer_all(c, &names, vm_state_name(state));
        }
        /* IDs are noise unless one was begun. */
        for (enum vm_state state = 0; *c->word && state < VM_STATE_MAX; state++) {
                CC_STRV struct cc_strv ids = { 0 };

                if (fits(c->kind, state) && meta_vm_ids_like(m, vm_state_name(state), c->word,
                                                             CANDIDATES_MAX, &ids, NULL) == 0)
                        offer_all(c, &ids, vm_state_name(state));
        }
}

static int offer_image(void *ctx, const char *kind, struct image_record *image, struct cc_err *err)
{
        if (image->ref)
                offer(ctx, image->ref, kind);
        return 0;
}

static void offer_images(struct completion *c)
{
        META struct meta *m = NULL;

        if (open_store(c, &m) == 0)
                (void)meta_image_each(m, NULL, offer_image, c, NULL);
}

static void offer_snapshots(struct completion *c)
{
        CC_STRV struct cc_strv names = { 0 };
        CC_STRV struct cc_strv ids = { 0 };
        META struct meta *m = NULL;

        if (open_store(c, &m) < 0)
                return;
        if (meta_snapshot_names(m, c->word, CANDIDATES_MAX, &names, NULL) == 0)
                offer_all(c, &names, "snapshot");
        if (meta_snapshot_ids_like(m, c->word, !*c->word, CANDIDATES_MAX, &ids, NULL) == 0)
                offer_all(c, &ids, "snapshot");
}

static void offer_networks(struct completion *c)
{
        META struct meta *m = NULL;
        CC_STRV struct cc_strv names = { 0 };
        struct net_env env = { 0 };

        (void)open_store(c, &m); /* for the configuration */
        env.config = &c->cli.config;
        net_offers(&env, &names);
        for (size_t i = 0; i < names.len; i++)
                offer(c, names.v[i], "network");
}

static void offer_bridges(struct completion *c)
{
        CC_DIR DIR *d = opendir("/sys/class/net");

        for (struct dirent *e; d && (e = readdir(d));) {
                CC_FREE char *path = xasprintf("/sys/class/net/%s/bridge", e->d_name);

                if (e->d_name[0] != '.' && cc_exists(path))
                        offer(c, e->d_name, NULL);
        }
}

static void offer_commands(struct completion *c, const char *group)
{
        for (size_t i = 0; cmd_group_at(i); i++)
                if (cmd_group_in(cmd_group_at(i), group))
                        offer(c, cmd_group_word(cmd_group_at(i)), cmd_group_at(i)->help);
        for (size_t i = 0; cmd_at(i); i++)
                if (!(cmd_at(i)->flags & CMD_HIDDEN) && cmd_in_group(cmd_at(i), group))
                        offer(c, cmd_word(cmd_at(i)), cmd_at(i)->help);
}

static void offer_values(struct completion *c, const char *const *values)
{
        for (; values && *values; values++)
                offer(c, *values, NULL);
}

static void offer_kind(struct completion *c, enum opt_complete kind)
{
        static const char *const formats[] = { "table", "json", "jsonl", NULL };

        c->kind = kind;
        switch (kind) {
        case COMPLETE_FILE:
                c->bits = 0;
                break;
        case COMPLETE_DIR:
                c->bits = BITS_DIRS;
                break;
        case COMPLETE_VM:
        case COMPLETE_VM_RUNNING:
        case COMPLETE_VM_STOPPED:
                offer_vms(c);
                break;
        case COMPLETE_IMAGE:
                offer_images(c);
                break;
        case COMPLETE_SNAPSHOT:
                offer_snapshots(c);
                break;
        case COMPLETE_NETWORK:
                offer_networks(c);
                break;
        case COMPLETE_BRIDGE:
                offer_bridges(c);
                break;
        case COMPLETE_FORMAT:
                offer_values(c, formats);
                break;
        case COMPLETE_NONE:
                break;
        }
}

static void offer_value(struct completion *c, const struct opt *o)
{
        offer_values(c, o->values);
        offer_kind(c, o->complete);
}

static void offer_flags(struct completion *c, const struct opt_group *groups)
{
        for (; groups && groups->rows; groups++)
                for (const struct opt *o = groups->rows; o->name; o++) {
                        CC_FREE char *name = xasprintf("--%s", o->name);

                        if (!(o->flags & OPT_HIDDEN) && !o->refuse)
                                offer(c, name, o->help);
                }
}

static const struct opt *find_row(const struct completion *c, const char *name, size_t len)
{
        const struct opt *o = opt_find(c->cli.set.groups, name, len, NULL);

        return o ? o : opt_find(c->cli.global_set.groups, name, len, NULL);
}

/* The flag whose value is the next word, if `arg` ends waiting for one. */
static const struct opt *awaits_value(const struct completion *c, const char *arg)
{
        const struct opt *o;

        if (cc_startswith(arg, "--")) {
                o = strchr(arg, '=') ? NULL : find_row(c, arg + 2, strlen(arg + 2));
                return o && o->type != OPT_BOOL ? o : NULL;
        }
        for (const char *p = arg + 1; *p; p++) {
                o = opt_find_letter(c->cli.set.groups, *p);
                if (!o)
                        o = opt_find_letter(c->cli.global_set.groups, *p);
                if (!o || p[1] == '=')
                        return NULL;
                if (o->type != OPT_BOOL)
                        return p[1] ? NULL : o;
        }
        return NULL;
}

static void take_word(struct cli *cli, const char *word)
{
        const struct cmd_group *group;
        const struct cmd *cmd;

        if (cli->cmd) {
                cli->n_args++;
                return;
        }
        group = cmd_group_find(cli->group ? cli->group->name : "", word);
        if (group) {
                cli->group = group;
                return;
        }
        cmd = cmd_find(cli->group ? cli->group->name : "", word);
        if (!cmd)
                return;
        cli->cmd = cmd;
        cli->opts = xcalloc(1, cmd->size + 1);
        opt_set_init(&cli->set, cmd->opts, cli->opts);
}

static void complete_last(struct completion *c, bool flags, const struct opt *pending)
{
        const char *eq = strchr(c->word, '=');
        CC_FREE char *prefix = NULL;

        if (pending) {
                offer_value(c, pending);
        } else if (flags && cc_startswith(c->word, "--") && eq) {
                const struct opt *o = find_row(c, c->word + 2, (size_t)(eq - c->word) - 2);

                prefix = xstrndup(c->word, (size_t)(eq + 1 - c->word));
                c->prefix = prefix;
                c->word = eq + 1;
                if (o)
                        offer_value(c, o);
                c->prefix = "";
        } else if (flags && c->word[0] == '-') {
                offer_flags(c, c->cli.set.groups);
                offer_flags(c, c->cli.global_set.groups);
        } else if (!c->cli.cmd) {
                offer_commands(c, c->cli.group ? c->cli.group->name : "");
        } else if (c->cli.cmd->max == CMD_ANY || c->cli.n_args < (size_t)c->cli.cmd->max) {
                offer_values(c, c->cli.n_args == 0 ? c->cli.cmd->arg_values : NULL);
                offer_kind(c, c->cli.cmd->complete);
        }
}

void complete_words(char *const *words, size_t n, struct cc_buf *ret)
{
        static const struct cc_log_config silent = { .level = CC_LOG_DISABLED };
        struct completion c = { .word = "", .prefix = "", .bits = BITS_NO_FILES, .out = ret };
        const struct opt *pending = NULL;
        bool flags = true;

        (void)cc_log_setup(&silent, NULL);
        opt_set_init(&c.cli.global_set, globals_opts(), &c.cli.globals);
        if (n)
                c.word = words[--n];
        for (size_t i = 0; i < n;) {
                struct opt_set sets[2] = { c.cli.set, c.cli.global_set };

                if (!flags || words[i][0] != '-' || !words[i][1]) {
                        take_word(&c.cli, words[i++]);
                } else if (cc_streq(words[i], "--")) {
                        flags = false;
                        i++;
                } else if (i + 1 == n && awaits_value(&c, words[i])) {
                        pending = awaits_value(&c, words[i]);
                        i++;
                } else {
                        (void)opt_parse(c.cli.cmd ? sets : sets + 1, c.cli.cmd ? 2 : 1, words, n,
                                        &i, NULL);
                }
        }
        complete_last(&c, flags, pending);
        cc_buf_printf(ret, ":%d\n", c.bits);
        cli_clear(&c.cli);
}
