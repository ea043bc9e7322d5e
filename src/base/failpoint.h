/*
 * Failpoints named after the flow labels of state.md §3 ("create.C3"): the crash and error tests
 * walk them. COCOON_FAILPOINT=create.C3 kills the process there with SIGKILL; create.C3:error makes
 * the step fail with CC_INTERNAL "injected failure at create.C3". Unset: one getenv() per label.
 */
#pragma once

#include "base/err.h"

/* Place AFTER the step that the label names. Returns 0, or a negative class when an error is
 * injected. */
int cc_failpoint(const char *label, struct cc_err *err);
