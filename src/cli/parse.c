/* From argv to a command with its flags and arguments. See cli.h. */
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"

/* Offer `word` if it is close to what was typed or continues it. */
static void suggest(struct cc_buf *b, const char *typed, const char *word)
{
        if (cc_edit_distance(typed, word, 2) <= 2 || cc_startswith(word, typed))
                cc_buf_printf(b, "\t%s\n", word);
}

static int unknown_command(const char *group, const char *word, struct cc_err *err)
{
        CC_BUF struct cc_buf close = { 0 };
        CC_FREE char *full = xasprintf("cocoon%s%s", *group ? " " : "", group);
        int r;

        for (size_t i = 0; cmd_group_at(i); i++)
                if (cmd_group_in(cmd_group_at(i), group))
                        suggest(&close, word, cmd_group_word(cmd_group_at(i)));
        for (size_t i = 0; cmd_at(i); i++)
                if (!(cmd_at(i)->flags & CMD_HIDDEN) && cmd_in_group(cmd_at(i), group))
                        suggest(&close, word, cmd_word(cmd_at(i)));
        if (close.len)
                r = cc_fail(err, CC_USAGE,
                            "unknown command \"%s\" for \"%s\"\n\nDid you mean this?\n%s\n"
                            "Run '%s --help' for usage.",
                            word, full, close.data, full);
        else
                r = cc_fail(err, CC_USAGE,
                            "unknown command \"%s\" for \"%s\"\nRun '%s --help' for usage.", word,
                            full, full);
        cc_code(err, "unknown_command");
        return r;
}

static int check_count(const struct cmd *cmd, size_t n, struct cc_err *err)
{
        size_t min = (size_t)cmd->min;
        bool any = cmd->max == CMD_ANY;
        size_t max = any ? n : (size_t)cmd->max;

        if (n >= min && n <= max)
                return 0;
        if (any)
                return cc_fail(err, CC_USAGE, "requires at least %zu arg(s), only received %zu",
                               min, n);
        if (min == max)
                return cc_fail(err, CC_USAGE, "accepts %zu arg(s), received %zu", min, n);
        if (min == 0)
                return cc_fail(err, CC_USAGE, "accepts at most %zu arg(s), received %zu", max, n);
        return cc_fail(err, CC_USAGE, "accepts between %zu and %zu arg(s), received %zu", min, max,
                       n);
}

static void take_command(struct cli *cli, const struct cmd *cmd)
{
        cli->cmd = cmd;
        cli->opts = xcalloc(1, cmd->size + 1);
        opt_set_init(&cli->set, cmd->opts, cli->opts);
}

/* A word that is not a flag: a step down the command tree, or an argument. */
static int take_word(struct cli *cli, char *word, struct cc_err *err)
{
        const struct cmd_group *group;
        const struct cmd *cmd;

        if (cli->cmd && !cli->want_help) {
                cli->args[cli->n_args++] = word;
                return 0;
        }
        if (cli->cmd) /* `help vm run IMAGE`: the command is known, the rest does not matter */
                return 0;
        group = cmd_group_find(cli->group ? cli->group->name : "", word);
        if (group) {
                cli->group = group;
                return 0;
        }
        if (cc_streq(word, "help") && !cli->want_help) {
                cli->want_help = true;
                return 0;
        }
        cmd = cmd_find(cli->group ? cli->group->name : "", word);
        if (!cmd)
                return unknown_command(cli->group ? cli->group->name : "", word, err);
        take_command(cli, cmd);
        return 0;
}

/* `cocoon --version`, before any command. */
static bool is_version_flag(const struct cli *cli, const char *arg)
{
        return !cli->cmd && !cli->group && cc_streq(arg, "--version");
}

int cli_parse(struct cli *cli, size_t argc, char *const *argv, struct cc_err *err)
{
        bool flags = true;

        opt_set_init(&cli->global_set, globals_opts(), &cli->globals);
        cli->args = xcalloc(argc + 1, sizeof(*cli->args));
        for (size_t i = 1; i < argc;) {
                const char *arg = argv[i];
                bool raw = cli->cmd && (cli->cmd->flags & CMD_RAW);
                int r;

                if (raw || !flags || arg[0] != '-' || !arg[1]) {
                        r = take_word(cli, argv[i++], err);
                } else if (cc_streq(arg, "--")) {
                        flags = false;
                        cli->n_plain = cli->n_args;
                        i++;
                        continue;
                } else if (is_version_flag(cli, arg)) {
                        take_command(cli, cmd_find("", "version"));
                        i++;
                        continue;
                } else {
                        struct opt_set sets[2] = { cli->set, cli->global_set };

                        r = opt_parse(cli->cmd ? sets : sets + 1, cli->cmd ? 2 : 1, argv, argc, &i,
                                      err);
                }
                if (r < 0)
                        return r;
        }
        if (flags)
                cli->n_plain = cli->n_args;
        cli->want_help |= cli->globals.help || !cli->cmd;
        if (cli->want_help)
                return 0;
        return check_count(cli->cmd, cli->cmd->flags & CMD_COMMAND ? cli->n_plain : cli->n_args,
                           err);
}
