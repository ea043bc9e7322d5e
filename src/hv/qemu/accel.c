/* The choice of the accelerator. See accel.h. */
#include "hv/qemu/accel.h"

int qemu_accel_choose(const struct hv_env *env, bool *ret_kvm, struct cc_buf *reason,
                      struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r;

        if (cc_streq(env->accel, "tcg")) {
                if (reason)
                        cc_buf_str(reason, "qemu_accel is tcg");
                *ret_kvm = false;
                return 0;
        }
        r = hv_kvm_probe(env->cache_dir, &why);
        if (r < 0 && r != -CC_UNAVAILABLE)
                return cc_err_copy(err, &why);
        if (r < 0 && cc_streq(env->accel, "kvm"))
                return cc_fail(err, CC_UNAVAILABLE, "qemu: qemu_accel is kvm, but: %s", why.msg);
        if (r < 0 && reason)
                cc_buf_str(reason, why.msg);
        *ret_kvm = r == 0;
        return 0;
}
