/*
 * Fake CNI plugins: shell scripts that log each call ("TYPE COMMAND INTERFACE" to DIR/log), keep
 * its environment and input (DIR/TYPE.COMMAND.env and .in), and then do what DIR/TYPE.COMMAND says,
 * a script of its own. DIR is in FAKE_CNI.
 */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/json.h"

static const char fake_plugin[] = "#!/bin/sh\n"
                                  "me=$FAKE_CNI/${0##*/}.$CNI_COMMAND\n"
                                  "echo \"${0##*/} $CNI_COMMAND $CNI_IFNAME\" >>\"$FAKE_CNI/log\"\n"
                                  "env >\"$me.env\"\n"
                                  "cat >\"$me.in\"\n"
                                  "[ ! -f \"$me\" ] || . \"$me\"\n";

static inline void fake_write(const char *dir, const char *name, const char *text, mode_t mode)
{
        CC_FREE char *path = cc_path_join(dir, name);
        struct cc_err err = CC_ERR_INIT;

        if (cc_publish(path, text, strlen(text), mode, &err) < 0)
                fail_msg("%s", err.msg);
}

/* A plugin of this type in DIR. */
static inline void fake_install(const char *dir, const char *type)
{
        (void)setenv("FAKE_CNI", dir, 1);
        fake_write(dir, type, fake_plugin, 0755);
}

/* What it does on "bridge.ADD" and the like. */
static inline void fake_does(const char *dir, const char *call, const char *script)
{
        fake_write(dir, call, script, 0644);
}

static inline char *fake_read(const char *dir, const char *name)
{
        CC_FREE char *path = cc_path_join(dir, name);
        struct cc_err err = CC_ERR_INIT;
        char *text = NULL;

        if (cc_read_file(path, 1 << 20, &text, NULL, &err) < 0)
                return xstrdup("");
        return text;
}

/* The log since the last call of this. */
static inline char *fake_log(const char *dir)
{
        CC_FREE char *path = cc_path_join(dir, "log");
        char *text = fake_read(dir, "log");

        (void)unlink(path);
        return text;
}

#define assert_log(dir, expected)                                                                  \
        do {                                                                                       \
                CC_FREE char *log_ = fake_log(dir);                                                \
                assert_string_equal(log_, expected);                                               \
        } while (0)

/* The configuration that a plugin was given. */
static inline json_t *fake_input(const char *dir, const char *call)
{
        CC_FREE char *name = xasprintf("%s.in", call);
        CC_FREE char *text = fake_read(dir, name);

        return json_loads(text, 0, NULL);
}

static inline bool fake_env_has(const char *dir, const char *call, const char *line)
{
        CC_FREE char *name = xasprintf("%s.env", call);
        CC_FREE char *text = fake_read(dir, name);
        CC_FREE char *all = xasprintf("\n%s", text);
        CC_FREE char *want = xasprintf("\n%s\n", line);

        return strstr(all, want) != NULL;
}
