/* What every unit test needs: cmocka with its prerequisites, and a scratch directory that goes
 * away. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fs.h"

#define assert_ok(expr)                                                                            \
        do {                                                                                       \
                int r_ = (expr);                                                                   \
                if (r_ != 0)                                                                       \
                        fail_msg("%s = %d: %s", #expr, r_, err.msg);                               \
        } while (0)

/* cmocka setup and teardown: *state is the path of a fresh directory. */
static inline int scratch_setup(void **state)
{
        const char *tmp = getenv("TMPDIR");
        char *dir = xasprintf("%s/cocoon-unit-XXXXXX", tmp ? tmp : "/tmp");

        *state = mkdtemp(dir);
        return *state ? 0 : -1;
}

static inline int scratch_teardown(void **state)
{
        int r = cc_rm_rf(*state, NULL);

        free(*state);
        return r;
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

/* Skip with the reason that tests/run shows. */
#define skip_because(...)                                                                          \
        do {                                                                                       \
                print_message("# reason: ");                                                       \
                print_message(__VA_ARGS__);                                                        \
                print_message("\n");                                                               \
                skip();                                                                            \
        } while (0)
