/*
 * Shared folders, passed-through devices and external disks of a running machine (qemu.md §7). Each
 * takes one of the root ports rp8-rp15; nothing is kept about them but what QEMU itself can tell.
 *
 *      disk    node hd-<name>, device disk-rp<k>, serial = name
 *      fs      chardev fs-<tag>, device fs-rp<k>
 *      device  device vfio-<id>, without an id vfio-rp<k>
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/qemu/plug.h"
#include "hv/qemu/qemu.h"
#include "hv/qemu/recipe.h"

#define FIRST_PORT QEMU_MAX_NICS

static const struct {
        const char *prefix; /* of our device ids */
        const char *shown;  /* in front of the key, as users see it */
        const char *property;
} kinds[] = {
        [HV_ATTACH_FS] = { "fs-", "cocoon-fs-", "tag" },
        [HV_ATTACH_DEVICE] = { "vfio-", "", NULL },
        [HV_ATTACH_DISK] = { "disk-", "cocoon-disk-", "serial" },
};

/* ---- what is there ---- */

/* "…/rp8" → 8; -1 for any other bus. */
static int port_of(const char *bus)
{
        const char *slash = strrchr(bus, '/');
        long long port;

        if (!slash || !cc_startswith(slash, "/rp") || cc_parse_i64(slash + 3, &port) < 0 ||
            port < 0 || port >= QEMU_PORTS)
                return -1;
        return (int)port;
}

static int find_port(struct qmp *q, char ret[8], struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        bool used[QEMU_PORTS] = { false };
        int r = qemu_plugged(q, &ids, err);

        for (size_t i = 0; i < ids.len && r == 0; i++) {
                CC_FREE char *bus = NULL;
                int port;

                /* A device without a bus has none of our ports. */
                if (qemu_property(q, ids.v[i], "parent_bus", &bus, NULL) < 0)
                        continue;
                port = port_of(bus);
                if (port >= 0)
                        used[port] = true;
        }
        if (r < 0)
                return r;
        for (int i = FIRST_PORT; i < QEMU_PORTS; i++) {
                if (used[i])
                        continue;
                (void)snprintf(ret, 8, "rp%d", i);
                return 0;
        }
        return cc_fail(err, CC_UNSUPPORTED, "qemu: no free hot-plug port (%d in use)",
                       QEMU_PORTS - FIRST_PORT);
}

/* The image behind a disk: of node hd-<name>. */
static int disk_details(struct qmp *q, struct hv_attachment *a, struct cc_err *err)
{
        CC_FREE char *node = xasprintf("hd-%s", a->key);
        CC_JSON json_t *nodes = NULL;
        json_t *item;
        size_t i;
        int r = qmp_command(q, "query-named-block-nodes", json_pack("{s:b}", "flat", 1),
                            QMP_COMMAND_MS, &nodes, err);

        json_array_foreach (nodes, i, item) {
                const char *file = json_string_value(json_object_get(item, "file"));

                if (!cc_streq(json_string_value(json_object_get(item, "node-name")), node))
                        continue;
                a->path = xstrdup(file ? file : "");
                a->ro = json_is_true(json_object_get(item, "ro"));
        }
        return r;
}

static int fs_details(struct qmp *q, struct hv_attachment *a, struct cc_err *err)
{
        CC_FREE char *path = xasprintf("/chardevs/fs-%s", a->key);
        CC_JSON json_t *addr = NULL;
        const char *socket;
        int r = qmp_command(q, "qom-get", json_pack("{s:s, s:s}", "path", path, "property", "addr"),
                            QMP_COMMAND_MS, &addr, err);

        socket = json_string_value(json_object_get(addr, "path"));
        if (r == 0)
                a->socket = xstrdup(socket ? socket : "");
        return r;
}

static int details(struct qmp *q, const char *id, struct hv_attachment *a, struct cc_err *err)
{
        switch (a->kind) {
        case HV_ATTACH_FS:
                return fs_details(q, a, err);
        case HV_ATTACH_DEVICE:
                return qemu_property(q, id, "host", &a->bdf, err);
        case HV_ATTACH_DISK:
                break;
        }
        return disk_details(q, a, err);
}

