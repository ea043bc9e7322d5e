/*
 * The provider `user`: the VMM's own user-mode network stack. No root, no host set-up: the guest
 * gets its address by DHCP from the VMM, published ports are forwards of NIC 0. There is nothing on
 * the host to make, check or remove; only the record says that the NICs exist.
 */
#include "base/alloc.h"
#include "base/id.h"
#include "net/provider.h"

#define NAME "user"

static bool serves_name(const struct net_env *env, const char *network)
{
        (void)env;
        return cc_streq(network, NAME);
}

static bool serves_default(const struct net_env *env)
{
        (void)env;
        return true;
}

static int prepare(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        (void)env;
        (void)err;
        cc_strset(&vm->net_backend, NAME);
        cc_strset(&vm->netns_path, NULL);
        cc_strset(&vm->net_bridge_dev, NULL);
        cc_strset(&vm->config.network, NAME);
        return 0;
}

static int add(const struct net_env *env, struct vm_record *vm, const struct net_spec *specs,
               size_t n, struct record_array *ret, struct cc_err *err)
{
        (void)env;
        (void)err;
        for (size_t i = 0; i < n; i++) {
                const struct net_spec *s = &specs[i];
                struct nic *nic = record_array_add(&nic_type, ret);
                char mac[18];

                if (s->existing) {
                        record_copy(&nic_type, nic, s->existing);
                        continue;
                }
                cc_mac_new(mac);
                net_nic_init(nic, vm, s, NAME);
                nic->tap = xstrdup("");
                nic->mac = xstrdup(mac);
        }
        return 0;
}

static int remove_nics(const struct net_env *env, const struct vm_record *vm, const size_t *indices,
                       size_t n, struct cc_err *err)
{
        (void)env;
        (void)vm;
        (void)indices;
        (void)n;
        (void)err;
        return 0;
}

/* delete, verify, quiesce and unquiesce find nothing on the host to act on. */
static int nothing_const(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        (void)env;
        (void)vm;
        (void)err;
        return 0;
}

static int nothing(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        return nothing_const(env, vm, err);
}

static void offers(const struct net_env *env, struct cc_strv *ret)
{
        (void)env;
        cc_strv_add(ret, NAME);
}

extern const struct net_provider net_provider_user;
const struct net_provider net_provider_user = {
        .name = NAME,
        .offers = offers,
        .caps = NET_CAP_PUBLISH | NET_CAP_USER,
        .serves_name = serves_name,
        .serves_default = serves_default,
        .prepare = prepare,
        .add = add,
        .remove = remove_nics,
        .delete = nothing_const,
        .verify = nothing_const,
        .recover = nothing,
        .quiesce = nothing_const,
        .unquiesce = nothing_const,
};
