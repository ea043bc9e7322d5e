#include "shell.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/timeutil.h"

void dbl_shell_init(struct dbl_shell *sh)
{
        *sh = (struct dbl_shell){ .hostname = xstrdup("cocoon-tiny"),
                                  .cmdline = xstrdup(""),
                                  .cpus = 1,
                                  .memory = json_object(),
                                  .disk = json_object() };
}

void dbl_shell_free(struct dbl_shell *sh)
{
        free(sh->hostname);
        free(sh->cmdline);
        json_decref(sh->memory);
        json_decref(sh->disk);
        *sh = (struct dbl_shell){ 0 };
}

static bool is_memory(const char *path)
{
        return cc_startswith(path, "/dev/") || cc_startswith(path, "/run/") ||
               cc_startswith(path, "/tmp/");
}

static void write_file(struct dbl_shell *sh, const char *path, const char *text, bool append)
{
        json_t *files = is_memory(path) ? sh->memory : sh->disk;
        const char *old = append ? json_string_value(json_object_get(files, path)) : NULL;
        CC_FREE char *whole = xasprintf("%s%s", old ? old : "", text);

        if (cc_streq(path, "/dev/null"))
                return;
        json_object_set_new(files, path, json_string(whole));
        sh->disk_changed |= files == sh->disk;
}

static void cat(struct dbl_shell *sh, const char *path, int64_t uptime, struct cc_buf *out)
{
        const char *text;

        if (cc_streq(path, "/proc/cmdline")) {
                cc_buf_printf(out, "%s\n", sh->cmdline);
        } else if (cc_streq(path, "/proc/uptime")) {
                cc_buf_printf(out, "%.2f 0.00\n", (double)uptime / 1e9);
        } else if (cc_streq(path, "/etc/hostname") || cc_streq(path, "/proc/sys/kernel/hostname")) {
                cc_buf_printf(out, "%s\n", sh->hostname);
        } else {
                text = json_string_value(
                        json_object_get(is_memory(path) ? sh->memory : sh->disk, path));
                if (text)
                        cc_buf_str(out, text);
                else
                        cc_buf_printf(out, "cat: can't open '%s': No such file or directory\n",
                                      path);
        }
}

static enum dbl_power command(struct dbl_shell *sh, const struct cc_strv *argv, int64_t uptime,
                              struct cc_buf *out)
{
        const char *name = argv->v[0];

        if (cc_streq(name, "poweroff"))
                return DBL_POWER_OFF;
        if (cc_streq(name, "reboot"))
                return DBL_POWER_REBOOT;
        if (cc_streq(name, "echo")) {
                CC_FREE char *line =
                        cc_strv_join(&(struct cc_strv){ argv->v + 1, argv->len - 1, 0 }, " ");

                cc_buf_printf(out, "%s\n", line);
        } else if (cc_streq(name, "cat")) {
                for (size_t i = 1; i < argv->len; i++)
                        cat(sh, argv->v[i], uptime, out);
        } else if (cc_streq(name, "rm")) {
                for (size_t i = 1; i < argv->len; i++) {
                        json_object_del(sh->memory, argv->v[i]);
                        if (json_object_del(sh->disk, argv->v[i]) == 0)
                                sh->disk_changed = true;
                }
        } else if (cc_streq(name, "hostname")) {
                if (argv->len > 1)
                        cc_strset(&sh->hostname, argv->v[1]);
                else
                        cc_buf_printf(out, "%s\n", sh->hostname);
        } else if (cc_streq(name, "counter")) {
                cc_buf_printf(out, "%lld\n", (long long)++sh->counter);
        } else if (cc_streq(name, "nproc")) {
                cc_buf_printf(out, "%d\n", sh->cpus);
        } else if (cc_streq(name, "uptime")) {
                cc_buf_printf(out, " up %lld s\n", (long long)(uptime / CC_NSEC_PER_SEC));
        } else if (!cc_streq(name, "sync") && !cc_streq(name, "true")) {
                cc_buf_printf(out, "sh: %s: not found\n", name);
        }
        return DBL_POWER_NONE;
}

/* The next word of *at, NULL at the end; operators are words of their own, marked by *ret_op. */
static char *next_word(const char **at, bool *ret_op)
{
        static const char *const ops[] = { "&&", ">>", ";", ">" };
        CC_BUF struct cc_buf word = { 0 };
        const char *p = *at + strspn(*at, " \t");
        char quote = 0;

        *at = p;
        *ret_op = false;
        for (size_t i = 0; i < CC_ARRAY_LEN(ops); i++) {
                if (cc_startswith(p, ops[i])) {
                        *ret_op = true;
                        *at = p + strlen(ops[i]);
                        return xstrdup(ops[i]);
                }
        }
        for (; *p && (quote || !strchr(" \t;&>", *p)); p++) {
                if (*p == quote)
                        quote = 0;
                else if (!quote && strchr("'\"", *p))
                        quote = *p;
                else
                        cc_buf_char(&word, *p);
        }
        if (p == *at)
                return NULL;
        *at = p;
        return cc_buf_take(&word);
}

enum dbl_power dbl_shell_run(struct dbl_shell *sh, const char *line, int64_t uptime,
                             struct cc_buf *out)
{
        enum dbl_power power = DBL_POWER_NONE;
        bool more = true;

        while (more && !power) {
                CC_STRV struct cc_strv argv = { 0 };
                CC_BUF struct cc_buf text = { 0 };
                CC_FREE char *target = NULL;
                bool op, append = false;
                char *word;

                while ((word = next_word(&line, &op))) {
                        CC_FREE char *owned = word;

                        if (op && *word != '>')
                                break;
                        if (op) {
                                bool nested;

                                append = word[1];
                                free(target);
                                target = next_word(&line, &nested);
                        } else {
                                cc_strv_take(&argv, TAKE_PTR(owned));
                        }
                }
                more = word != NULL;
                if (argv.len)
                        power = command(sh, &argv, uptime, &text);
                if (target)
                        write_file(sh, target, text.data ? text.data : "", append);
                else
                        cc_buf_add(out, text.data ? text.data : "", text.len);
        }
        return power;
}
