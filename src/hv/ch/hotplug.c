/*
 * Devices of a running machine (cloud-hypervisor.md §5, §6). Every state-changing call is sent
 * once. A removed device leaves the configuration when the call returns and the device tree when
 * the guest has released it: only then is it gone, and a second remove before that could kill the
 * VMM. So what is only in the tree is waited for, never removed again. When an answer is lost, the
 * configuration tells whether the call was executed.
 */
#include <ctype.h>
#include <poll.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "hv/ch/api.h"
#include "hv/ch/ch.h"

#define EJECT_POLL_MS 100 /* the API has no event for it */
#define FS_ID         "cocoon-fs-"
#define DISK_ID       "cocoon-disk-"
#define PCI_DEVICES   "/sys/bus/pci/devices/"

static const char *str(const json_t *object, const char *key)
{
        const char *s = json_string_value(json_object_get(object, key));

        return s ? s : "";
}

static const json_t *config_list(const struct ch_info *info, const char *list)
{
        return json_object_get(json_object_get(info->body, "config"), list);
}

static bool in_tree(const struct ch_info *info, const char *id)
{
        return json_object_get(json_object_get(info->body, "device_tree"), id);
}

static bool in_config(const struct ch_info *info, const char *id)
{
        static const char *const lists[] = { "net", "fs", "devices", "disks" };

        for (size_t k = 0; k < CC_ARRAY_LEN(lists); k++) {
                const json_t *list = config_list(info, lists[k]);

                for (size_t i = 0; i < json_array_size(list); i++)
                        if (cc_streq(str(json_array_get(list, i), "id"), id))
                                return true;
        }
        return false;
}

/* A call that changes the devices, sent once: `id` is in the configuration afterwards, or not. */
static int change(const char *run_dir, const char *endpoint, const json_t *body, const char *id,
                  bool present, json_t **ret, struct cc_err *err)
{
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        struct cc_err why = CC_ERR_INIT;
        int r = ch_put(run_dir, endpoint, body, CH_API_MS, ret, &why);

        if (r == 0)
                return 0;
        if ((r == -CC_IO || r == -CC_TIMEOUT) && !cc_isempty(id) &&
            ch_get_info_retry(run_dir, CH_API_MS, &info, NULL) == 0 && info.body &&
            in_config(&info, id) == present) {
                cc_debug("ch.hotplug", "%s", why.msg);
                return 0;
        }
        return cc_err_copy(err, &why);
}

/* ---- eject ---- */

static int wait_ejected(const char *run_dir, const char *id, struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + HV_EJECT_MS * CC_NSEC_PER_MSEC;

        for (;;) {
                CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
                struct pollfd stop = { .fd = cc_interrupt_wait_fd(), .events = POLLIN };
                int r = ch_get_info(run_dir, CH_INFO_MS, &info, err);

                /* A busy VMM may yet tell; any other failure is one. */
                if (r < 0 && r != -CC_TIMEOUT)
                        return r;
                if (r == 0 && !in_tree(&info, id))
                        return 0;
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted while %s is being released",
                                       id);
                if (cc_monotonic() >= deadline)
                        return cc_fail(err, CC_TIMEOUT,
                                       "cloud-hypervisor: the guest did not release %s within %d s",
                                       id, HV_EJECT_MS / 1000);
                (void)poll(&stop, 1, EJECT_POLL_MS);
        }
}

/* `configured`: the device is still in the configuration, so nobody has asked for its eject. */
static int eject(const char *run_dir, const char *id, bool configured, struct cc_err *err)
{
        int r = 0;

        if (configured) {
                CC_JSON json_t *body = json_pack("{s:s}", "id", id);

                r = change(run_dir, "vm.remove-device", body, id, false, NULL, err);
        }
        return r < 0 ? r : wait_ejected(run_dir, id, err);
}

/* ---- NICs ---- */

int ch_nic_add(const struct hv_env *env, const struct vm_spec *spec, size_t index,
               struct cc_err *err)
{
        CH_HOST_FACTS struct ch_host_facts facts = { 0 };
        CH_CONFIG struct ch_config config = { 0 };
        CC_JSON json_t *body = NULL;
        struct ch_host host;
        int r;

        ch_host_facts(env, spec, &facts, &host);
        r = ch_config_make(spec, &host, &config, err);
        if (r == 0)
                r = ch_net_json(&config.nets[index], &body, err);
        return r < 0 ? r
                     : change(spec->run_dir, "vm.add-net", body, str(body, "id"), true, NULL, err);
}

/* The id that the VMM knows a NIC by; machines of other makers have ids of their own. */
static const char *nic_id(const struct ch_info *info, const char *mac)
{
        const json_t *nets = config_list(info, "net");

        for (size_t i = 0; i < json_array_size(nets); i++)
                if (strcasecmp(str(json_array_get(nets, i), "mac"), mac) == 0)
                        return str(json_array_get(nets, i), "id");
        return NULL;
}

