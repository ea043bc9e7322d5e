/*
 * The provider `cni`: every VM has a network namespace of its own, in which a TAP and the interface
 * eth<i> are one wire (wire.h). eth<i> comes from a source (cni_source.h): plugins, or the built-in
 * network.
 *
 * The namespace is made before any NIC and deleted after all of them: address translation of a
 * plugin can only be undone while the interface is there.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/id.h"
#include "base/log.h"
#include "base/proc.h"
#include "net/builtin.h"
#include "net/cni_source.h"
#include "net/conflist.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/providers.h"
#include "net/wire.h"

static char *path_of(const struct vm_record *vm)
{
        const char *recorded = vm_netns_path(vm);

        return cc_isempty(recorded) ? netns_path(vm->id) : xstrdup(recorded);
}

static const struct cni_source *source_of(const struct vm_record *vm)
{
        return cc_streq(vm->config.network, BUILTIN_NAME) ? &cni_builtin : &cni_plugins;
}

void cni_networks(const struct vm_record *vm, struct cc_strv *ret)
{
        if (vm->config.network)
                cc_split(vm->config.network, ",", ret);
}

void cni_drop_nics(struct record_array *a)
{
        for (size_t i = 0; i < a->len; i++)
                record_clear(&nic_type, (struct nic *)a->v + i);
        free(a->v);
        *a = (struct record_array){ 0 };
}

/* ---- which network ---- */

static int check_names(const struct conflists *lists, const struct cc_strv *names,
                       struct cc_err *err)
{
        CC_STRV struct cc_strv more = { 0 };
        const char *name;

        cc_strv_add(&more, BUILTIN_NAME);
        cc_strv_foreach (names, i, name) {
                if (cc_streq(name, BUILTIN_NAME))
                        return cc_fail(err, CC_UNSUPPORTED,
                                       "network " BUILTIN_NAME " cannot be combined with others");
                if (!conflists_find(lists, name))
                        return conflists_not_found(lists, name, &more, err);
        }
        return 0;
}

int cni_resolve(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        CONFLISTS struct conflists lists = { 0 };
        CC_STRV struct cc_strv names = { 0 };
        int r;

        if (cc_streq(vm->config.network, BUILTIN_NAME))
                return 0;
        r = conflists_load(env->config ? env->config->cni_conf_dir : NULL, &lists, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < lists.skipped.len; i++)
                cc_warn("net.cni", "network list left out: %s", lists.skipped.v[i]);
        cni_networks(vm, &names);
        if (names.len > 0)
                return check_names(&lists, &names, err);
        cc_strset(&vm->config.network, lists.len > 0 ? lists.v[0].name : BUILTIN_NAME);
        return 0;
}

/* ---- the namespace ---- */

/* The VMM that the record names, if it lives; -1 if not. */
static pid_t live_vmm(const struct vm_record *vm)
{
        CC_CLOSE int pidfd = -1;
        char boot[37];

        if (!vm->proc || vm->proc->pid <= 0)
                return -1;
        cc_boot_id(boot);
        if (!cc_streq(vm->proc->boot_id, boot) ||
            cc_proc_open((pid_t)vm->proc->pid, (uint64_t)vm->proc->starttime, NULL, &pidfd) < 0)
                return -1;
        return (pid_t)vm->proc->pid;
}

/* The name may be gone while the namespace lives on in the VMM: it gets its name back. A second
 * namespace would cut the guest off for good. */
static int ready_netns(const struct vm_record *vm, const char *path, bool *ret_created,
                       struct cc_err *err)
{
        pid_t vmm = netns_exists(path) ? -1 : live_vmm(vm);
        int r;

        *ret_created = false;
        if (vmm < 0)
                return netns_create(path, ret_created, err);
        cc_warn("net.cni", "vm %s: %s was removed under the running VM, naming it again", vm->id,
                path);
        r = netns_rebind(path, vmm, err);
        /* Still the same process: what we named was its namespace. */
        if (r == 0 && live_vmm(vm) != vmm) {
                (void)netns_delete(path, NULL);
                return netns_create(path, ret_created, err);
        }
        return r;
}