/* `device` (may be NULL) gets our ids, parallel to the list. */
static int list(struct qmp *q, struct hv_attachments *ret, struct cc_strv *device,
                struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        int r = qemu_plugged(q, &ids, err);

        cc_strv_sort(&ids);
        for (size_t i = 0; i < ids.len && r == 0; i++)
                for (size_t k = 0; k < CC_ARRAY_LEN(kinds) && r == 0; k++) {
                        const char *id = ids.v[i];
                        struct hv_attachment *a;

                        if (!cc_startswith(id, kinds[k].prefix))
                                continue;
                        a = hv_attachments_add(ret);
                        a->kind = (enum hv_attach_kind)k;
                        if (kinds[k].property)
                                r = qemu_property(q, id, kinds[k].property, &a->key, err);
                        else
                                a->key = xstrdup(id + strlen(kinds[k].prefix));
                        if (r < 0)
                                return r;
                        a->id = xasprintf("%s%s", kinds[k].shown, a->key);
                        if (device)
                                cc_strv_add(device, id);
                        r = details(q, id, a, err);
                }
        return r;
}

int qemu_attachments(const struct hv_env *env, const char *run_dir, struct hv_attachments *ret,
                     struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments all = { 0 };
        QMP struct qmp *q = NULL;
        int r = qemu_plug_connect(run_dir, -1, &q, err);

        (void)env;
        if (r == 0)
                r = list(q, &all, NULL, err);
        if (r < 0)
                return r;
        *ret = all;
        all = (struct hv_attachments){ 0 };
        return 0;
}

/* ---- attach ---- */

static bool same(const char *a, const char *b)
{
        return !cc_isempty(a) && cc_streq(a, b);
}

static int check_free(struct qmp *q, const struct hv_attachment *what, struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments all = { 0 };
        int r = list(q, &all, NULL, err);

        for (size_t i = 0; i < all.n && r == 0; i++) {
                const struct hv_attachment *a = &all.v[i];

                if (a->kind != what->kind)
                        continue;
                if (same(what->key, a->key) || same(what->socket, a->socket) ||
                    same(what->bdf, a->bdf) || same(what->path, a->path))
                        r = cc_fail(err, CC_CONFLICT, "already attached: %s", a->id);
        }
        return r;
}

/* A guest in a private mapping would not see what a daemon writes, and its mount would hang. */
static int check_shared(struct qmp *q, struct cc_err *err)
{
        CC_JSON json_t *mem = NULL;
        json_t *item;
        size_t i;
        int r = qmp_command(q, "query-memdev", NULL, QMP_COMMAND_MS, &mem, err);

        json_array_foreach (mem, i, item) {
                if (cc_streq(json_string_value(json_object_get(item, "id")), "mem0") &&
                    !json_is_true(json_object_get(item, "share")))
                        r = cc_fail(err, CC_STATE,
                                    "qemu: guest memory of this clone is a private mapping; clone "
                                    "with --restore-mode copy to attach a share");
        }
        return r;
}

static int add_backend_disk(struct qmp *q, const struct hv_attachment *what, const char *node,
                            struct cc_err *err)
{
        bool direct = what->direct > 0;
        json_t *args =
                json_pack("{s:s, s:s, s:b, s:{s:s, s:s, s:s, s:{s:b}}}", "driver", "raw",
                          "node-name", node, "read-only", what->ro, "file", "driver", "file",
                          "filename", what->path, "aio", "threads", "cache", "direct", direct);

        if (!args)
                return cc_fail(err, CC_INVALID, "qemu: path %s is not valid UTF-8", what->path);
        if (!what->ro)
                json_object_set_new(args, "discard", json_string("unmap"));
        return qmp_command(q, "blockdev-add", args, QMP_COMMAND_MS, NULL, err);
}

static int add_backend_fs(struct qmp *q, const struct hv_attachment *what, const char *chardev,
                          struct cc_err *err)
{
        json_t *args = json_pack("{s:s, s:{s:s, s:{s:{s:s, s:{s:s}}, s:b}}}", "id", chardev,
                                 "backend", "type", "socket", "data", "addr", "type", "unix",
                                 "data", "path", what->socket, "server", 0);

        if (!args)
                return cc_fail(err, CC_INVALID, "qemu: path %s is not valid UTF-8", what->socket);
        return qmp_command(q, "chardev-add", args, QMP_COMMAND_MS, NULL, err);
}

