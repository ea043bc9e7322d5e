/* The logger: stderr lines, JSON lines, file rotation. See log.h. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/timeutil.h"

/* Workers of a batch log too: a line and the rotation before it are one step. */
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;

static struct {
        enum cc_log_level level;
        bool json;
        bool colour;
        char *filename;
        int64_t max_bytes;
        int64_t max_age_ns;
        int64_t max_backups;
        int fd;
        void (*hook)(bool before);
} logger = { .level = CC_LOG_INFO, .fd = -1 };

static const char *const level_names[] = { "trace", "debug", "info",  "warn",
                                           "error", "fatal", "panic", "disabled" };
static const char *const level_tags[] = { "TRC", "DBG", "INF", "WRN", "ERR", "FTL", "PNC" };
static const char *const level_colours[] = { "35", "33", "32", "33;1", "31", "31", "31" };

int cc_log_level_parse(const char *name, enum cc_log_level *ret)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(level_names); i++)
                if (strcasecmp(name, level_names[i]) == 0) {
                        *ret = (enum cc_log_level)i;
                        return 0;
                }
        return -CC_INVALID;
}

bool cc_log_enabled(enum cc_log_level level)
{
        return level >= logger.level && logger.level != CC_LOG_DISABLED;
}

void cc_log_set_hook(void (*hook)(bool before))
{
        logger.hook = hook;
}

int cc_log_setup(const struct cc_log_config *config, struct cc_err *err)
{
        const char *no_colour = getenv("NO_COLOR");
        int fd = -1;

        if (!cc_isempty(config->filename)) {
                fd = open(config->filename, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
                if (fd < 0)
                        return cc_fail_errno(err, errno, "open log file %s", config->filename);
        }
        if (logger.fd >= 0)
                close(logger.fd);
        logger.fd = fd;
        cc_strset(&logger.filename, fd >= 0 ? config->filename : NULL);
        logger.level = config->level;
        logger.json = config->use_json || fd >= 0;
        logger.colour = fd < 0 && cc_isempty(no_colour) && isatty(STDERR_FILENO);
        logger.max_bytes = config->max_size > 0 && config->max_size < INT64_MAX >> 20
                                   ? config->max_size << 20
                                   : 0;
        logger.max_age_ns = config->max_age > 0 && config->max_age < 36500
                                    ? config->max_age * 86400 * CC_NSEC_PER_SEC
                                    : 0;
        logger.max_backups = config->max_backups;
        return 0;
}

/* Length of the UTF-8 sequence at s, 0 if it is malformed. */
static size_t utf8_len_at(const char *s)
{
        for (size_t n = 1; n <= 4 && s[n - 1]; n++)
                if (cc_utf8_valid(s, n))
                        return n;
        return 0;
}

static void json_string(struct cc_buf *b, const char *s)
{
        cc_buf_char(b, '"');
        for (; *s; s++) {
                unsigned char c = (unsigned char)*s;
                size_t n = c >= 0x80 ? utf8_len_at(s) : 1;

                /* A name of a foreign file may be anything; the line must stay JSON. */
                if (n == 0) {
                        cc_buf_str(b, "\\ufffd");
                } else if (n > 1) {
                        cc_buf_add(b, s, n);
                        s += n - 1;
                } else if (c == '"' || c == '\\') {
                        cc_buf_printf(b, "\\%c", c);
                } else if (c < 0x20 || c == 0x7f) {
                        cc_buf_printf(b, "\\u%04x", c);
                } else {
                        cc_buf_char(b, (char)c);
                }
        }
        cc_buf_char(b, '"');
}

/* Text for a terminal: foreign strings must not move the cursor or forge a second line. */
static void plain_text(char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s < 0x20 || *s == 0x7f)
                        *s = *s == '\n' || *s == '\t' ? ' ' : '?';
}

/* "-20060102T150405.000000000" behind the log's name: only what rotate() made is ours to delete. */
static bool is_stamp(const char *s)
{
        static const char shape[] = "-00000000T000000.000000000";
        size_t i;

        for (i = 0; shape[i]; i++)
                if (shape[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i])
                        return false;
        return s[i] == '\0';
}

