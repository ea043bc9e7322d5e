/*
 * Devices of a running machine on a PCI bus (firecracker.md §9): PUT and DELETE of drives and
 * network interfaces, each sent once. Firecracker neither tells the guest nor asks it: a device
 * is there or gone when the request returns, and the guest's administrator rescans the bus or
 * removes the device (fc_guest_hint). What is plugged in is told from GET /vm/config, by ids:
 * "eth<i>" is the NIC of index i, whatever MAC a clone's guest still has, and "cocoon_disk_<name>"
 * a disk that was attached.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/fc/api.h"
#include "hv/fc/fc.h"
#include "hv/fc/install.h"
#include "hv/fc/machine.h"

#define DISK_ID "cocoon_disk_"

/* A list of the configuration, and the member that is its elements' id. */
struct kind {
        const char *list, *key, *target;
};
static const struct kind drives = { "drives", "drive_id", "/drives" };
static const struct kind nics = { "network-interfaces", "iface_id", "/network-interfaces" };

static const char *str(const json_t *object, const char *key)
{
        const char *s = json_string_value(json_object_get(object, key));

        return s ? s : "";
}

static const json_t *find(const json_t *config, const struct kind *k, const char *id)
{
        const json_t *list = json_object_get(config, k->list);

        for (size_t i = 0; i < json_array_size(list); i++)
                if (cc_streq(str(json_array_get(list, i), k->key), id))
                        return json_array_get(list, i);
        return NULL;
}

/* A lost reply leaves open whether the request was executed; the configuration tells. True when
 * `id` is there, or not, as wanted. */
static bool arrived(const struct fc_api *api, int r, const struct kind *k, const char *id,
                    bool wanted)
{
        CC_JSON json_t *config = NULL;

        return fc_reply_lost(r) && fc_get_config(api, &config, NULL) == 0 &&
               !!find(config, k, id) == wanted;
}

static int plug(const struct fc_api *api, const struct kind *k, const char *id, const char *target,
                const char *body, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r = fc_call(api, "PUT", target, body, FC_CALL_MS, false, NULL, &why);

        if (r == 0 || arrived(api, r, k, id, true))
                return 0;
        (void)cc_err_copy(err, &why);
        return cc_wrap(err, "firecracker");
}

static int unplug(const struct fc_api *api, const struct kind *k, const char *id,
                  struct cc_err *err)
{
        CC_FREE char *target = xasprintf("%s/%s", k->target, id);
        struct cc_err why = CC_ERR_INIT;
        int r = fc_call(api, "DELETE", target, NULL, FC_CALL_MS, false, NULL, &why);

        if (r == 0 || arrived(api, r, k, id, false))
                return 0;
        (void)cc_err_copy(err, &why);
        return cc_wrap(err, "firecracker");
}

/* What runs may be older than what is installed, but then it refuses by itself. */
static int host_facts(const struct hv_env *env, struct fc_host *ret, struct cc_err *err)
{
        FC_INSTALL struct fc_install install = { 0 };
        int r = fc_install_find(env->binary, env->cache_dir, &install, err);

        if (r < 0)
                return r;
        *ret = (struct fc_host){
                .io_uring = fc_io_uring_usable(),
                .nic_mtu = fc_version_at_least(&install, 1, 16, 0),
        };
        return 0;
}

char *fc_guest_hint(enum hv_plug_event event, size_t index)
{
        switch (event) {
        case HV_PLUGGED:
                return xstrdup("echo 1 > /sys/bus/pci/rescan");
        case HV_NIC_PULLED:
                return xasprintf("echo 1 > /sys/class/net/eth%zu/device/../remove", index);
        case HV_DISK_PULLED:
                break;
        }
        return xstrdup("echo 1 > /sys/block/<vdX>/device/../remove");
}

/* ---- NICs ---- */

int fc_nic_add(const struct hv_env *env, const struct vm_spec *spec, size_t index,
               struct cc_err *err)
{
        struct fc_api api = { .run_dir = spec->run_dir, .pidfd = -1 };
        FC_REQUESTS struct fc_requests request = { 0 };
        struct fc_host host;
        char id[32];
        int r = host_facts(env, &host, err);

        if (r == 0)
                r = fc_nic_request(spec, &host, index, &request, err);
        if (r < 0)
                return r;
        fc_nic_id(index, id);
        return plug(&api, &nics, id, request.v[0].target, request.v[0].body, err);
}

/* "eth<i>" → i; false for ids that are not ours. */
static bool nic_index(const char *id, size_t *ret)
{
        long long i;

        if (!cc_startswith(id, "eth") || cc_parse_i64(id + 3, &i) < 0 || i < 0)
                return false;
        *ret = (size_t)i;
        return true;
}

int fc_nic_remove(const struct hv_env *env, const char *run_dir, size_t index, const char *mac,
                  struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        CC_JSON json_t *config = NULL;
        char id[32];
        int r = fc_get_config(&api, &config, err);

        (void)env;
        (void)mac; /* a clone's guest keeps the source's */
        if (r < 0)
                return cc_wrap(err, "firecracker");
        fc_nic_id(index, id);
        return find(config, &nics, id) ? unplug(&api, &nics, id, err) : 0;
}

