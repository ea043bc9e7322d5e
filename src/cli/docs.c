/* Manual pages. See docs.h. */
#include "cli/docs.h"

#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/globals.h"
#include "cli/help.h"
#include "version.h"

static const char intro[] =
        "cocoon runs virtual machines from container images: it pulls an image from a registry, "
        "turns its layers into read-only disks, adds a writable one, and boots the result with a "
        "hypervisor.";

static const char errors[] =
        "The exit status is 0 on success and 1 on any failure. Errors go to standard error as one "
        "line starting with \"Error: \"; with --error-format json (or COCOON_ERROR_FORMAT=json) as "
        "one JSON object.";

/* One line of text for groff: backslashes and dashes escaped, no line that looks like a request. */
static void man_text(struct cc_buf *b, const char *text)
{
        if (*text == '.' || *text == '\'')
                cc_buf_str(b, "\\&");
        for (; *text; text++)
                if (*text == '\\')
                        cc_buf_str(b, "\\e");
                else if (*text == '-')
                        cc_buf_str(b, "\\-");
                else
                        cc_buf_char(b, *text);
}

static void man_paragraphs(struct cc_buf *b, const char *text)
{
        for (; *text;) {
                const char *end = strstr(text, "\n\n");
                CC_FREE char *one = end ? xstrndup(text, (size_t)(end - text)) : xstrdup(text);

                cc_buf_str(b, ".PP\n");
                man_text(b, one);
                cc_buf_char(b, '\n');
                text = end ? end + 2 : "";
        }
}

static void man_flags(struct cc_buf *b, const struct opt_group *group)
{
        for (const struct opt *o = group->rows; o->name; o++) {
                CC_BUF struct cc_buf flag = { 0 };
                CC_BUF struct cc_buf text = { 0 };

                if (o->flags & OPT_HIDDEN)
                        continue;
                help_flag(o, false, &flag);
                help_flag_text(o, &text);
                cc_buf_str(b, ".TP\n.B ");
                man_text(b, flag.data);
                cc_buf_char(b, '\n');
                man_text(b, text.data);
                cc_buf_str(b, ".\n");
        }
}

static char *page_name(const struct cmd *cmd)
{
        char *name = xasprintf("cocoon-%s", cmd->path);

        for (char *p = name; *p; p++)
                if (*p == ' ')
                        *p = '-';
        return name;
}

static void man_header(struct cc_buf *b, const char *name, const char *help)
{
        CC_FREE char *upper = xstrdup(name);

        for (char *p = upper; *p; p++)
                *p = (char)toupper((unsigned char)*p);
        cc_buf_printf(b, ".TH %s 1 \"\" \"cocoon %s\" \"cocoon manual\"\n.SH NAME\n", upper,
                      COCOON_VERSION);
        man_text(b, name);
        cc_buf_str(b, " \\- ");
        man_text(b, help);
        cc_buf_char(b, '\n');
}

void docs_man_command(const struct cmd *cmd, struct cc_buf *ret)
{
        CC_FREE char *name = page_name(cmd);
        CC_BUF struct cc_buf usage = { 0 };

        man_header(ret, name, cmd->help);
        cc_buf_str(ret, ".SH SYNOPSIS\n.B ");
        help_usage(cmd, &usage);
        man_text(ret, usage.data);
        cc_buf_str(ret, "\n.SH DESCRIPTION\n");
        man_text(ret, cmd->help);
        cc_buf_str(ret, ".\n");
        if (cmd->long_help)
                man_paragraphs(ret, cmd->long_help);
        for (const struct opt_group *g = cmd->opts; g && g->rows; g++) {
                cc_buf_str(ret, g == cmd->opts ? ".SH OPTIONS\n" : "");
                if (g->title)
                        cc_buf_printf(ret, ".SS %s\n", g->title);
                man_flags(ret, g);
        }
        cc_buf_str(ret, ".PP\nThe flags of\n.BR cocoon (1)\nare accepted too.\n");
        if (cmd->examples) {
                cc_buf_str(ret, ".SH EXAMPLES\n.nf\n");
                for (const char *p = cmd->examples; *p;) {
                        size_t len = strcspn(p, "\n");
                        CC_FREE char *line = xstrndup(p, len);

                        man_text(ret, line);
                        cc_buf_char(ret, '\n');
                        p += len + (p[len] == '\n');
                }
                cc_buf_str(ret, ".fi\n");
        }
        cc_buf_str(ret, ".SH SEE ALSO\n.BR cocoon (1)\n");
}

