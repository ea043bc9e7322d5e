/*
 * NIC resize (network.md §10). One NIC at a time:
 *
 *      grow    N1 plumbing on the host   N2 in the machine   N3 in the record
 *      shrink  N1 out of the machine, released by the guest   N2 host plumbing gone   N3 record
 *
 * A failure undoes its own NIC only. The host's plumbing is torn down only once the machine has let
 * go of the TAP. After N1 of a removal the NIC is irrevocably gone, so the record follows whatever
 * becomes of the plumbing. What a killed verb left is above the recorded count: the next one takes
 * it out first.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "vm/attach.h"
#include "vm/internal.h"

#define TAG "vm.net"

struct resize {
        struct engine *e;
        struct vm_live *l;
        const struct net_provider *net;
        struct vm_net_result *ret;
};

static void changes_clear(struct vm_nic_change *v, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                free(v[i].tap);
                free(v[i].mac);
        }
        free(v);
}

void vm_net_result_clear(struct vm_net_result *r)
{
        changes_clear(r->added, r->n_added);
        changes_clear(r->removed, r->n_removed);
        cc_strv_free(&r->warnings);
        cc_strv_free(&r->hints);
        *r = (struct vm_net_result){ 0 };
}

static void note(struct vm_nic_change **v, size_t *n, size_t index, const struct nic *nic)
{
        *v = xreallocarray(*v, *n + 1, sizeof(**v));
        (*v)[(*n)++] = (struct vm_nic_change){
                .index = index,
                .tap = nic->tap ? xstrdup(nic->tap) : NULL,
                .mac = xstrdup(nic->mac),
        };
}

static void CC_PRINTF(2, 3) warn(struct resize *r, const char *fmt, ...)
{
        va_list ap;
        char *text;

        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                abort();
        va_end(ap);
        cc_warn(TAG, "%s", text);
        cc_strv_take(&r->ret->warnings, text);
}

/* What the guest's administrator is to do, said once. */
static void hint(struct resize *r, enum hv_plug_event event, size_t index)
{
        const struct hv_driver *drv = r->l->drv;
        char *text = drv->guest_hint ? drv->guest_hint(event, index) : NULL;

        if (text && !cc_strv_has(&r->ret->hints, text))
                cc_strv_add(&r->ret->hints, text);
        free(text);
}

static struct vm_record *record(struct resize *r)
{
        return &r->l->vm;
}

static size_t count(struct resize *r)
{
        return record(r)->network_configs.len;
}

static int plumbing_remove(struct resize *r, size_t index, struct cc_err *err)
{
        struct net_env env = vm_net_env(r->e);

        return r->net->remove(&env, record(r), &index, 1, err);
}

/* The record as if it had one NIC less; what is cut off is freed. */
static void truncate_record(struct vm_record *vm, size_t n)
{
        for (size_t i = n; i < vm->network_configs.len; i++)
                record_clear(&nic_type, vm_nic(vm, i));
        vm->network_configs.len = n;
}

/* ---- entry ---- */

static int check_backend(struct resize *r, struct cc_err *err)
{
        const struct vm_record *vm = record(r);
        int e = net_provider_find(vm_net_backend(vm), &r->net, err);

        if (e < 0)
                return e;
        if (!r->net)
                return cc_fail(err, CC_STATE, "no network backend on VM; cannot resize");
        if ((r->net->caps & NET_CAP_NETNS) && cc_isempty(vm_netns_path(vm)))
                return cc_fail(err, CC_STATE,
                               "%s backend but no netns; resize would target host netns",
                               r->net->name);
        if ((r->net->caps & NET_CAP_USER) && !(r->l->drv->caps & HV_CAP_USER_NET))
                return cc_fail(err, CC_STATE, "backend %s has no user-mode network",
                               r->l->drv->name);
        return 0;
}

/* Is the machine's NIC at position `at` of its list, with this MAC, one of the record's? */
static bool recorded(const struct hv_driver *drv, const struct vm_record *vm, size_t at,
                     const char *mac)
{
        if (!(drv->caps & HV_CAP_NIC_SWAP))
                return at < vm->network_configs.len;
        for (size_t i = 0; i < vm->network_configs.len; i++)
                if (strcasecmp(vm_nic(vm, i)->mac, mac) == 0)
                        return true;
        return false;
}

int vm_drop_stray_nics(const struct hv_driver *drv, const struct hv_env *env,
                       const struct vm_record *vm, struct cc_err *err)
{
        CC_STRV struct cc_strv macs = { 0 };
        const char *mac;
        int e = drv->nic_list ? drv->nic_list(env, vm->run_dir, &macs, err) : 0;

        cc_strv_foreach (&macs, i, mac) {
                if (e < 0 || recorded(drv, vm, i, mac))
                        continue;
                cc_info(TAG, "vm %s: removing NIC %s, which an interrupted resize left", vm->id,
                        mac);
                e = drv->nic_remove(env, vm->run_dir, vm->network_configs.len, mac, err);
        }
        return e;
}

static int drop_strays(struct resize *r, struct cc_err *err)
{
        int e = vm_drop_stray_nics(r->l->drv, &r->l->env, record(r), err);

        if (e == 0)
                vm_reclaim_nics(r->e, r->net, record(r));
        return e;
}

/* ---- grow ---- */

static int plug(struct resize *r, size_t index, struct cc_err *err)
{
        VM_SPEC_BUF struct vm_spec_buf spec = { 0 };
        int e = vm_spec_build(record(r), &spec, err);

        if (e == 0)
                e = r->l->drv->nic_add(&r->l->env, &spec.spec, index, err);
        return e;
}

