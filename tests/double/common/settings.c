#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/str.h"

#define PREFIX "COCOON_DOUBLE_"

struct dbl_settings {
        struct cc_strv lines; /* of the file: KEY=VALUE */
};

struct dbl_settings *dbl_settings_load(const char *argv0)
{
        struct dbl_settings *s = xcalloc(1, sizeof(*s));
        CC_FREE char *program = cc_find_program(argv0);
        CC_FREE char *path = NULL;
        CC_FREE char *text = NULL;
        size_t len;

        if (!program)
                return s;
        path = xasprintf("%.*sdouble.env", (int)(cc_basename(program) - program), program);
        if (cc_read_file(path, 1 << 16, &text, &len, NULL) == 0)
                cc_split(text, "\n", &s->lines);
        return s;
}

void dbl_settings_free(struct dbl_settings *s)
{
        if (!s)
                return;
        cc_strv_free(&s->lines);
        free(s);
}

const char *dbl_setting(const struct dbl_settings *s, const char *name)
{
        CC_FREE char *key = xasprintf(PREFIX "%s", name);
        const char *value = getenv(key);
        const char *line;
        size_t n = strlen(key);

        if (value)
                return *value ? value : NULL;
        cc_strv_foreach (&s->lines, i, line) {
                if (strncmp(line, key, n) == 0 && line[n] == '=')
                        return line[n + 1] ? line + n + 1 : NULL;
        }
        return NULL;
}

int64_t dbl_setting_int(const struct dbl_settings *s, const char *name, int64_t fallback)
{
        const char *value = dbl_setting(s, name);
        long long n;

        if (!value)
                return fallback;
        if (cc_parse_i64(value, &n) < 0 || n < 0) {
                fprintf(stderr, "double: " PREFIX "%s=%s is no number\n", name, value);
                exit(70);
        }
        return n;
}

bool dbl_setting_bool(const struct dbl_settings *s, const char *name, bool fallback)
{
        return dbl_setting_int(s, name, fallback) != 0;
}