int ch_nic_remove(const struct hv_env *env, const char *run_dir, size_t index, const char *mac,
                  struct cc_err *err)
{
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        CC_FREE char *own = ch_net_id(mac);
        const char *id;
        int r = ch_get_info(run_dir, CH_API_MS, &info, err);

        (void)env;
        (void)index;
        if (r < 0)
                return r;
        id = nic_id(&info, mac);
        if (id && !*id)
                return cc_fail(err, CC_STATE, "cloud-hypervisor: NIC %s has no id", mac);
        if (id)
                return eject(run_dir, id, true, err);
        return in_tree(&info, own) ? eject(run_dir, own, false, err) : 0;
}

/* cocoon-net-<12 hex digits> → with colons. */
static bool mac_of(const char *id, char mac[18])
{
        const char *hex = id + strlen(CH_NET_ID_PREFIX);

        if (!cc_startswith(id, CH_NET_ID_PREFIX) || !cc_is_hex(hex, 12))
                return false;
        for (size_t i = 0; i < 6; i++) {
                memcpy(mac + 3 * i, hex + 2 * i, 2);
                mac[3 * i + 2] = i < 5 ? ':' : '\0';
        }
        return true;
}

int ch_nic_list(const struct hv_env *env, const char *run_dir, struct cc_strv *ret,
                struct cc_err *err)
{
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        const json_t *nets;
        const json_t *node;
        const char *id;
        char mac[18];
        int r = ch_get_info(run_dir, CH_API_MS, &info, err);

        (void)env;
        if (r < 0)
                return r;
        nets = config_list(&info, "net");
        for (size_t i = 0; i < json_array_size(nets); i++) {
                CC_FREE char *lower = xstrdup(str(json_array_get(nets, i), "mac"));

                for (char *p = lower; *p; p++)
                        *p = (char)tolower((unsigned char)*p);
                cc_strv_add(ret, lower);
        }
        json_object_foreach (json_object_get(info.body, "device_tree"), id, node) {
                (void)node;
                if (mac_of(id, mac) && !cc_strv_has(ret, mac))
                        cc_strv_add(ret, mac);
        }
        return 0;
}

/* ---- shared folders, devices, disks ---- */

/* "/sys/bus/pci/devices/<bdf>" → bdf, "" for anything else. */
static const char *bdf_of(const char *path)
{
        return cc_startswith(path, PCI_DEVICES) ? path + strlen(PCI_DEVICES) : "";
}

static void list_kind(const struct ch_info *info, enum hv_attach_kind kind, const char *list,
                      const char *prefix, struct hv_attachments *ret)
{
        const json_t *items = config_list(info, list);

        for (size_t i = 0; i < json_array_size(items); i++) {
                const json_t *item = json_array_get(items, i);
                const char *id = str(item, "id");
                struct hv_attachment *a;

                if (!cc_startswith(id, prefix))
                        continue;
                a = hv_attachments_add(ret);
                a->kind = kind;
                a->id = xstrdup(id);
                switch (kind) {
                case HV_ATTACH_FS:
                        a->key = xstrdup(str(item, "tag"));
                        a->socket = xstrdup(str(item, "socket"));
                        break;
                case HV_ATTACH_DEVICE:
                        a->key = xstrdup(id);
                        a->bdf = xstrdup(bdf_of(str(item, "path")));
                        break;
                case HV_ATTACH_DISK:
                        a->key = xstrdup(id + strlen(prefix));
                        a->path = xstrdup(str(item, "path"));
                        a->ro = json_is_true(json_object_get(item, "readonly"));
                        break;
                }
        }
}

static void list_all(const struct ch_info *info, struct hv_attachments *ret)
{
        list_kind(info, HV_ATTACH_FS, "fs", "", ret);
        list_kind(info, HV_ATTACH_DEVICE, "devices", "", ret);
        list_kind(info, HV_ATTACH_DISK, "disks", DISK_ID, ret);
}

int ch_attachments(const struct hv_env *env, const char *run_dir, struct hv_attachments *ret,
                   struct cc_err *err)
{
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        int r = ch_get_info(run_dir, CH_INFO_MS, &info, err);

        (void)env;
        if (r == 0)
                list_all(&info, ret);
        return r;
}

static bool same(const char *a, const char *b)
{
        return !cc_isempty(a) && cc_streq(a, b);
}

/* Paths of disks that the machine was started with are in use, too. */
static bool disk_in_use(const struct ch_info *info, const struct hv_attachment *what)
{
        const json_t *disks = config_list(info, "disks");

        for (size_t i = 0; i < json_array_size(disks); i++) {
                const json_t *d = json_array_get(disks, i);

                if (cc_streq(str(d, "path"), what->path) || cc_streq(str(d, "serial"), what->key))
                        return true;
        }
        return false;
}

