/*
 * Swapping NICs. See swap.h.
 *
 *   load     netdev net<i> for each NIC of the recipe: the clone's own where kinds agree, else a
 *            stand-in that reaches nothing; the clone's other TAPs as spare descriptors
 *   rewire   paused: link down, device_del; a paused guest cannot acknowledge
 *   settle   running: every DEVICE_DELETED (10 s together), then device_add in index order, each
 *            until its driver is there (2 s), so that the guest's numbering is ours
 *
 * A NIC that the guest does not release stays, link down: the machine goes on without the swap of
 * that one, and qemu.json says what the machine has.
 */
#include "hv/qemu/swap.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "hv/qemu/plug.h"
#include "hv/qemu/qemu.h"

#define RELEASE_MS 10000
#define DRIVER_MS  2000
#define POLL_MS    2

static bool is_user(const struct hv_nic *nic)
{
        return cc_isempty(nic->tap);
}

static size_t pairs_of(const struct hv_nic *nic)
{
        return is_user(nic) || nic->num_queues < 2 ? 1 : (size_t)nic->num_queues / 2;
}

void qemu_wire(const struct qemu_recipe *recipe, const struct vm_spec *spec, bool clone,
               struct qemu_wiring *ret)
{
        *ret = (struct qemu_wiring){ .n = recipe->nics.len, .mac = "02:00:00:00:00:00" };
        for (size_t i = 0; i < recipe->nics.len; i++) {
                const struct qemu_nic *q = qemu_recipe_nic(recipe, i);
                const struct hv_nic *own = i < spec->n_nics ? &spec->nics[i] : NULL;
                bool user = cc_streq(q->kind, "user");
                bool fits =
                        own && is_user(own) == user && (user || pairs_of(own) == (size_t)q->pairs);

                /* Restored in place, the NICs are the VM's own, whatever the record says of
                 * queues. */
                if (!clone && own && is_user(own) == user)
                        fits = true;
                ret->reuse[i] = fits;
                if (fits) {
                        ret->nics[i] = *own;
                        continue;
                }
                ret->nics[i] = (struct hv_nic){ .mac = ret->mac };
                ret->isolated[i] = true;
                if (!user) {
                        (void)snprintf(ret->dummy[i], sizeof(ret->dummy[i]), "rm%.8s-%u", spec->id,
                                       (unsigned)i & 7);
                        ret->nics[i].tap = ret->dummy[i];
                }
        }
}

int qemu_wire_fds(const struct qemu_plan *p, const struct vm_spec *spec,
                  const struct qemu_wiring *w, struct qemu_fds *fds, struct cc_err *err)
{
        int to = QEMU_FD_TAP;
        int r = 0;

        for (size_t i = 0; i < w->n && r == 0; i++) {
                size_t pairs = (size_t)qemu_recipe_nic(&p->recipe, i)->pairs;

                if (is_user(&w->nics[i]))
                        continue;
                if (w->reuse[i])
                        r = qemu_fds_tap(fds, spec->netns, w->nics[i].tap, pairs, p->vhost_net, &to,
                                         err);
                else
                        r = qemu_fds_dummy(fds, spec->netns, w->nics[i].tap, pairs, p->vhost_net,
                                           &to, err);
        }
        for (size_t i = 0; i < spec->n_nics && r == 0; i++)
                if (!is_user(&spec->nics[i]) && (i >= w->n || !w->reuse[i]))
                        r = qemu_fds_tap(fds, spec->netns, spec->nics[i].tap,
                                         pairs_of(&spec->nics[i]), false, &to, err);
        return r;
}

/* The first descriptor of NIC i's TAP among the spare ones. */
static int spare_fd(const struct qemu_recipe *recipe, const struct vm_spec *spec,
                    const struct qemu_wiring *w, bool vhost, size_t nic)
{
        int to = QEMU_FD_TAP;

        for (size_t i = 0; i < w->n; i++)
                if (!is_user(&w->nics[i]))
                        to += (int)qemu_recipe_nic(recipe, i)->pairs * (vhost ? 2 : 1);
        for (size_t i = 0; i < nic; i++)
                if (!is_user(&spec->nics[i]) && (i >= w->n || !w->reuse[i]))
                        to += (int)pairs_of(&spec->nics[i]);
        return to;
}

/* ---- rewire ---- */

static int for_id(struct qmp *q, const char *command, const char *key, const char *prefix, size_t i,
                  struct cc_err *err)
{
        CC_FREE char *id = xasprintf("%s%zu", prefix, i);

        return qmp_command(q, command, json_pack("{s:s}", key, id), QMP_COMMAND_MS, NULL, err);
}