static int prepare(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        bool created = false;
        int r = cni_resolve(env, vm, err);

        if (r == 0)
                r = ready_netns(vm, path, &created, err);
        if (r == 0)
                r = cc_failpoint("net.netns", err);
        if (r < 0) {
                if (created)
                        (void)netns_delete(path, NULL);
                return r;
        }
        cc_strset(&vm->net_backend, CNI_BACKEND);
        cc_strset(&vm->netns_path, path);
        cc_strset(&vm->net_bridge_dev, NULL);
        return 0;
}

/* ---- NICs ---- */

static int add(const struct net_env *env, struct vm_record *vm, const struct net_spec *specs,
               size_t n, struct record_array *ret, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        bool created = false;
        bool kept = false;
        int r;

        if (n == 0)
                return 0;
        r = cni_resolve(env, vm, err);
        if (r == 0)
                r = ready_netns(vm, path, &created, err);
        if (r < 0)
                return r;
        r = source_of(vm)->add(env, vm, path, specs, n, ret, &kept, err);
        if (r < 0 && created && !kept)
                (void)netns_delete(path, NULL);
        return r;
}

static int remove_nics(const struct net_env *env, const struct vm_record *vm, const size_t *indices,
                       size_t n, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);

        return source_of(vm)->remove(env, vm, path, indices, n, err);
}

/* Both sources, whatever the record says: it may be the record that is wrong. */
static int delete_vm(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        static const struct cni_source *const sources[] = { &cni_plugins, &cni_builtin };
        CC_FREE char *path = path_of(vm);
        struct cc_err all = CC_ERR_INIT;
        bool kept = false;

        for (size_t i = 0; i < CC_ARRAY_LEN(sources); i++) {
                struct cc_err one = CC_ERR_INIT;

                if (sources[i]->delete (env, vm, path, &kept, &one) < 0)
                        cc_join(&all, &one);
        }
        if (!kept) {
                struct cc_err one = CC_ERR_INIT;

                if (netns_delete(path, &one) < 0)
                        cc_join(&all, &one);
        }
        return all.class == CC_OK ? 0 : cc_err_copy(err, &all);
}

static int verify(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        int r = wire_verify(path, vm->id, vm->network_configs.len, err);

        return r < 0 ? r : source_of(vm)->verify(env, vm, err);
}

static int unquiesce(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        int r = source_of(vm)->up(env, vm, path, err);

        return r < 0 ? r : wire_set_up(path, vm->network_configs.len, true, err);
}

static int quiesce(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        int r = wire_set_up(path, vm->network_configs.len, false, err);

        return r < 0 ? r : source_of(vm)->down(env, vm, err);
}

struct taps {
        char prefix[16];
        size_t first;
        struct cc_strv names;
};

static void collect_tap(void *ctx, const struct net_link *link)
{
        struct taps *t = ctx;
        size_t index;

        if (cc_streq(link->kind, "tun") && cc_startswith(link->name, t->prefix) &&
            wire_index(link->name, &index) && index >= t->first)
                cc_strv_add(&t->names, link->name);
}

/* A TAP may have outlived the rest of its NIC. */
static int reclaim_taps(const struct vm_record *vm, const char *path, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        struct taps t = { .first = vm->network_configs.len };
        int r = netns_open(path, false, &f, err);

        wire_tap_name(vm->id, 0, t.prefix);
        *strrchr(t.prefix, '-') = '\0';
        if (r == 0)
                r = link_each(f.sk, collect_tap, &t, err);
        for (size_t i = 0; i < t.names.len && r == 0; i++)
                r = link_delete(f.sk, t.names.v[i], err);
        cc_strv_free(&t.names);
        return r;
}

static int reclaim(const struct net_env *env, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *path = path_of(vm);
        int r = source_of(vm)->reclaim(env, vm, path, err);

        return r < 0 || !netns_exists(path) ? r : reclaim_taps(vm, path, err);
}

static int recover(const struct net_env *env, struct vm_record *vm, struct cc_err *err)
{
        size_t n = vm->network_configs.len;
        CC_FREE struct net_spec *specs = xcalloc(n + 1, sizeof(*specs));
        struct record_array nics = { 0 };
        int r = vm_nics_check(vm, err);

        if (r == 0)
                r = prepare(env, vm, err);
        for (size_t i = 0; i < n; i++)
                specs[i] = (struct net_spec){
                        .index = i,
                        .num_queues = vm_nic(vm, i)->num_queues,
                        .existing = vm_nic(vm, i),
                };
        if (r == 0)
                r = add(env, vm, specs, n, &nics, err);
        cni_drop_nics(&nics); /* as recorded: MAC and address are what they were */
        return r < 0 ? r : unquiesce(env, vm, err);
}

