/* Parsing and printing of byte sizes. See size.h. */
#include "base/size.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

int cc_size_parse(const char *s, int64_t *ret)
{
        static const char units[] = "bkmgtp";
        char number[32];
        double v;
        size_t n = strspn(s, "0123456789.");
        const char *suffix = s + n;
        const char *unit;

        if (n == 0 || n >= sizeof(number) || strspn(s, ".") == n)
                return -CC_INVALID;
        if (memchr(s, '.', n) != memrchr(s, '.', n))
                return -CC_INVALID;
        memcpy(number, s, n);
        number[n] = '\0';
        v = strtod(number, NULL);
        if (*suffix == ' ')
                suffix++;
        if (*suffix) {
                unit = strchr(units, tolower((unsigned char)*suffix));
                if (!unit)
                        return -CC_INVALID;
                suffix++;
                if (*suffix && (unit == units ||
                                (strcasecmp(suffix, "b") != 0 && strcasecmp(suffix, "i") != 0 &&
                                 strcasecmp(suffix, "ib") != 0)))
                        return -CC_INVALID;
                for (ptrdiff_t i = 0; i < unit - units; i++)
                        v *= 1024;
        } else if (suffix[-1] == ' ') {
                return -CC_INVALID;
        }
        if (v >= 9223372036854775808.0)
                return -CC_INVALID;
        *ret = (int64_t)v;
        return 0;
}

void cc_size_format(int64_t bytes, char out[24])
{
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double v = (double)bytes;
        size_t i = 0;

        while (v >= 1024 && i + 1 < sizeof(units) / sizeof(units[0])) {
                v /= 1024;
                i++;
        }
        (void)snprintf(out, 24, "%.4g%s", v, units[i]);
}
