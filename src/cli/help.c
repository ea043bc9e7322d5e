/* Help text. See help.h. */
#include "cli/help.h"

#include <string.h>

#include "base/alloc.h"
#include "cli/globals.h"

static void blanks(struct cc_buf *b, size_t n)
{
        while (n--)
                cc_buf_char(b, ' ');
}

void help_wrap(const char *text, size_t column, size_t indent, struct cc_buf *ret)
{
        bool fresh = true; /* nothing on this line behind the indentation yet */

        while (*text) {
                size_t len = strcspn(text, " \n");

                if (*text == '\n') {
                        cc_buf_char(ret, '\n');
                        if (text[1] && text[1] != '\n')
                                blanks(ret, indent);
                        column = indent;
                        fresh = true;
                        text++;
                        continue;
                }
                if (len == 0) {
                        text++;
                        continue;
                }
                if (!fresh && column + 1 + len > HELP_WIDTH) {
                        cc_buf_char(ret, '\n');
                        blanks(ret, indent);
                        column = indent;
                        fresh = true;
                }
                if (!fresh) {
                        cc_buf_char(ret, ' ');
                        column++;
                }
                cc_buf_add(ret, text, len);
                column += len;
                fresh = false;
                text += len;
        }
}

void help_usage(const struct cmd *cmd, struct cc_buf *ret)
{
        cc_buf_printf(ret, "cocoon %s [flags]%s%s", cmd->path, *cmd->args ? " " : "", cmd->args);
}

void help_flag(const struct opt *o, bool align, struct cc_buf *ret)
{
        if (o->letter)
                cc_buf_printf(ret, "-%c, ", o->letter);
        else if (align)
                blanks(ret, 4);
        cc_buf_printf(ret, "--%s", o->name);
        if (o->type != OPT_BOOL)
                cc_buf_printf(ret, " %s", o->metavar ? o->metavar : "VALUE");
}

void help_flag_text(const struct opt *o, struct cc_buf *ret)
{
        bool shown =
                o->fallback && *o->fallback && !cc_streq(o->fallback, "0") && o->type != OPT_BOOL;

        cc_buf_str(ret, o->help);
        if (shown)
                cc_buf_printf(ret, " (default %s)", o->fallback);
        if (o->type == OPT_STRINGS)
                cc_buf_str(ret, " (repeatable)");
        if (o->flags & OPT_REQUIRED)
                cc_buf_str(ret, " (required)");
        if (o->refuse)
                cc_buf_printf(ret, " (%s)",
                              cc_streq(o->refuse, OPT_LATER) ? "not supported yet" : o->refuse);
}

#define FLAG_COLUMN 28 /* where the sentence starts; longer flags put it on the next line */

static void render_flags(const struct opt_group *group, struct cc_buf *ret)
{
        cc_buf_printf(ret, "\n%s:\n", group->title ? group->title : "Flags");
        for (const struct opt *o = group->rows; o->name; o++) {
                CC_BUF struct cc_buf flag = { 0 };
                CC_BUF struct cc_buf text = { 0 };
                size_t used;

                if (o->flags & OPT_HIDDEN)
                        continue;
                help_flag(o, true, &flag);
                help_flag_text(o, &text);
                cc_buf_printf(ret, "  %s", flag.data);
                used = 2 + flag.len;
                if (used + 2 > FLAG_COLUMN) {
                        cc_buf_char(ret, '\n');
                        used = 0;
                }
                blanks(ret, FLAG_COLUMN - used);
                help_wrap(text.data, FLAG_COLUMN, FLAG_COLUMN, ret);
                cc_buf_char(ret, '\n');
        }
}

static void render_command(const struct cmd *cmd, struct cc_buf *ret)
{
        help_wrap(cmd->help, 0, 0, ret);
        cc_buf_str(ret, "\n\nUsage:\n  ");
        help_usage(cmd, ret);
        cc_buf_char(ret, '\n');
        if (cmd->alias) {
                const char *word = cmd_word(cmd);

                cc_buf_printf(ret, "  cocoon %.*s%s [flags]%s%s\n",
                              (int)(strlen(cmd->path) - strlen(word)), cmd->path, cmd->alias,
                              *cmd->args ? " " : "", cmd->args);
        }
        if (cmd->long_help) {
                cc_buf_char(ret, '\n');
                help_wrap(cmd->long_help, 0, 0, ret);
                cc_buf_char(ret, '\n');
        }
        if (cmd->examples) {
                cc_buf_str(ret, "\nExamples:\n");
                for (const char *p = cmd->examples; *p;) {
                        size_t len = strcspn(p, "\n");

                        cc_buf_printf(ret, "  %.*s\n", (int)len, p);
                        p += len + (p[len] == '\n');
                }
        }
        for (const struct opt_group *g = cmd->opts; g && g->rows; g++)
                render_flags(g, ret);
}

static void render_row(const char *name, const char *help, size_t width, struct cc_buf *ret)
{
        cc_buf_printf(ret, "  %-*s", (int)width, name);
        help_wrap(help, width + 2, width + 2, ret);
        cc_buf_char(ret, '\n');
}

static void render_list(const char *group, struct cc_buf *ret)
{
        size_t width = 0;

        for (size_t i = 0; cmd_at(i); i++)
                if (!(cmd_at(i)->flags & CMD_HIDDEN) && cmd_in_group(cmd_at(i), group) &&
                    strlen(cmd_word(cmd_at(i))) + 2 > width)
                        width = strlen(cmd_word(cmd_at(i))) + 2;
        for (size_t i = 0; cmd_group_at(i); i++)
                if (cmd_group_in(cmd_group_at(i), group))
                        render_row(cmd_group_word(cmd_group_at(i)), cmd_group_at(i)->help, width,
                                   ret);
        for (size_t i = 0; cmd_at(i); i++)
                if (!(cmd_at(i)->flags & CMD_HIDDEN) && cmd_in_group(cmd_at(i), group))
                        render_row(cmd_word(cmd_at(i)), cmd_at(i)->help, width, ret);
}

void help_render(const struct cmd *cmd, const struct cmd_group *group, struct cc_buf *ret)
{
        const char *name = group ? group->name : "";

        if (cmd) {
                render_command(cmd, ret);
        } else {
                if (group)
                        cc_buf_printf(ret, "%s\n", group->help);
                else
                        cc_buf_str(ret, "cocoon runs virtual machines from container images.\n");
                cc_buf_printf(ret, "\nUsage:\n  cocoon %s%sCOMMAND [flags] [arguments]\n", name,
                              *name ? " " : "");
                cc_buf_str(ret, "\nCommands:\n");
                render_list(name, ret);
        }
        render_flags(globals_opts(), ret);
        if (!cmd)
                cc_buf_printf(ret, "\nRun 'cocoon %s%sCOMMAND --help' for more on a command.\n",
                              name, *name ? " " : "");
}
