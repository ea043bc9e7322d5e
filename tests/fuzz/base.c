/* What users and foreign files write as text: sizes, times, durations, integers, UTF-8, JSON. */
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/size.h"
#include "base/str.h"
#include "base/timeutil.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What we print, we must read back as the same. */
static void time_round_trip(int64_t t)
{
        char text[CC_RFC3339_MAX];
        int64_t back = 0;

        cc_time_rfc3339(t, text);
        if (cc_time_parse(text, &back) != 0 || back != t)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CC_FREE char *s = xstrndup((const char *)data, size);
        CC_STRV struct cc_strv items = { 0 };
        json_t *json = NULL;
        int64_t v = 0;
        long long n;
        size_t code_points = cc_utf8_len(s);

        if (cc_size_parse(s, &v) == 0 && v < 0)
                abort();
        if (cc_time_parse(s, &v) == 0)
                time_round_trip(v);
        (void)cc_duration_parse(s, &v);
        (void)cc_parse_i64(s, &n);
        (void)cc_edit_distance(s, "status", 2);
        cc_split(s, ",;", &items);
        if (code_points > strlen(s))
                abort();
        if (cc_json_parse((const char *)data, size, "input", &json, NULL) == 0) {
                CC_FREE char *text = cc_json_compact(json);
                json_t *again = NULL;

                if (cc_json_parse(text, strlen(text), "output", &again, NULL) != 0 ||
                    !json_equal(json, again))
                        abort();
                json_decref(again);
                json_decref(json);
        }
        return 0;
}