static int check_free(const struct ch_info *info, const struct hv_attachment *what,
                      struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments all = { 0 };

        list_all(info, &all);
        for (size_t i = 0; i < all.n; i++) {
                const struct hv_attachment *a = &all.v[i];

                if (a->kind == what->kind &&
                    (same(what->key, a->key) || same(what->socket, a->socket) ||
                     same(what->bdf, a->bdf) || same(what->path, a->path)))
                        return cc_fail(err, CC_CONFLICT, "already attached: %s", a->id);
        }
        if (what->kind == HV_ATTACH_DISK && disk_in_use(info, what))
                return cc_fail(err, CC_CONFLICT, "the VM already has disk %s or %s", what->key,
                               what->path);
        return 0;
}

/* A vhost-user daemon maps the guest's memory. */
static int check_shared(const struct ch_info *info, struct cc_err *err)
{
        const json_t *memory = json_object_get(json_object_get(info->body, "config"), "memory");

        if (json_is_true(json_object_get(memory, "shared")) ||
            json_is_true(json_object_get(memory, "hugepages")))
                return 0;
        return cc_fail(err, CC_STATE,
                       "the guest's memory is not shared: create the VM with --shared-memory");
}

static json_t *request(const struct hv_attachment *what)
{
        CC_FREE char *id = NULL;
        CC_FREE char *path = NULL;
        json_t *j = NULL;

        switch (what->kind) {
        case HV_ATTACH_FS:
                id = xasprintf(FS_ID "%s", what->key);
                return json_pack("{s:s, s:s, s:s, s:I, s:I}", "id", id, "tag", what->key, "socket",
                                 what->socket, "num_queues", (json_int_t)what->num_queues,
                                 "queue_size", (json_int_t)what->queue_size);
        case HV_ATTACH_DEVICE:
                path = xasprintf(PCI_DEVICES "%s", what->bdf);
                j = json_pack("{s:s}", "path", path);
                if (j && !cc_isempty(what->key))
                        json_object_set_new(j, "id", json_string(what->key));
                return j;
        case HV_ATTACH_DISK:
                break;
        }
        id = xasprintf(DISK_ID "%s", what->key);
        return json_pack("{s:s, s:s, s:b, s:b, s:s, s:s}", "id", id, "path", what->path, "readonly",
                         what->ro, "direct", what->direct > 0 && !what->ro, "image_type", "Raw",
                         "serial", what->key);
}

int ch_attach(const struct hv_env *env, const char *run_dir, const struct hv_attachment *what,
              char **ret_id, struct cc_err *err)
{
        static const char *const calls[] = {
                [HV_ATTACH_FS] = "vm.add-fs",
                [HV_ATTACH_DEVICE] = "vm.add-device",
                [HV_ATTACH_DISK] = "vm.add-disk",
        };
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        CC_JSON json_t *body = NULL;
        CC_JSON json_t *reply = NULL;
        const char *id;
        int r = ch_get_info(run_dir, CH_API_MS, &info, err);

        (void)env;
        if (r == 0 && what->kind == HV_ATTACH_FS)
                r = check_shared(&info, err);
        if (r == 0)
                r = check_free(&info, what, err);
        if (r < 0)
                return r;
        body = request(what);
        if (!body)
                return cc_fail(err, CC_INVALID, "cloud-hypervisor: a path is not valid UTF-8");
        r = change(run_dir, calls[what->kind], body, str(body, "id"), true, &reply, err);
        if (r < 0)
                return r;
        id = *str(reply, "id") ? str(reply, "id") : str(body, "id");
        if (!*id)
                return cc_fail(err, CC_INVALID, "cloud-hypervisor: %s: the answer has no id",
                               calls[what->kind]);
        *ret_id = xstrdup(id);
        return 0;
}

int ch_detach(const struct hv_env *env, const char *run_dir, enum hv_attach_kind kind,
              const char *key, struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments all = { 0 };
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        CC_FREE char *own = NULL;
        int r = ch_get_info(run_dir, CH_API_MS, &info, err);

        (void)env;
        if (r < 0)
                return r;
        list_all(&info, &all);
        for (size_t i = 0; i < all.n; i++)
                if (all.v[i].kind == kind && cc_streq(all.v[i].key, key))
                        return eject(run_dir, all.v[i].id, true, err);
        /* An eject that an earlier try did not wait out. */
        own = xasprintf("%s%s",
                        kind == HV_ATTACH_FS     ? FS_ID
                        : kind == HV_ATTACH_DISK ? DISK_ID
                                                 : "",
                        key);
        if (in_tree(&info, own))
                return eject(run_dir, own, false, err);
        return cc_fail(err, CC_NOT_FOUND, "nothing is attached as %s", key);
}