/* Drop rotated files that are too many or too old. They sort by name because the name is a time. */
static void prune_backups(void)
{
        const char *slash = strrchr(logger.filename, '/');
        const char *base = slash ? slash + 1 : logger.filename;
        CC_FREE char *dir = slash ? xstrndup(logger.filename, (size_t)(slash - logger.filename) + 1)
                                  : xstrdup(".");
        CC_DIR DIR *d = opendir(dir);
        CC_STRV struct cc_strv names = { 0 };
        size_t n = strlen(base);

        if (!d)
                return;
        for (struct dirent *e; (e = readdir(d));)
                if (strncmp(e->d_name, base, n) == 0 && is_stamp(e->d_name + n))
                        cc_strv_add(&names, e->d_name);
        cc_strv_sort(&names);
        for (size_t i = 0; i < names.len; i++) {
                struct stat st;
                bool old = logger.max_age_ns && fstatat(dirfd(d), names.v[i], &st, 0) == 0 &&
                           cc_now() - (int64_t)st.st_mtime * CC_NSEC_PER_SEC > logger.max_age_ns;

                if (old ||
                    (logger.max_backups > 0 && (int64_t)(names.len - i) > logger.max_backups))
                        (void)unlinkat(dirfd(d), names.v[i], 0);
        }
}

/* Several processes share the file: the one that gets the lock and still sees the big file renames
 * it. */
static void rotate(void)
{
        struct stat st;
        struct stat named;
        char stamp[32];
        CC_FREE char *target = NULL;
        int fd;

        if (!logger.max_bytes || fstat(logger.fd, &st) < 0 || st.st_size < logger.max_bytes)
                return;
        if (flock(logger.fd, LOCK_EX | LOCK_NB) == 0 && stat(logger.filename, &named) == 0 &&
            named.st_ino == st.st_ino && named.st_dev == st.st_dev) {
                int64_t now = cc_now();
                time_t sec = (time_t)(now / CC_NSEC_PER_SEC);
                struct tm tm;

                gmtime_r(&sec, &tm);
                strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm);
                target = xasprintf("%s-%s.%09lld", logger.filename, stamp,
                                   (long long)(now % CC_NSEC_PER_SEC));
                if (rename(logger.filename, target) == 0)
                        prune_backups();
        }
        fd = open(logger.filename, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (fd < 0)
                return; /* keep writing to the old file: a full log is better than none */
        close(logger.fd);
        logger.fd = fd;
}

void cc_log(enum cc_log_level level, const char *tag, const char *fmt, ...)
{
        CC_BUF struct cc_buf line = { 0 };
        CC_BUF struct cc_buf message = { 0 };
        char when[CC_RFC3339_MAX];
        va_list ap;
        va_list again;
        int n;
        int saved = errno;
        int fd;
        ssize_t written;

        if (!cc_log_enabled(level) || level >= CC_LOG_DISABLED)
                return;
        va_start(ap, fmt);
        va_copy(again, ap);
        n = vsnprintf(NULL, 0, fmt, again);
        va_end(again);
        cc_buf_reserve(&message, n > 0 ? (size_t)n : 0);
        (void)vsnprintf(message.data, message.cap, fmt, ap);
        va_end(ap);

        if (logger.json) {
                cc_time_rfc3339(cc_now(), when);
                cc_buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"func\":", when,
                              level_names[level]);
                json_string(&line, tag);
                cc_buf_str(&line, ",\"message\":");
                json_string(&line, message.data);
                cc_buf_str(&line, "}\n");
        } else {
                time_t sec = (time_t)(cc_now() / CC_NSEC_PER_SEC);
                struct tm tm;

                localtime_r(&sec, &tm);
                if (strftime(when, sizeof(when), "%d %b %y %H:%M %Z", &tm) == 0)
                        when[0] = '\0'; /* a time zone name of absurd length */
                plain_text(message.data);
                if (logger.colour)
                        cc_buf_printf(
                                &line,
                                "\033[90m%s\033[0m \033[%sm%s\033[0m %s \033[36mfunc=\033[0m%s\n",
                                when, level_colours[level], level_tags[level], message.data, tag);
                else
                        cc_buf_printf(&line, "%s %s %s func=%s\n", when, level_tags[level],
                                      message.data, tag);
        }
        (void)pthread_mutex_lock(&log_mutex);
        if (logger.fd >= 0)
                rotate();
        fd = logger.fd >= 0 ? logger.fd : STDERR_FILENO;
        if (logger.hook && fd == STDERR_FILENO)
                logger.hook(true);
        /* One write per line keeps lines whole between processes; a lost log line is no error. */
        written = write(fd, line.data, line.len);
        (void)written;
        if (logger.hook && fd == STDERR_FILENO)
                logger.hook(false);
        (void)pthread_mutex_unlock(&log_mutex);
        errno = saved;
}
