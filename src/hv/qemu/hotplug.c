/*
 * NICs of a running machine (qemu.md §7). NIC i is device nic<i> over netdev net<i> on root port i;
 * qemu.json follows, because it is what a snapshot of the machine will be loaded by.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/launch.h"
#include "hv/qemu/plug.h"
#include "hv/qemu/qemu.h"
#include "hv/qemu/swap.h"

#define MAX_PAIRS 256 /* of a TAP device */

/* The machine's NICs as they are from now on. */
static int write_recipe(const char *run_dir, struct qemu_recipe *recipe, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, QEMU_RECIPE);
        CC_FREE char *text = qemu_recipe_text(recipe);

        return cc_publish(path, text, strlen(text), 0600, err);
}

static int for_netdev(struct qmp *q, const char *command, size_t i, struct cc_err *err)
{
        CC_FREE char *id = xasprintf("net%zu", i);

        return qmp_command(q, command, json_pack("{s:s}", "id", id), QMP_COMMAND_MS, NULL, err);
}

/* Hand over `n` descriptors as <prefix><i>-<k>; *ret_names joins them for a netdev. */
static int hand_over(struct qmp *q, const char *prefix, size_t i, const int *fds, size_t n,
                     struct cc_buf *ret_names, struct cc_err *err)
{
        int r = 0;

        for (size_t k = 0; k < n && r == 0; k++) {
                CC_FREE char *name = xasprintf("%s%zu-%zu", prefix, i, k);

                r = qmp_getfd(q, fds[k], name, err);
                cc_buf_printf(ret_names, "%s%s", k ? ":" : "", name);
        }
        return r;
}

static int add_tap(struct qmp *q, const struct vm_spec *spec, bool vhost, size_t i, size_t pairs,
                   struct cc_err *err)
{
        CC_FREE char *id = xasprintf("net%zu", i);
        CC_BUF struct cc_buf taps = { 0 };
        CC_BUF struct cc_buf hosts = { 0 };
        int tap[MAX_PAIRS];
        int host[MAX_PAIRS];
        size_t n_hosts = 0;
        json_t *args;
        int r = hv_tap_open(spec->netns, spec->nics[i].tap, pairs, tap, err);

        if (r < 0)
                return r;
        r = hand_over(q, "tap", i, tap, pairs, &taps, err);
        for (size_t k = 0; k < pairs; k++)
                close(tap[k]);
        for (; vhost && n_hosts < pairs; n_hosts++) {
                host[n_hosts] = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
                if (host[n_hosts] < 0)
                        break;
        }
        vhost = vhost && n_hosts == pairs;
        if (r == 0 && vhost)
                r = hand_over(q, "vhost", i, host, pairs, &hosts, err);
        for (size_t k = 0; k < n_hosts; k++)
                close(host[k]);
        if (r < 0)
                return r;
        args = json_pack("{s:s, s:s, s:s, s:b}", "type", "tap", "id", id, pairs > 1 ? "fds" : "fd",
                         taps.data, "vhost", vhost);
        if (vhost)
                json_object_set_new(args, pairs > 1 ? "vhostfds" : "vhostfd",
                                    json_string(hosts.data));
        return qmp_command(q, "netdev_add", args, QMP_COMMAND_MS, NULL, err);
}

static int add_netdev(struct qmp *q, const struct vm_spec *spec, bool vhost, size_t i, size_t pairs,
                      struct cc_err *err)
{
        CC_FREE char *id = xasprintf("net%zu", i);

        if (!cc_isempty(spec->nics[i].tap))
                return add_tap(q, spec, vhost, i, pairs, err);
        return qmp_command(q, "netdev_add",
                           json_pack("{s:s, s:s, s:b}", "type", "user", "id", id, "ipv6", 0),
                           QMP_COMMAND_MS, NULL, err);
}

static int add_device(struct qmp *q, const struct qemu_nic *nic, const char *mac, size_t i,
                      struct cc_err *err)
{
        json_t *device = qemu_nic_device(nic, i, mac);

        if (!device)
                return cc_fail(err, CC_INVALID, "qemu: MAC is not valid UTF-8");
        return qmp_command(q, "device_add", device, QMP_COMMAND_MS, NULL, err);
}