void docs_man_overview(struct cc_buf *ret)
{
        man_header(ret, "cocoon", "virtual machines from container images");
        cc_buf_str(ret, ".SH SYNOPSIS\n.B cocoon COMMAND [flags] [arguments]\n.SH DESCRIPTION\n");
        man_text(ret, intro);
        cc_buf_str(ret, "\n.SH COMMANDS\n");
        for (size_t i = 0; cmd_at(i); i++) {
                CC_FREE char *name = NULL;

                if (cmd_at(i)->flags & CMD_HIDDEN)
                        continue;
                name = page_name(cmd_at(i));
                cc_buf_str(ret, ".TP\n.BR ");
                man_text(ret, name);
                cc_buf_str(ret, " (1)\n");
                man_text(ret, cmd_at(i)->help);
                cc_buf_str(ret, ".\n");
        }
        cc_buf_str(ret, ".SH OPTIONS\nThese are accepted by every command.\n");
        man_flags(ret, globals_opts());
        cc_buf_str(ret, ".SH ENVIRONMENT\n");
        for (size_t i = 0; i < config_keys_len; i++) {
                cc_buf_str(ret, ".TP\n.B ");
                man_text(ret, config_keys[i].env);
                cc_buf_str(ret, "\nConfiguration key ");
                man_text(ret, config_keys[i].key);
                cc_buf_str(ret, ": ");
                man_text(ret, config_keys[i].help);
                cc_buf_str(ret, ".\n");
        }
        cc_buf_str(ret, ".SH EXIT STATUS\n");
        man_text(ret, errors);
        cc_buf_char(ret, '\n');
}

static void markdown_flags(struct cc_buf *b, const struct opt_group *group)
{
        cc_buf_printf(b, "\n%s:\n\n", group->title ? group->title : "Flags");
        for (const struct opt *o = group->rows; o->name; o++) {
                CC_BUF struct cc_buf flag = { 0 };
                CC_BUF struct cc_buf text = { 0 };

                if (o->flags & OPT_HIDDEN)
                        continue;
                help_flag(o, false, &flag);
                help_flag_text(o, &text);
                cc_buf_printf(b, "- `%s`: %s\n", flag.data, text.data);
        }
}

static void markdown_command(struct cc_buf *b, const struct cmd *cmd)
{
        cc_buf_printf(b, "\n## cocoon %s\n\n%s.\n\n```\n", cmd->path, cmd->help);
        help_usage(cmd, b);
        cc_buf_str(b, "\n```\n");
        if (cmd->alias)
                cc_buf_printf(b, "\nAlso as `%s`.\n", cmd->alias);
        if (cmd->long_help)
                cc_buf_printf(b, "\n%s\n", cmd->long_help);
        for (const struct opt_group *g = cmd->opts; g && g->rows; g++)
                markdown_flags(b, g);
        if (cmd->examples)
                cc_buf_printf(b, "\nExamples:\n\n```sh\n%s```\n", cmd->examples);
}

static const char *or_empty(const char *s)
{
        return cc_isempty(s) ? "" : s;
}

void docs_markdown(struct cc_buf *ret)
{
        cc_buf_printf(
                ret,
                "# Command reference\n\n"
                "<!-- Generated by `cocoon __docs markdown`: edit the rows in src/cli. -->\n\n"
                "%s\n\n%s\n",
                intro, errors);
        for (size_t i = 0; cmd_at(i); i++)
                if (!(cmd_at(i)->flags & CMD_HIDDEN))
                        markdown_command(ret, cmd_at(i));
        cc_buf_str(ret, "\n## Flags of every command\n");
        markdown_flags(ret, globals_opts());
        cc_buf_str(ret, "\n## Configuration\n\n"
                        "A flag wins over the environment, the environment over the file, the file "
                        "over the default.\n\n"
                        "| Key | Environment | Default | Meaning |\n|---|---|---|---|\n");
        for (size_t i = 0; i < config_keys_len; i++)
                cc_buf_printf(ret, "| `%s` | `%s` | %s%s%s | %s |\n", config_keys[i].key,
                              config_keys[i].env, cc_isempty(config_keys[i].fallback) ? "" : "`",
                              or_empty(config_keys[i].fallback),
                              cc_isempty(config_keys[i].fallback) ? "" : "`", config_keys[i].help);
}
