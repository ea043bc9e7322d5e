/* Clocks, RFC 3339 and durations. See timeutil.h. */
#include "base/timeutil.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/sys.h"

static int64_t clock_ns(clockid_t clock)
{
        struct timespec ts = { 0 };

        (void)cc_sys.clock_gettime(clock, &ts);
        return (int64_t)ts.tv_sec * CC_NSEC_PER_SEC + ts.tv_nsec;
}

int64_t cc_now(void)
{
        return clock_ns(CLOCK_REALTIME);
}

int64_t cc_monotonic(void)
{
        return clock_ns(CLOCK_MONOTONIC);
}

static int64_t floor_sec(int64_t ns, int64_t *ret_frac)
{
        int64_t sec = ns / CC_NSEC_PER_SEC;
        int64_t frac = ns % CC_NSEC_PER_SEC;

        if (frac < 0) {
                frac += CC_NSEC_PER_SEC;
                sec--;
        }
        *ret_frac = frac;
        return sec;
}

void cc_time_rfc3339(int64_t ns, char out[CC_RFC3339_MAX])
{
        int64_t frac;
        time_t sec = (time_t)floor_sec(ns, &frac);
        struct tm tm;
        size_t n;
        long off;

        localtime_r(&sec, &tm);
        n = strftime(out, CC_RFC3339_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
        if (frac) {
                n += (size_t)snprintf(out + n, CC_RFC3339_MAX - n, ".%09d", (int)frac);
                while (out[n - 1] == '0')
                        n--;
        }
        off = tm.tm_gmtoff;
        if (off == 0)
                (void)snprintf(out + n, CC_RFC3339_MAX - n, "Z");
        else
                (void)snprintf(out + n, CC_RFC3339_MAX - n, "%c%02d:%02d", off < 0 ? '-' : '+',
                               (int)(labs(off) / 3600 % 100), (int)(labs(off) / 60 % 60));
}

/* Exactly n digits at *s as a number, -1 if they are not there. */
static int digits(const char **s, int n)
{
        int v = 0;

        for (int i = 0; i < n; i++) {
                if (!isdigit((unsigned char)(*s)[i]))
                        return -1;
                v = v * 10 + ((*s)[i] - '0');
        }
        *s += n;
        return v;
}

static int expect(const char **s, char c)
{
        if (**s != c)
                return -1;
        (*s)++;
        return 0;
}

static int days_in_month(int year, int mon)
{
        static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

        return days[mon - 1] + (mon == 2 && leap);
}

int cc_time_parse(const char *s, int64_t *ret)
{
        struct tm tm = { 0 };
        int64_t frac = 0;
        int64_t off = 0;
        int year, mon, day, hour, min, sec;

        if ((year = digits(&s, 4)) < 0 || expect(&s, '-') || (mon = digits(&s, 2)) < 1 ||
            mon > 12 || expect(&s, '-') || (day = digits(&s, 2)) < 1 ||
            day > days_in_month(year, mon))
                return -CC_INVALID;
        if (*s != 'T' && *s != 't' && *s != ' ')
                return -CC_INVALID;
        s++;
        if ((hour = digits(&s, 2)) < 0 || hour > 23 || expect(&s, ':') ||
            (min = digits(&s, 2)) < 0 || min > 59 || expect(&s, ':') || (sec = digits(&s, 2)) < 0 ||
            sec > 60)
                return -CC_INVALID;
        if (*s == '.') {
                int64_t unit = CC_NSEC_PER_SEC / 10;

                if (!isdigit((unsigned char)*++s))
                        return -CC_INVALID;
                for (; isdigit((unsigned char)*s); s++, unit /= 10)
                        frac += (*s - '0') * unit;
        }
        if (*s == '+' || *s == '-') {
                int sign = *s++ == '-' ? -1 : 1;
                int h = digits(&s, 2);
                int m;

                if (h < 0 || h > 23 || expect(&s, ':') || (m = digits(&s, 2)) < 0 || m > 59)
                        return -CC_INVALID;
                off = sign * (int64_t)(h * 60 + m) * 60;
        } else if (*s == 'Z' || *s == 'z') {
                s++;
        } else {
                return -CC_INVALID;
        }
        if (*s)
                return -CC_INVALID;
        tm.tm_year = year - 1900;
        tm.tm_mon = mon - 1;
        tm.tm_mday = day;
        tm.tm_hour = hour;
        tm.tm_min = min;
        tm.tm_sec = sec;
        /* int64 nanoseconds end in 2262; Go's zero time (year 1) is read as "no time" (0). */
        if (year < 1700 || year > 2200)
                *ret = 0;
        else
                *ret = ((int64_t)timegm(&tm) - off) * CC_NSEC_PER_SEC + frac;
        return 0;
}

void cc_time_table(int64_t ns, char out[32])
{
        int64_t frac;
        time_t sec = (time_t)floor_sec(ns, &frac);
        struct tm tm;

        localtime_r(&sec, &tm);
        strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm);
}

int cc_duration_parse(const char *s, int64_t *ret)
{
        static const struct {
                const char *name;
                int64_t ns;
        } units[] = {
                { "ns", 1 },
                { "us", 1000 },
                { "ms", CC_NSEC_PER_MSEC },
                { "s", CC_NSEC_PER_SEC },
                { "m", 60 * CC_NSEC_PER_SEC },
                { "h", 3600 * CC_NSEC_PER_SEC },
        };
        double total = 0;
        double sign = 1;

        if (*s == '-' || *s == '+')
                sign = *s++ == '-' ? -1 : 1;
        if (strcmp(s, "0") == 0) {
                *ret = 0;
                return 0;
        }
        if (!*s)
                return -CC_INVALID;
        while (*s) {
                const char *number = s;
                size_t len;
                size_t i;

                len = strspn(s, "0123456789.");
                if (len == 0 || len > 20 || strspn(s, ".") == len ||
                    memchr(s, '.', len) != memrchr(s, '.', len))
                        return -CC_INVALID;
                s += len;
                len = strcspn(s, "0123456789.");
                for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
                        if (strlen(units[i].name) == len && memcmp(units[i].name, s, len) == 0)
                                break;
                if (i == sizeof(units) / sizeof(units[0]))
                        return -CC_INVALID;
                total += strtod(number, NULL) * (double)units[i].ns;
                s += len;
        }
        if (total > 9.2e18)
                return -CC_INVALID;
        *ret = (int64_t)(sign * total);
        return 0;
}