/* The recipe with NIC `index` behind those it has. */
static void extend(struct qemu_recipe *recipe, const struct vm_spec *spec, size_t index)
{
        bool keep[QEMU_MAX_NICS];

        for (size_t i = 0; i < QEMU_MAX_NICS; i++)
                keep[i] = i < index;
        qemu_recipe_set_nics(recipe, spec->nics, index + 1, keep);
}

int qemu_nic_add(const struct hv_env *env, const struct vm_spec *spec, size_t index,
                 struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe recipe = { 0 };
        QMP struct qmp *q = NULL;
        struct cc_err why = CC_ERR_INIT;
        const struct qemu_nic *nic;
        bool vhost;
        int r;

        (void)env;
        if (index >= QEMU_MAX_NICS)
                return cc_fail(err, CC_UNSUPPORTED, "qemu: at most %d NICs, got %zu", QEMU_MAX_NICS,
                               index + 1);
        r = qemu_read_recipe(spec->run_dir, &recipe, err);
        if (r < 0)
                return r;
        vhost = qemu_recipe_kvm(&recipe);
        extend(&recipe, spec, index);
        if (index >= recipe.nics.len)
                return cc_fail(err, CC_STATE, "qemu: the machine has fewer than %zu NICs", index);
        nic = qemu_recipe_nic(&recipe, index);
        if (nic->pairs > MAX_PAIRS)
                return cc_fail(err, CC_UNSUPPORTED, "qemu: at most %d queue pairs", MAX_PAIRS);
        r = qemu_plug_connect(spec->run_dir, -1, &q, err);
        if (r == 0)
                r = add_netdev(q, spec, vhost, index, (size_t)nic->pairs, err);
        if (r < 0)
                return r;
        r = add_device(q, nic, spec->nics[index].mac, index, &why);
        if (r < 0) {
                if (for_netdev(q, "netdev_del", index, NULL) < 0)
                        cc_debug("qemu.net", "net%zu is left behind", index);
                return cc_err_copy(err, &why);
        }
        r = qemu_wait_driver(q, index, &why);
        if (r < 0)
                cc_warn("qemu.net", "NIC %zu is plugged in, but: %s", index, why.msg);
        return write_recipe(spec->run_dir, &recipe, err);
}

int qemu_nic_remove(const struct hv_env *env, const char *run_dir, size_t index, const char *mac,
                    struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe recipe = { 0 };
        bool keep[QEMU_MAX_NICS] = { false };
        CC_FREE char *id = xasprintf("nic%zu", index);
        struct cc_err why = CC_ERR_INIT;
        QMP struct qmp *q = NULL;
        int r;

        (void)env;
        (void)mac; /* the index is the port */
        r = qemu_plug_connect(run_dir, -1, &q, err);
        if (r == 0)
                r = qemu_unplug(q, id, err);
        if (r == 0 && for_netdev(q, "netdev_del", index, &why) < 0)
                cc_debug("qemu.net", "%s", why.msg); /* gone with an earlier try */
        if (r == 0)
                r = qemu_read_recipe(run_dir, &recipe, err);
        if (r < 0 || index >= recipe.nics.len)
                return r;
        for (size_t i = 0; i < QEMU_MAX_NICS; i++)
                keep[i] = i < index;
        qemu_recipe_set_nics(&recipe, NULL, 0, keep);
        return write_recipe(run_dir, &recipe, err);
}

int qemu_nic_list(const struct hv_env *env, const char *run_dir, struct cc_strv *ret,
                  struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        QMP struct qmp *q = NULL;
        int r;

        (void)env;
        r = qemu_plug_connect(run_dir, -1, &q, err);
        if (r == 0)
                r = qemu_plugged(q, &ids, err);
        if (r == 0)
                cc_strv_sort(&ids);
        for (size_t i = 0; i < ids.len && r == 0; i++) {
                CC_FREE char *mac = NULL;

                if (!cc_startswith(ids.v[i], "nic"))
                        continue;
                r = qemu_property(q, ids.v[i], "mac", &mac, err);
                if (r == 0)
                        cc_strv_add(ret, mac);
        }
        return r;
}
