/* The walk over the command line, and rules that every row of the command table must keep. */
#include <string.h>

#include "cli/cli.h"
#include "cli/help.h"
#include "unit.h"

#define MAX_WORDS 12

static int parse(struct cli *cli, const char *const *words, struct cc_err *err)
{
        char *argv[MAX_WORDS + 1] = { (char *)"cocoon" };
        size_t argc = 1;

        while (words[argc - 1]) {
                argv[argc] = (char *)words[argc - 1];
                argc++;
        }
        memset(cli, 0, sizeof(*cli));
        return cli_parse(cli, argc, argv, err);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_walk(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct cli cli;

        assert_ok(parse(&cli,
                        WORDS("--root-dir", "/r", "vm", "--log-level=warn", "inspect", "web",
                              "--progress", "none"),
                        &err));
        assert_string_equal(cli.cmd->path, "vm inspect");
        assert_int_equal(cli.n_args, 1);
        assert_string_equal(cli.args[0], "web");
        assert_true(opt_given(&cli.global_set, "root-dir"));
        assert_true(opt_given(&cli.global_set, "log-level"));
        assert_string_equal(cli.globals.progress, "auto"); /* enums are judged later */
        cli_clear(&cli);

        /* After --, everything is an argument; - alone always is one. */
        assert_ok(parse(&cli, WORDS("vm", "rm", "-", "--force", "--", "--force"), &err));
        assert_int_equal(cli.n_args, 2);
        assert_string_equal(cli.args[1], "--force");
        cli_clear(&cli);

        assert_ok(parse(&cli, WORDS("image", "ls", "-oname,size"), &err));
        assert_string_equal(cli.cmd->path, "image list");
        cli_clear(&cli);

        assert_ok(parse(&cli, WORDS("--version"), &err));
        assert_string_equal(cli.cmd->path, "version");
        cli_clear(&cli);
}

static void test_help(void **state)
{
        static const struct {
                const char *words[6];
                const char *command; /* NULL: a group or the root */
        } table[] = {
                { { NULL }, NULL },
                { { "vm" }, NULL },
                { { "-h" }, NULL },
                { { "help" }, NULL },
                { { "help", "image" }, NULL },
                { { "help", "vm", "run" }, "vm run" },
                { { "vm", "help", "run" }, "vm run" },
                { { "vm", "run", "--help" }, "vm run" },
                { { "vm", "run", "a", "b", "-h" }, "vm run" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(table); i++) {
                struct cc_err err = CC_ERR_INIT;
                struct cli cli;

                assert_ok(parse(&cli, table[i].words, &err));
                assert_true(cli.want_help);
                assert_string_equal(cli.cmd ? cli.cmd->path : "",
                                    table[i].command ? table[i].command : "");
                cli_clear(&cli);
        }
}

static void test_errors(void **state)
{
        static const struct {
                const char *words[6];
                const char *message;
        } table[] = {
                { { "vmm" },
                  "unknown command \"vmm\" for \"cocoon\"\n\nDid you mean this?\n\tvm\n\n"
                  "Run 'cocoon --help' for usage." },
                { { "vm", "strt" },
                  "unknown command \"strt\" for \"cocoon vm\"\n\nDid you mean this?\n\tstart\n"
                  "\tstop\n\nRun 'cocoon vm --help' for usage." },
                { { "image", "zzzzzz" },
                  "unknown command \"zzzzzz\" for \"cocoon image\"\n"
                  "Run 'cocoon image --help' for usage." },
                { { "help", "vm", "zzzzzz" },
                  "unknown command \"zzzzzz\" for \"cocoon vm\"\n"
                  "Run 'cocoon vm --help' for usage." },
                { { "vm", "inspect" }, "accepts 1 arg(s), received 0" },
                { { "vm", "inspect", "a", "b" }, "accepts 1 arg(s), received 2" },
                { { "vm", "list", "a" }, "accepts 0 arg(s), received 1" },
                { { "version", "a" }, "accepts 0 arg(s), received 1" },
                { { "vm", "start" }, "requires at least 1 arg(s), only received 0" },
                /* Flag syntax comes before the argument count. */
                { { "vm", "inspect", "--nope" }, "unknown flag: --nope" },
                { { "vm", "run", "--nics", "x" },
                  "invalid argument \"x\" for \"--nics\" flag: not an integer" },
                /* A size is judged after the argument count. */
                { { "vm", "run", "--memory", "x" }, "accepts 1 arg(s), received 0" },
                { { "vm", "run", "--root-dir" }, "flag needs an argument: --root-dir" },
                { { "--force", "vm", "rm", "x" }, "unknown flag: --force" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(table); i++) {
                struct cc_err err = CC_ERR_INIT;
                struct cli cli;

                assert_int_equal(parse(&cli, table[i].words, &err), -CC_USAGE);
                assert_string_equal(err.msg, table[i].message);
                cli_clear(&cli);
        }
}

/* Rows of one command: unique names and letters, also against the global flags. */
static void check_rows(const struct cmd *cmd)
{
        CC_STRV struct cc_strv names = { 0 };
        const struct opt_group *all[2] = { cmd->opts, globals_opts() };

        for (size_t s = 0; s < 2; s++)
                for (const struct opt_group *g = all[s]; g && g->rows; g++)
                        for (const struct opt *o = g->rows; o->name; o++) {
                                char letter[2] = { o->letter, '\0' };

                                if (cc_strv_has(&names, o->name) ||
                                    (o->letter && cc_strv_has(&names, letter)))
                                        fail_msg("%s: --%s is there twice", cmd->path, o->name);
                                cc_strv_add(&names, o->name);
                                if (o->letter)
                                        cc_strv_add(&names, letter);
                                assert_non_null(o->help);
                                assert_true((o->type == OPT_ENUM) == (o->values != NULL));
                                assert_true((o->type == OPT_BOOL) == (o->metavar == NULL));
                        }
        for (const struct opt_exclusive *x = cmd->excludes; x && x->a; x++) {
                assert_non_null(opt_find(cmd->opts, x->a, strlen(x->a), NULL));
                assert_non_null(opt_find(cmd->opts, x->b, strlen(x->b), NULL));
        }
}

static void test_table(void **state)
{
        for (size_t i = 0; cmd_at(i); i++) {
                const struct cmd *cmd = cmd_at(i);
                const char *blank = strrchr(cmd->path, ' ');
                CC_FREE char *group = xstrndup(cmd->path, blank ? (size_t)(blank - cmd->path) : 0);
                bool known = !blank;

                assert_non_null(cmd->run);
                assert_non_null(cmd->help);
                assert_non_null(cmd->args);
                assert_true(cmd->max == CMD_ANY || cmd->max >= cmd->min);
                for (size_t k = 0; cmd_group_at(k); k++)
                        known |= strcmp(cmd_group_at(k)->name, group) == 0;
                assert_true(known);
                assert_ptr_equal(cmd_find(group, cmd_word(cmd)), cmd);
                check_rows(cmd);
        }
        assert_ptr_equal(cmd_find("vm", "ls"), cmd_find("vm", "list"));
        assert_null(cmd_find("", "list"));
}

static void test_width(void **state)
{
        for (size_t i = 0; cmd_at(i); i++) {
                CC_BUF struct cc_buf help = { 0 };

                help_render(cmd_at(i), NULL, &help);
                for (const char *p = help.data; *p; p += strcspn(p, "\n") + 1)
                        if (strcspn(p, "\n") > HELP_WIDTH)
                                fail_msg("%s: line too long: %.100s", cmd_at(i)->path, p);
        }
}

static void test_wrap(void **state)
{
        CC_BUF struct cc_buf b = { 0 };
        char word[61];

        memset(word, 'x', 60);
        word[60] = '\0';
        help_wrap("one  two", 70, 4, &b);
        assert_string_equal(b.data, "one two");
        b.len = 0;
        help_wrap("one two three", 72, 4, &b);
        assert_string_equal(b.data, "one two\n    three");
        b.len = 0;
        help_wrap("a\n\nb", 0, 2, &b);
        assert_string_equal(b.data, "a\n\n  b");
        b.len = 0;
        /* A word longer than the line stands alone, it is never cut. */
        help_wrap(word, 40, 40, &b);
        assert_string_equal(b.data, word);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_walk),   cmocka_unit_test(test_help),
                cmocka_unit_test(test_errors), cmocka_unit_test(test_table),
                cmocka_unit_test(test_width),  cmocka_unit_test(test_wrap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
