/* KVM or plain emulation (qemu.md §10). */
#pragma once

#include "hv/driver.h"

/*
 * By env->accel: "kvm" (a failing probe is the error), "tcg", or "auto": KVM where it runs guest
 * code at hardware speed. With emulation, *reason (may be NULL) gets why.
 */
int qemu_accel_choose(const struct hv_env *env, bool *ret_kvm, struct cc_buf *reason,
                      struct cc_err *err);