static void drop_backend(struct qmp *q, enum hv_attach_kind kind, const char *backend)
{
        struct cc_err why = CC_ERR_INIT;
        int r = 0;

        if (kind == HV_ATTACH_DISK)
                r = qmp_command(q, "blockdev-del", json_pack("{s:s}", "node-name", backend),
                                QMP_COMMAND_MS, NULL, &why);
        else if (kind == HV_ATTACH_FS)
                r = qmp_command(q, "chardev-remove", json_pack("{s:s}", "id", backend),
                                QMP_COMMAND_MS, NULL, &why);
        if (r < 0)
                cc_debug("qemu.attach", "%s", why.msg);
}

static json_t *device(const struct hv_attachment *what, const char *id, const char *backend,
                      const char *port)
{
        json_t *d = json_pack("{s:s, s:s, s:s}", "id", id, "bus", port, "addr", "0");

        switch (what->kind) {
        case HV_ATTACH_FS:
                json_object_set_new(d, "driver", json_string("vhost-user-fs-pci"));
                json_object_set_new(d, "chardev", json_string(backend));
                json_object_set_new(d, "tag", json_string(what->key));
                json_object_set_new(d, "num-request-queues", json_integer(what->num_queues));
                json_object_set_new(d, "queue-size", json_integer(what->queue_size));
                break;
        case HV_ATTACH_DEVICE:
                json_object_set_new(d, "driver", json_string("vfio-pci"));
                json_object_set_new(d, "host", json_string(what->bdf));
                break;
        case HV_ATTACH_DISK:
                json_object_set_new(d, "driver", json_string("virtio-blk-pci"));
                json_object_set_new(d, "drive", json_string(backend));
                json_object_set_new(d, "serial", json_string(what->key));
                break;
        }
        return d;
}

/* Device ids say the port, so that a key may be anything. */
static char *device_id(const struct hv_attachment *what, const char *port)
{
        bool named = what->kind == HV_ATTACH_DEVICE && !cc_isempty(what->key);

        return xasprintf("%s%s", kinds[what->kind].prefix, named ? what->key : port);
}

static int plug(struct qmp *q, const struct hv_attachment *what, char **ret_id, struct cc_err *err)
{
        CC_FREE char *backend = xasprintf("%s%s", what->kind == HV_ATTACH_DISK ? "hd-" : "fs-",
                                          what->key ? what->key : "");
        CC_FREE char *id = NULL;
        char port[8];
        int r = find_port(q, port, err);

        if (r == 0 && what->kind == HV_ATTACH_DISK)
                r = add_backend_disk(q, what, backend, err);
        else if (r == 0 && what->kind == HV_ATTACH_FS)
                r = add_backend_fs(q, what, backend, err);
        if (r < 0)
                return r;
        id = device_id(what, port);
        r = qmp_command(q, "device_add", device(what, id, backend, port), QMP_COMMAND_MS, NULL,
                        err);
        if (r < 0) {
                drop_backend(q, what->kind, backend);
                return r;
        }
        *ret_id = what->kind == HV_ATTACH_DEVICE
                          ? xstrdup(id + strlen("vfio-"))
                          : xasprintf("%s%s", kinds[what->kind].shown, what->key);
        return 0;
}

int qemu_attach(const struct hv_env *env, const char *run_dir, const struct hv_attachment *what,
                char **ret_id, struct cc_err *err)
{
        QMP struct qmp *q = NULL;
        int r = qemu_plug_connect(run_dir, -1, &q, err);

        (void)env;
        if (r == 0)
                r = check_free(q, what, err);
        if (r == 0 && what->kind == HV_ATTACH_FS)
                r = check_shared(q, err);
        return r < 0 ? r : plug(q, what, ret_id, err);
}

/* ---- detach ---- */

int qemu_detach(const struct hv_env *env, const char *run_dir, enum hv_attach_kind kind,
                const char *key, struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments all = { 0 };
        CC_STRV struct cc_strv devices = { 0 };
        CC_FREE char *backend = xasprintf("%s%s", kind == HV_ATTACH_DISK ? "hd-" : "fs-", key);
        QMP struct qmp *q = NULL;
        int r = qemu_plug_connect(run_dir, -1, &q, err);

        (void)env;
        if (r == 0)
                r = list(q, &all, &devices, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < all.n; i++) {
                if (all.v[i].kind != kind || !cc_streq(all.v[i].key, key))
                        continue;
                r = qemu_unplug(q, devices.v[i], err);
                if (r == 0)
                        drop_backend(q, kind, backend);
                return r;
        }
        return cc_fail(err, CC_NOT_FOUND, "nothing is attached as %s", key);
}
