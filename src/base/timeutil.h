/* Clocks, RFC 3339 and durations. All internal times are nanoseconds since the epoch (int64_t). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CC_NSEC_PER_SEC  INT64_C(1000000000)
#define CC_NSEC_PER_MSEC INT64_C(1000000)
#define CC_RFC3339_MAX   40

int64_t cc_now(void);       /* CLOCK_REALTIME, ns since the epoch */
int64_t cc_monotonic(void); /* CLOCK_MONOTONIC, ns; for deadlines */

/* RFC 3339 in local time with offset ("Z" for UTC) and up to 9 fractional digits, none if zero. */
void cc_time_rfc3339(int64_t ns, char out[CC_RFC3339_MAX]);

/* Inverse; any offset, 0-9 fractional digits. Returns 0 or -CC_INVALID (no text). */
int cc_time_parse(const char *s, int64_t *ret);

/* "YYYY-MM-DD HH:MM:SS" in local time, for tables. */
void cc_time_table(int64_t ns, char out[32]);

/* Go-style duration: sequences of number and unit (ns us ms s m h), "720h", "1h30m", "0".
 * Returns 0 and nanoseconds, or -CC_INVALID (no text). */
int cc_duration_parse(const char *s, int64_t *ret);
