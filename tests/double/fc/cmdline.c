#include "cmdline.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"

enum { CMDLINE_MAX = 2048 };

static const char separator[] = " -- ";

/* Where the init arguments' separator is: the first one outside double quotes. */
static const char *find_separator(const char *text)
{
        bool quoted = false;

        for (; *text; text++) {
                if (!quoted && cc_startswith(text, separator))
                        return text;
                quoted ^= *text == '"';
        }
        return NULL;
}

static char *trimmed(const char *text, size_t n)
{
        while (n && strchr(" \t\n\r", text[n - 1]))
                n--;
        while (n && strchr(" \t\n\r", *text)) {
                text++;
                n--;
        }
        return xstrndup(text, n);
}

/* Both halves put together. */
static char *joined(const char *boot, const char *init)
{
        return *init ? xasprintf("%s%s%s", boot, separator, init) : xstrdup(boot);
}

const char *fcd_cmdline_new(const char *text, char **ret)
{
        const char *sep = find_separator(text);
        CC_FREE char *boot = trimmed(text, sep ? (size_t)(sep - text) : strlen(text));
        CC_FREE char *init = sep ? trimmed(sep + strlen(separator), strlen(sep + strlen(separator)))
                                 : xstrdup("");
        CC_FREE char *all = joined(boot, init);

        if (strlen(all) + 1 > CMDLINE_MAX)
                return "Invalid cmdline capacity provided.";
        *ret = TAKE_PTR(all);
        return NULL;
}

const char *fcd_cmdline_add(char **cmdline, const char *word)
{
        const char *sep = find_separator(*cmdline);
        CC_FREE char *boot = xstrndup(*cmdline, sep ? (size_t)(sep - *cmdline) : strlen(*cmdline));
        CC_FREE char *more = xasprintf("%s%s%s", boot, *boot ? " " : "", word);
        CC_FREE char *all = joined(more, sep ? sep + strlen(separator) : "");

        if (strlen(all) + 1 > CMDLINE_MAX)
                return "Inserting string would make command line too long.";
        free(*cmdline);
        *cmdline = TAKE_PTR(all);
        return NULL;
}