/* The machine has the NIC and the record cannot: out again, and only then the TAP. */
static void unplug(struct resize *r, size_t index)
{
        CC_FREE char *mac = xstrdup(vm_nic(record(r), index)->mac);
        struct cc_err why = CC_ERR_INIT;

        cc_uninterruptible_begin();
        if (r->l->drv->nic_remove(&r->l->env, record(r)->run_dir, index, mac, &why) < 0)
                warn(r, "nic %zu (%s) stays in the machine, the next vm net removes it: %s", index,
                     mac, why.msg);
        else if (plumbing_remove(r, index, &why) < 0)
                warn(r, "nic %zu (%s) host plumbing leaked, cocoon vm rm or gc will reclaim: %s",
                     index, mac, why.msg);
        cc_uninterruptible_end();
}

/* Plumbing of NIC `index`, as the last one of the record. */
static int plumb(struct resize *r, size_t index, struct cc_err *err)
{
        struct record_array made = { 0 };
        struct net_spec spec = { .index = index, .num_queues = vm_nic_queues(r->l->drv) };
        struct net_env env = vm_net_env(r->e);
        struct vm_record *vm = record(r);
        int e = r->net->add(&env, vm, &spec, 1, &made, err);

        if (e < 0)
                return e;
        if (made.len == 1)
                record_copy(&nic_type, record_array_add(&nic_type, &vm->network_configs), made.v);
        else
                e = cc_fail(err, CC_INTERNAL, "network: wanted one NIC, got %zu", made.len);
        for (size_t i = 0; i < made.len; i++)
                record_clear(&nic_type, (struct nic *)made.v + i);
        free(made.v);
        return e;
}

static void unplumb(struct resize *r, size_t index)
{
        struct cc_err why = CC_ERR_INIT;

        cc_uninterruptible_begin();
        if (plumbing_remove(r, index, &why) < 0)
                warn(r, "nic %zu host plumbing leaked, cocoon vm rm or gc will reclaim: %s", index,
                     why.msg);
        cc_uninterruptible_end();
}

static int grow_one(struct resize *r, size_t index, struct cc_err *err)
{
        int e = plumb(r, index, err);

        if (e < 0)
                return e;
        e = cc_failpoint("net_add.N1", err);
        if (e == 0)
                e = plug(r, index, err);
        if (e < 0) {
                unplumb(r, index);
                truncate_record(record(r), index);
                return e;
        }
        e = cc_failpoint("net_add.N2", err);
        if (e == 0)
                e = vm_commit(r->e, record(r), NULL, err);
        if (e < 0) {
                unplug(r, index);
                truncate_record(record(r), index);
                return e;
        }
        note(&r->ret->added, &r->ret->n_added, index, vm_nic(record(r), index));
        hint(r, HV_PLUGGED, index);
        return cc_failpoint("net_add.N3", err);
}

/* ---- shrink ---- */

static int shrink_one(struct resize *r, size_t index, struct cc_err *err)
{
        struct vm_record *vm = record(r);
        CC_FREE char *mac = xstrdup(vm_nic(vm, index)->mac);
        struct cc_err why = CC_ERR_INIT;
        int e = r->l->drv->nic_remove(&r->l->env, vm->run_dir, index, mac, err);

        if (e < 0)
                return cc_wrap(err, "nic %zu (%s)", index, mac);
        /* Irrevocable: from here on the record follows. */
        cc_uninterruptible_begin();
        e = cc_failpoint("net_remove.N1", err);
        if (e == 0 && plumbing_remove(r, index, &why) < 0)
                warn(r, "nic %zu (%s) host plumbing leaked, cocoon vm rm or gc will reclaim: %s",
                     index, mac, why.msg);
        if (e == 0)
                e = cc_failpoint("net_remove.N2", err);
        if (e == 0) {
                note(&r->ret->removed, &r->ret->n_removed, index, vm_nic(vm, index));
                hint(r, HV_NIC_PULLED, index);
                truncate_record(vm, index);
                e = vm_commit(r->e, vm, NULL, err);
        }
        if (e == 0)
                e = cc_failpoint("net_remove.N3", err);
        cc_uninterruptible_end();
        return e;
}

static int resize(struct resize *r, size_t nics, struct cc_err *err)
{
        int e = vm_live_check(r->l, err);

        if (e == 0)
                e = vm_nics_check(record(r), err);
        if (e == 0)
                e = check_backend(r, err);
        if (e == 0)
                e = drop_strays(r, err);
        while (e == 0 && count(r) != nics) {
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                e = count(r) < nics ? grow_one(r, count(r), err) : shrink_one(r, count(r) - 1, err);
        }
        return e;
}

int vm_net(struct engine *e, const char *id, int64_t nics, struct vm_net_result *ret,
           struct cc_err *err)
{
        VM_LIVE struct vm_live live = VM_LIVE_INIT;
        struct resize r = { .e = e, .l = &live, .ret = ret };
        int x;

        if (nics < 0)
                return cc_fail(err, CC_USAGE, "--nics must be at least 0, got %lld",
                               (long long)nics);
        x = vm_live_open(e, id, TAG, &live, err);
        if (x == 0)
                x = hv_require_plug(live.drv, HV_CAP_NIC_HOTPLUG, live.vm.config.pci, "vm net",
                                    "net resize", err);
        if (x < 0)
                return x;
        if ((size_t)nics > live.drv->max_nics)
                return cc_fail(err, CC_INVALID, "%s: at most %zu NICs, got %lld", live.drv->name,
                               live.drv->max_nics, (long long)nics);
        ret->before = (int64_t)live.vm.network_configs.len;
        x = resize(&r, (size_t)nics, err);
        ret->after = (int64_t)live.vm.network_configs.len;
        return x;
}
