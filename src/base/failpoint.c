/* Failpoints for crash and error tests. See failpoint.h. */
#include "base/failpoint.h"

#include <signal.h>
#include <string.h>

int cc_failpoint(const char *label, struct cc_err *err)
{
        const char *want = getenv("COCOON_FAILPOINT");
        size_t n;

        if (!want || !*want)
                return 0;
        n = strlen(label);
        if (strncmp(want, label, n) != 0)
                return 0;
        if (strcmp(want + n, ":error") == 0)
                return cc_fail(err, CC_INTERNAL, "injected failure at %s", label);
        if (want[n] == '\0')
                (void)raise(SIGKILL);
        return 0;
}
