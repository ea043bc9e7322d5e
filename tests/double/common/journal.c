#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/timeutil.h"

extern char **environ;

struct dbl_journal {
        int fd;
};

struct dbl_journal *dbl_journal_open(const char *path)
{
        struct dbl_journal *j = xcalloc(1, sizeof(*j));

        j->fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
        if (path && j->fd < 0) {
                fprintf(stderr, "double: journal %s: %s\n", path, strerror(errno));
                exit(70);
        }
        return j;
}

void dbl_journal_free(struct dbl_journal *j)
{
        if (!j)
                return;
        if (j->fd >= 0)
                close(j->fd);
        free(j);
}

void dbl_journal_add(struct dbl_journal *j, const char *event, json_t *fields)
{
        CC_JSON json_t *line = NULL;
        CC_FREE char *text = NULL;
        CC_FREE char *whole = NULL;

        if (j->fd < 0) {
                json_decref(fields);
                return;
        }
        line = json_pack("{s:s, s:i, s:I}", "event", event, "pid", (int)getpid(), "ns",
                         (json_int_t)cc_monotonic());
        json_object_update(line, fields);
        json_decref(fields);
        text = cc_json_compact(line);
        whole = xasprintf("%s\n", text);
        /* One write: lines of several doubles in one file do not mix. */
        (void)cc_write_all(j->fd, whole, strlen(whole), NULL);
}

static json_t *text_value(const char *text, size_t len)
{
        json_t *value = json_stringn(text, len);

        return value ? value : json_string("(not UTF-8)");
}

void dbl_journal_start(struct dbl_journal *j, int argc, char **argv)
{
        json_t *args = json_array();
        json_t *env = json_object();
        CC_FREE char *cwd = getcwd(NULL, 0);
        struct stat st = { 0 };

        for (int i = 0; i < argc; i++)
                json_array_append_new(args, text_value(argv[i], strlen(argv[i])));
        for (char **e = environ; *e; e++) {
                const char *eq = strchr(*e, '=');
                CC_FREE char *key = eq ? xstrndup(*e, (size_t)(eq - *e)) : NULL;

                if (key)
                        json_object_set_new(env, key, json_string(eq + 1));
        }
        (void)stat("/proc/self/ns/net", &st);
        dbl_journal_add(j, "start",
                        json_pack("{s:o, s:o, s:s, s:I}", "argv", args, "env", env, "cwd",
                                  cwd ? cwd : "", "netns", (json_int_t)st.st_ino));
}

json_t *dbl_journal_value(const char *text, size_t len)
{
        json_t *value = json_loadb(text, len, JSON_DECODE_ANY, NULL);

        return value ? value : text_value(text, len);
}