int fc_nic_list(const struct hv_env *env, const char *run_dir, struct cc_strv *ret,
                struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        CC_JSON json_t *config = NULL;
        const json_t *list;
        size_t n;
        int r = fc_get_config(&api, &config, err);

        (void)env;
        if (r < 0)
                return cc_wrap(err, "firecracker");
        list = json_object_get(config, nics.list);
        n = json_array_size(list);
        /* In the order of the indices, without gaps: they are added and removed at the tail. */
        for (size_t i = 0; i < n; i++) {
                const json_t *nic;
                char id[32];

                fc_nic_id(i, id);
                nic = find(config, &nics, id);
                if (nic)
                        cc_strv_add(ret, str(nic, "guest_mac"));
        }
        for (size_t i = 0; i < n; i++) {
                size_t index;

                if (!nic_index(str(json_array_get(list, i), nics.key), &index) || index >= n)
                        return cc_fail(err, CC_STATE, "firecracker: NIC %s is not of cocoon's",
                                       str(json_array_get(list, i), nics.key));
        }
        return 0;
}

/* ---- disks ---- */

static void list_disks(const json_t *config, struct hv_attachments *ret)
{
        const json_t *list = json_object_get(config, drives.list);

        for (size_t i = 0; i < json_array_size(list); i++) {
                const json_t *drive = json_array_get(list, i);
                const char *id = str(drive, drives.key);
                struct hv_attachment *a;

                if (!cc_startswith(id, DISK_ID))
                        continue;
                a = hv_attachments_add(ret);
                a->kind = HV_ATTACH_DISK;
                a->id = xstrdup(id);
                a->key = xstrdup(id + strlen(DISK_ID));
                a->path = xstrdup(str(drive, "path_on_host"));
                a->ro = json_is_true(json_object_get(drive, "is_read_only"));
        }
}

int fc_attachments(const struct hv_env *env, const char *run_dir, struct hv_attachments *ret,
                   struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        CC_JSON json_t *config = NULL;
        int r = fc_get_config(&api, &config, err);

        (void)env;
        if (r < 0)
                return cc_wrap(err, "firecracker");
        list_disks(config, ret);
        return 0;
}

/* The file and not its name: Firecracker locks nothing. */
static bool is_same_file(const char *path, const struct stat *want)
{
        struct stat st;

        return stat(path, &st) == 0 && st.st_dev == want->st_dev && st.st_ino == want->st_ino;
}

static int check_free(const json_t *config, const char *id, const char *path, struct cc_err *err)
{
        const json_t *list = json_object_get(config, drives.list);
        struct stat st;

        if (stat(path, &st) < 0)
                return cc_fail_errno(err, errno, "path %s", path);
        for (size_t i = 0; i < json_array_size(list); i++) {
                const json_t *drive = json_array_get(list, i);
                const char *other = str(drive, drives.key);

                if (!cc_streq(other, id) && !cc_streq(str(drive, "path_on_host"), path) &&
                    !is_same_file(str(drive, "path_on_host"), &st))
                        continue;
                if (cc_startswith(other, DISK_ID))
                        return cc_fail(err, CC_CONFLICT, "already attached: %s", other);
                return cc_fail(err, CC_CONFLICT, "the VM already has disk %s", path);
        }
        return 0;
}

int fc_attach(const struct hv_env *env, const char *run_dir, const struct hv_attachment *what,
              char **ret_id, struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        CC_FREE char *id = xasprintf(DISK_ID "%s", what->key);
        FC_REQUESTS struct fc_requests request = { 0 };
        struct hv_disk disk = { .path = what->path, .format = "raw", .ro = what->ro };
        CC_JSON json_t *config = NULL;
        struct fc_host host;
        int r;

        if (strchr(what->key, '-'))
                return cc_fail(err, CC_INVALID,
                               "invalid name \"%s\": firecracker allows no hyphen in it",
                               what->key);
        if (what->direct > 0)
                return cc_fail(err, CC_UNSUPPORTED,
                               "firecracker: --directio on: disks go through "
                               "the host's page cache");
        r = host_facts(env, &host, err);
        if (r == 0)
                r = fc_get_config(&api, &config, err);
        if (r == 0)
                r = check_free(config, id, what->path, err);
        if (r == 0)
                r = fc_drive_request(&disk, &host, id, &request, err);
        if (r == 0)
                r = plug(&api, &drives, id, request.v[0].target, request.v[0].body, err);
        if (r < 0)
                return r;
        *ret_id = TAKE_PTR(id);
        return 0;
}

int fc_detach(const struct hv_env *env, const char *run_dir, enum hv_attach_kind kind,
              const char *key, struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        CC_FREE char *id = xasprintf(DISK_ID "%s", key);
        CC_JSON json_t *config = NULL;
        int r = fc_get_config(&api, &config, err);

        (void)env;
        (void)kind; /* disks are all there is */
        if (r < 0)
                return cc_wrap(err, "firecracker");
        if (!find(config, &drives, id))
                return cc_fail(err, CC_NOT_FOUND, "nothing is attached as %s", key);
        return unplug(&api, &drives, id, err);
}