static int free_port(const struct qemu_recipe *recipe, int64_t *ret, struct cc_err *err)
{
        for (int64_t port = QEMU_FREE_PORT; port < QEMU_PORTS; port++) {
                bool used = false;

                for (size_t i = 0; i < recipe->disks.len; i++)
                        used = used || qemu_recipe_disk(recipe, i)->port == port;
                if (!used) {
                        *ret = port;
                        return 0;
                }
        }
        return cc_fail(err, CC_UNSUPPORTED, "qemu: no free hot-plug port (8 in use)");
}

/* A disk that the snapshot did not have. qemu.json tells of it at once, for the next snapshot. */
static int plug_disk(struct qmp *q, struct qemu_recipe *recipe, const struct vm_spec *spec,
                     size_t i, struct cc_err *err)
{
        json_t *blockdev = NULL;
        json_t *device = NULL;
        int64_t port = 0;
        int r = free_port(recipe, &port, err);

        if (r < 0)
                return r;
        qemu_recipe_plug_disk(recipe, spec, &spec->disks[i], port);
        if (qemu_disk_options(qemu_recipe_disk(recipe, i), &spec->disks[i], i, false, false,
                              &blockdev, &device) < 0)
                return cc_fail(err, CC_INVALID, "qemu: a path or name is not valid UTF-8");
        r = qmp_command(q, "blockdev-add", blockdev, QMP_COMMAND_MS, NULL, err);
        if (r < 0) {
                json_decref(device);
                return r;
        }
        return qmp_command(q, "device_add", device, QMP_COMMAND_MS, NULL, err);
}

static int plug_disks(struct qmp *q, struct qemu_recipe *recipe, const struct vm_spec *spec,
                      struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->run_dir, QEMU_RECIPE);
        CC_FREE char *text = NULL;
        int r = 0;

        if (recipe->disks.len >= spec->n_disks)
                return 0;
        while (r == 0 && recipe->disks.len < spec->n_disks)
                r = plug_disk(q, recipe, spec, recipe->disks.len, err);
        if (r < 0)
                return r;
        text = qemu_recipe_text(recipe);
        return cc_replace(path, text, strlen(text), 0600, err);
}

int qemu_rewire(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
                const struct vm_proc *proc, struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe recipe = { 0 };
        QMP struct qmp *q = NULL;
        int r;

        (void)env;
        if (!how->clone)
                return 0;
        r = qemu_read_recipe(spec->run_dir, &recipe, err);
        if (r < 0 || (recipe.nics.len == 0 && recipe.disks.len == spec->n_disks))
                return r;
        r = qemu_plug_connect(spec->run_dir, proc->pidfd, &q, err);
        if (r == 0)
                r = plug_disks(q, &recipe, spec, err);
        for (size_t i = 0; i < recipe.nics.len && r == 0; i++) {
                CC_FREE char *id = xasprintf("nic%zu", i);

                r = qmp_command(q, "set_link", json_pack("{s:s, s:b}", "name", id, "up", 0),
                                QMP_COMMAND_MS, NULL, err);
                if (r == 0)
                        r = for_id(q, "device_del", "id", "nic", i, err);
        }
        return r;
}

/* ---- settle ---- */

/* Which of the old NICs the machine still has. */
static int list_present(struct qmp *q, bool present[QEMU_MAX_NICS], size_t n, struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        int r = qemu_plugged(q, &ids, err);

        for (size_t i = 0; i < n && r == 0; i++) {
                CC_FREE char *id = xasprintf("nic%zu", i);

                present[i] = cc_strv_has(&ids, id);
        }
        return r;
}

static bool any(const bool *v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (v[i])
                        return true;
        return false;
}

/* Events before this connection are not told to it, so the list is asked first and then once per
 * event. */
static int wait_released(struct qmp *q, bool present[QEMU_MAX_NICS], size_t n, struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + RELEASE_MS * CC_NSEC_PER_MSEC;
        int r = list_present(q, present, n, err);

        while (r == 0 && any(present, n)) {
                int64_t left = (deadline - cc_monotonic()) / CC_NSEC_PER_MSEC;

                if (left <= 0)
                        return 0;
                r = qmp_wait_event(q, "DEVICE_DELETED", (int)left, err);
                if (r == -CC_TIMEOUT)
                        return list_present(q, present, n, err);
                if (r == 0)
                        r = list_present(q, present, n, err);
        }
        return r;
}

