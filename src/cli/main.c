/*
 * The program: parse, prepare, run, report. The only place that prints an error or picks the exit
 * code (DESIGN §7).
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/interrupt.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "console/console.h"

/* A parse error may come before the flag was read, so this looks for itself: flag, then
 * environment. */
static bool wants_json_errors(int argc, char **argv)
{
        const char *format = getenv("COCOON_ERROR_FORMAT");

        for (int i = 1; i < argc && !cc_streq(argv[i], "--"); i++) {
                if (cc_startswith(argv[i], "--error-format="))
                        format = argv[i] + strlen("--error-format=");
                else if (cc_streq(argv[i], "--error-format") && i + 1 < argc)
                        format = argv[++i];
        }
        return cc_streq(format, "json");
}

static void print_json_error(const struct cli *cli, const struct cc_err *err)
{
        CC_JSON json_t *root = json_object();
        json_t *error = json_object();
        CC_FREE char *text = NULL;

        json_object_set_new(root, "error", error);
        json_object_set_new(error, "code",
                            json_string(err->code ? err->code : cc_class_name(err->class)));
        json_object_set_new(error, "message", out_string(err->msg));
        if (err->hint[0])
                json_object_set_new(error, "hint", out_string(err->hint));
        if (cli->n_items) {
                json_t *items = json_array();

                for (size_t i = 0; i < cli->n_items; i++) {
                        json_t *item = json_object();

                        json_object_set_new(item, "id", out_string(cli->items[i].id));
                        json_object_set_new(item, "error", out_string(cli->items[i].error));
                        json_array_append_new(items, item);
                }
                json_object_set_new(error, "items", items);
        }
        text = cc_json_compact(root);
        (void)fprintf(stderr, "%s\n", text);
}

/* A batch fails with one line per item, each a complete error; printed from the items, because the
 * message has a fixed size. */
static void print_text_error(const struct cli *cli, const struct cc_err *err)
{
        CC_BUF struct cc_buf out = { 0 };

        for (size_t i = 0; i < cli->n_items; i++)
                cc_buf_printf(&out, "Error: %s: item %s: %s\n", cli->items_verb, cli->items[i].id,
                              cli->items[i].error);
        if (cli->n_items == 0)
                cc_buf_printf(&out, "Error: %s\n", err->msg);
        if (err->hint[0])
                cc_buf_printf(&out, "Hint: %s\n", err->hint);
        (void)fwrite(out.data, 1, out.len, stderr);
}

/* A caller may have closed its standard streams. The next files opened would get their numbers, and
 * our output would end up in a lock or a disk: their places are held by something that cannot be
 * written (or, for input, read), so that use of them fails. */
static void hold_standard_fds(void)
{
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
                        (void)open("/dev/null",
                                   (fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
}

static int run(struct cli *cli, int argc, char **argv, struct cc_err *err)
{
        int r = cli_parse(cli, (size_t)argc, argv, err);

        if (r < 0)
                return r;
        if (cli->want_help) {
                CC_BUF struct cc_buf help = { 0 };

                help_render(cli->cmd, cli->group, &help);
                out_text(help.data);
                return 0;
        }
        r = cli_prepare(cli, err);
        if (r < 0)
                return r;
        return cli->cmd->run(cli, cli->opts, err);
}

int main(int argc, char **argv)
{
        struct cli cli = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct cc_err lost = CC_ERR_INIT;
        bool stream;
        int code;
        int r;

        hold_standard_fds();
        if (argc > 1 && cc_streq(argv[1], CONSOLE_RELAY_VERB))
                return console_relay_main(argc, argv, hv_console_open);
        cc_interrupt_setup();
        /* A closed pipe is an error of the write that met it; children get the default back. */
        (void)signal(SIGPIPE, SIG_IGN);

        r = run(&cli, argc, argv, &err);
        code = r < 0 && cli.exit_code == 0 ? 1 : cli.exit_code;
        progress_end();
        stream = cli.want_help || (cli.cmd && (cli.cmd->flags & CMD_STREAM));
        if (out_finish(stream, &lost) < 0) {
                (void)cc_join(&err, &lost);
                code = 1;
                r = -CC_IO;
        }
        if (r < 0 && wants_json_errors(argc, argv))
                print_json_error(&cli, &err);
        else if (r < 0)
                print_text_error(&cli, &err);
        cli_clear(&cli);
        return code;
}