static int set_mac(const struct net_env *env, const struct vm_record *vm, size_t index,
                   const char *mac, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        CC_FREE char *path = path_of(vm);
        struct net_link eth = { 0 };
        char name[16];
        int r = netns_open(path, false, &f, err);

        wire_eth_name(index, name);
        if (r == 0)
                r = link_get(f.sk, name, &eth, err);
        return r < 0 ? r : link_change(f.sk, &eth, &(struct link_change){ .mac = mac }, err);
}

/* ---- what has no VM ---- */

#define NETNS_PREFIX "cocoon-"

/* Does a namespace carry on where an ID of 8 characters breaks off? Then that one decides. */
static bool has_netns(const struct cc_strv *names, const char *id8)
{
        const char *name;

        cc_strv_foreach (names, i, name)
                if (cc_startswith(name, NETNS_PREFIX) &&
                    cc_startswith(name + strlen(NETNS_PREFIX), id8))
                        return true;
        return false;
}

/* A namespace that a process still lives in is somebody's, whatever our records say. */
static int drop_inhabited(const char *id, const struct cc_strv *names, struct cc_strv *ret,
                          struct cc_err *err)
{
        CC_FREE char *path = netns_path(id);
        bool inhabited = false;
        int r = netns_exists(path) ? netns_inhabited(path, &inhabited, err) : 0;

        if (strlen(id) == CC_ID8_LEN && has_netns(names, id))
                return 0;

        if (r < 0)
                return r;
        if (inhabited)
                cc_warn("net.gc", "%s is in use by a process and belongs to no VM: left alone",
                        path);
        else if (!cc_strv_has(ret, id))
                cc_strv_add(ret, id);
        return 0;
}

static int orphans(const struct net_env *env, struct cc_strv *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        CC_STRV struct cc_strv names = { 0 };
        int r = netns_list(&names, err);

        for (size_t i = 0; i < names.len; i++)
                if (cc_startswith(names.v[i], NETNS_PREFIX) &&
                    cc_id_valid(names.v[i] + strlen(NETNS_PREFIX)))
                        cc_strv_add(&ids, names.v[i] + strlen(NETNS_PREFIX));
        if (r == 0)
                r = cni_plugins.orphans(env, &ids, err);
        if (r == 0)
                r = cni_builtin.orphans(env, &ids, err);
        for (size_t i = 0; i < ids.len && r == 0; i++)
                r = drop_inhabited(ids.v[i], &names, ret, err);
        return r;
}

struct teller {
        net_say_fn say;
        void *ctx;
        size_t index;
};

static void tell(void *ctx, bool well, const char *text)
{
        struct teller *t = ctx;

        t->say(t->ctx, t->index, well, text);
}

static int inspect(const struct net_env *env, const struct vm_record *vm, bool live, net_say_fn say,
                   void *ctx, struct cc_err *err)
{
        int r = 0;

        (void)env;
        for (size_t i = 0; i < vm->network_configs.len && r == 0; i++) {
                const struct nic *nic = vm_nic(vm, i);
                struct teller t = { say, ctx, i };
                const struct wire_view view = {
                        .netns = vm_netns_path(vm),
                        .vm_id = vm->id,
                        .mac = nic->mac,
                        .index = i,
                        .num_queues = nic->num_queues,
                        .live = live,
                };

                r = wire_inspect(&view, tell, &t, err);
        }
        return r;
}

const struct net_provider net_provider_cni = {
        .name = CNI_BACKEND,
        .caps = NET_CAP_NETNS | NET_CAP_PUBLISH,
        .prepare = prepare,
        .add = add,
        .remove = remove_nics,
        .delete = delete_vm,
        .verify = verify,
        .recover = recover,
        .quiesce = quiesce,
        .unquiesce = unquiesce,
        .reclaim = reclaim,
        .set_mac = set_mac,
        .inspect = inspect,
        .orphans = orphans,
};
