/* cocoon __docs: write the manual. Used by the build and by `make docs`. */
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "cli/docs.h"
#include "cli/limits.h"

static int write_page(const char *dir, const char *name, const struct cc_buf *text,
                      struct cc_err *err)
{
        CC_FREE char *file = xasprintf("%s.1", name);
        CC_FREE char *path = cc_path_join(dir, file);

        for (char *p = path + strlen(dir); *p; p++)
                if (*p == ' ')
                        *p = '-';
        return cc_publish(path, text->data, text->len, 0644, err);
}

static int write_manual(const char *dir, struct cc_err *err)
{
        CC_BUF struct cc_buf overview = { 0 };
        int r = cc_mkdir_p(dir, 0755, err);

        docs_man_overview(&overview);
        if (r == 0)
                r = write_page(dir, "cocoon", &overview, err);
        for (size_t i = 0; cmd_at(i) && r == 0; i++) {
                CC_FREE char *name = xasprintf("cocoon-%s", cmd_at(i)->path);
                CC_BUF struct cc_buf page = { 0 };

                if (cmd_at(i)->flags & CMD_HIDDEN)
                        continue;
                docs_man_command(cmd_at(i), &page);
                r = write_page(dir, name, &page, err);
        }
        return r;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        CC_BUF struct cc_buf page = { 0 };

        if (cc_streq(cli->args[0], "man"))
                return write_manual(cli->args[1], err);
        if (cc_streq(cli->args[0], "limitations"))
                limits_markdown(&page);
        else if (cc_streq(cli->args[0], "markdown"))
                docs_markdown(&page);
        else
                return cc_fail(err, CC_USAGE,
                               "unknown form \"%s\": want \"man\", \"markdown\" or \"limitations\"",
                               cli->args[0]);
        return cc_publish(cli->args[1], page.data, page.len, 0644, err);
}

const struct cmd cmd_docs = {
        .path = "__docs",
        .args = "man|markdown|limitations PATH",
        .min = 2,
        .max = 2,
        .help = "Write the manual",
        .flags = CMD_NO_CONFIG | CMD_HIDDEN,
        .run = run,
};
