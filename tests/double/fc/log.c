#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

int fcd_log_level(const char *name)
{
        static const char *const names[] = { "off", "error", "warn", "info", "debug" };

        if (strcasecmp(name, "warning") == 0)
                return FCD_LOG_WARN;
        if (strcasecmp(name, "trace") == 0)
                return FCD_LOG_DEBUG;
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                if (strcasecmp(name, names[i]) == 0)
                        return (int)i;
        }
        return -1;
}

int fcd_log_open(struct fcd_log *log, const char *path, bool create)
{
        int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | (create ? O_CREAT : 0), 0666);

        if (fd < 0)
                return errno;
        if (log->fd >= 0)
                close(log->fd);
        log->fd = fd;
        return 0;
}

void fcd_log_write(const struct fcd_log *log, enum fcd_level level, const char *thread,
                   const char *fmt, ...)
{
        static const char *const names[] = { "", ":ERROR", ":WARN", ":INFO", ":DEBUG" };
        CC_BUF struct cc_buf line = { 0 };
        struct timespec now;
        struct tm tm;
        char text[2048];
        va_list ap;

        if (level > log->level)
                return;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        (void)localtime_r(&now.tv_sec, &tm);
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        cc_buf_printf(&line, "%d-%02d-%02dT%02d:%02d:%02d.%09ld [%s:%s%s] %s\n", tm.tm_year + 1900,
                      tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec,
                      log->id, thread, log->show_level ? names[level] : "", text);
        /* What the target does not take is lost. */
        if (write(log->fd >= 0 ? log->fd : STDOUT_FILENO, line.data, line.len) < 0)
                return;
}