static int replace_netdev(struct qmp *q, const struct qemu_recipe *recipe,
                          const struct vm_spec *spec, const struct qemu_wiring *w, bool vhost,
                          size_t i, struct cc_err *err)
{
        const struct hv_nic *nic = &spec->nics[i];
        CC_FREE char *id = xasprintf("net%zu", i);
        CC_BUF struct cc_buf fds = { 0 };
        int fd;
        int r = 0;

        if (i < w->n && w->reuse[i])
                return 0;
        if (i < w->n)
                r = for_id(q, "netdev_del", "id", "net", i, err);
        if (r < 0)
                return r;
        if (is_user(nic))
                return qmp_command(
                        q, "netdev_add",
                        json_pack("{s:s, s:s, s:b}", "type", "user", "id", id, "ipv6", 0),
                        QMP_COMMAND_MS, NULL, err);
        fd = spare_fd(recipe, spec, w, vhost, i);
        for (size_t k = 0; k < pairs_of(nic); k++)
                cc_buf_printf(&fds, "%s%d", k ? ":" : "", fd + (int)k);
        return qmp_command(q, "netdev_add",
                           json_pack("{s:s, s:s, s:s, s:b}", "type", "tap", "id", id,
                                     pairs_of(nic) > 1 ? "fds" : "fd", fds.data, "vhost", 0),
                           QMP_COMMAND_MS, NULL, err);
}

/* Not being there in time is no failure: a guest without a driver never is. */
int qemu_wait_driver(struct qmp *q, size_t i, struct cc_err *err)
{
        CC_FREE char *path = xasprintf("/machine/peripheral/nic%zu/virtio-backend", i);
        int64_t deadline = cc_monotonic() + DRIVER_MS * CC_NSEC_PER_MSEC;

        while (cc_monotonic() < deadline) {
                CC_JSON json_t *status = NULL;
                CC_FREE char *text = NULL;
                int r = qmp_command(q, "x-query-virtio-status", json_pack("{s:s}", "path", path),
                                    QMP_COMMAND_MS, &status, err);

                if (r < 0)
                        return r;
                text = cc_json_compact(json_object_get(status, "status"));
                if (strstr(text, "DRIVER_OK"))
                        return 0;
                r = qmp_wait_event(q, "none", POLL_MS, err);
                if (r < 0 && r != -CC_TIMEOUT)
                        return r;
        }
        cc_debug("qemu.swap", "no driver for nic%zu yet", i);
        return 0;
}

static int plug(struct qmp *q, struct qemu_recipe *recipe, const struct vm_spec *spec,
                const struct qemu_wiring *w, bool vhost, size_t i, struct cc_err *err)
{
        struct qemu_nic nic = { 0 };
        json_t *device;
        int r;

        qemu_recipe_nic_make(&spec->nics[i], &nic);
        device = qemu_nic_device(&nic, i, spec->nics[i].mac);
        if (!device)
                r = cc_fail(err, CC_INVALID, "qemu: MAC is not valid UTF-8");
        else
                r = replace_netdev(q, recipe, spec, w, vhost, i, err);
        if (r < 0)
                json_decref(device);
        if (r == 0)
                r = qmp_command(q, "device_add", device, QMP_COMMAND_MS, NULL, err);
        qemu_recipe_nic_free(&nic);
        return r < 0 ? r : qemu_wait_driver(q, i, err);
}

/* What the machine has from now on, for its next snapshot. */
static int write_recipe(const struct vm_spec *spec, struct qemu_recipe *recipe,
                        const bool kept[QEMU_MAX_NICS], struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->run_dir, QEMU_RECIPE);
        CC_FREE char *text = NULL;

        qemu_recipe_set_nics(recipe, spec->nics, spec->n_nics, kept);
        text = qemu_recipe_text(recipe);
        return cc_replace(path, text, strlen(text), 0600, err);
}

int qemu_settle(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
                const struct vm_proc *proc, struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe recipe = { 0 };
        QMP struct qmp *q = NULL;
        bool kept[QEMU_MAX_NICS] = { false };
        struct qemu_wiring w;
        bool vhost;
        int r;

        (void)env;
        if (!how->clone)
                return 0;
        r = qemu_read_recipe(spec->run_dir, &recipe, err);
        if (r < 0 || (recipe.nics.len == 0 && spec->n_nics == 0))
                return r;
        qemu_wire(&recipe, spec, true, &w);
        vhost = qemu_recipe_kvm(&recipe) && access("/dev/vhost-net", R_OK | W_OK) == 0;
        r = qemu_plug_connect(spec->run_dir, proc->pidfd, &q, err);
        if (r == 0)
                r = wait_released(q, kept, w.n, err);
        if (r < 0)
                return r;
        if (any(kept, w.n)) {
                cc_warn("qemu.swap", "clone: guest did not release its NICs");
                cc_warn("qemu.swap", "run \"cocoon vm net\" on the clone when its guest answers");
        }
        for (size_t i = 0; i < spec->n_nics && r == 0; i++)
                if (i >= w.n || !kept[i])
                        r = plug(q, &recipe, spec, &w, vhost, i, err);
        return r < 0 ? r : write_recipe(spec, &recipe, kept, err);
}
