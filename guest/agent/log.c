/* Messages to standard error; log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = { "debug", "info", "warn", "error" };
static enum log_level threshold = LOG_INFO;

void log_init(void)
{
        const char *wanted = getenv("AGENT_LOG_LEVEL");

        for (int i = LOG_DEBUG; wanted && i <= LOG_ERROR; i++)
                if (strcmp(wanted, names[i]) == 0)
                        threshold = (enum log_level)i;
}

void log_at(enum log_level level, const char *format, ...)
{
        char line[512];
        int head;
        int n;
        va_list ap;

        if (level < threshold)
                return;
        head = snprintf(line, sizeof(line), "cocoon-agent: %s: ", names[level]);
        va_start(ap, format);
        n = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, format, ap);
        va_end(ap);
        if (n < 0)
                return;
        n += head;
        if (n > (int)sizeof(line) - 2)
                n = (int)sizeof(line) - 2;
        line[n++] = '\n';
        /* In one piece, and lost rather than waited for when nobody reads: it may be anything. */
        while (write(STDERR_FILENO, line, (size_t)n) < 0)
                break;
}
