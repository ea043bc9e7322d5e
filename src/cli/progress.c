/* The progress line. See progress.h. */
#include "cli/progress.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/size.h"
#include "base/str.h"
#include "base/timeutil.h"
#include "cli/table.h"

#define REDRAW_NS        (CC_NSEC_PER_SEC / 10)
#define LINE_MAX_COLUMNS 200

enum mode { MODE_OFF, MODE_LINE, MODE_PLAIN };

static struct {
        pthread_mutex_t lock;
        enum mode mode;
        int64_t drawn_at;
        char line[LINE_MAX_COLUMNS * 4 + 1]; /* what stands on the terminal, "" nothing */
} display = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void emit(const char *text)
{
        ssize_t n = write(STDERR_FILENO, text, strlen(text));

        (void)n; /* a lost progress line is no error */
}

/* Around each log line: the lock keeps a redraw from landing in between. */
static void log_hook(bool before)
{
        if (before) {
                pthread_mutex_lock(&display.lock);
                if (display.line[0])
                        emit("\r\033[K");
                return;
        }
        if (display.line[0])
                emit(display.line);
        pthread_mutex_unlock(&display.lock);
}

void progress_begin(const char *mode)
{
        bool tty = isatty(STDERR_FILENO) && !cc_streq(getenv("TERM"), "dumb");

        progress_end();
        if (cc_streq(mode, "plain"))
                display.mode = MODE_PLAIN;
        else if (cc_streq(mode, "auto") && tty)
                display.mode = MODE_LINE;
        else
                return;
        display.drawn_at = 0;
        if (display.mode == MODE_LINE)
                cc_log_set_hook(log_hook);
}

static size_t columns(void)
{
        struct winsize ws;

        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_col < 2)
                return 79;
        return ws.ws_col - 1U < LINE_MAX_COLUMNS ? ws.ws_col - 1U : LINE_MAX_COLUMNS;
}

/* Cut after `max` code points. */
static void cut(char *text, size_t max)
{
        size_t n = 0;

        for (char *p = text; *p; p++) {
                if (((unsigned char)*p & 0xc0) != 0x80 && n++ == max) {
                        *p = '\0';
                        return;
                }
        }
}

static void draw(const char *what, int64_t done, int64_t total)
{
        char have[24];
        char all[24];
        CC_BUF struct cc_buf b = { 0 };

        cc_size_format(done, have);
        cc_size_format(total, all);
        cc_buf_str(&b, what);
        if (total > 0)
                cc_buf_printf(&b, "  %s/%s %3d%%", have, all,
                              (int)((double)(done < total ? done : total) * 100 / (double)total));
        else if (done > 0)
                cc_buf_printf(&b, "  %s", have);
        table_sanitise(b.data);
        cut(b.data, columns());
        (void)snprintf(display.line, sizeof(display.line), "%s", b.data);
        emit("\r\033[K");
        emit(display.line);
}

void progress_update(const char *what, int64_t done, int64_t total)
{
        int64_t now;

        if (display.mode != MODE_LINE)
                return;
        now = cc_monotonic();
        pthread_mutex_lock(&display.lock);
        if (now - display.drawn_at >= REDRAW_NS) {
                display.drawn_at = now;
                draw(what, done, total);
        }
        pthread_mutex_unlock(&display.lock);
}

void progress_step(const char *what)
{
        CC_BUF struct cc_buf b = { 0 };

        if (display.mode != MODE_PLAIN)
                return;
        cc_buf_str(&b, what);
        table_sanitise(b.data);
        cc_buf_char(&b, '\n');
        pthread_mutex_lock(&display.lock);
        emit(b.data);
        pthread_mutex_unlock(&display.lock);
}

void progress_end(void)
{
        pthread_mutex_lock(&display.lock);
        if (display.line[0])
                emit("\r\033[K");
        display.line[0] = '\0';
        display.mode = MODE_OFF;
        pthread_mutex_unlock(&display.lock);
        cc_log_set_hook(NULL);
}
