/*
 * From a running machine to files (cloud-hypervisor.md §4.7). The VMM writes config.json,
 * state.json and memory-ranges itself; what is ours to know is when it must not: with a device
 * removed that the guest has not let go of.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/interrupt.h"
#include "hv/ch/api.h"
#include "hv/ch/ch.h"

enum hv_file ch_classify(const char *name)
{
        if (cc_streq(name, CH_CONFIG_JSON) || cc_streq(name, CH_STATE_JSON))
                return HV_FILE_STATE;
        return cc_startswith(name, CH_MEMORY) ? HV_FILE_MEMORY : HV_FILE_FOREIGN;
}

static const char *id_of(const json_t *device)
{
        return json_string_value(json_object_get(device, "id"));
}

static bool config_has(const json_t *config, const char *id)
{
        const char *key;
        const json_t *value;

        json_object_foreach ((json_t *)config, key, value) {
                if (json_is_object(value) && cc_streq(id_of(value), id))
                        return true;
                for (size_t i = 0; i < json_array_size(value); i++)
                        if (cc_streq(id_of(json_array_get(value, i)), id))
                                return true;
        }
        return false;
}

/* A removed device leaves the configuration at once and the device tree when the guest lets it go;
 * in between, pausing can kill the VMM (§7). */
static int check_pending(const json_t *info, struct cc_err *err)
{
        const json_t *config = json_object_get(info, "config");
        const char *id;
        const json_t *node;

        json_object_foreach (json_object_get(info, "device_tree"), id, node) {
                (void)node;
                if (cc_startswith(id, "__") || cc_startswith(id, "_virtio-pci-") ||
                    config_has(config, id))
                        continue;
                return cc_fail(err, CC_STATE, "the guest has not let go of removed device %s yet",
                               id);
        }
        return 0;
}

int ch_can_capture(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        int r = ch_get_info(run_dir, CH_API_MS, &info, err);

        (void)env;
        return r < 0 ? r : check_pending(info.body, err);
}

/* The VMM's umask is 077; a snapshot's files may be read by the group. */
static int open_to_group(const char *dir, struct cc_err *err)
{
        CC_DIR DIR *d = opendir(dir);
        const struct dirent *e;

        if (!d)
                return cc_fail_errno(err, errno, "open %s", dir);
        while ((e = readdir(d)))
                if (ch_classify(e->d_name) != HV_FILE_FOREIGN &&
                    fchmodat(dirfd(d), e->d_name, 0640, 0) < 0)
                        return cc_fail_errno(err, errno, "set mode of %s/%s", dir, e->d_name);
        return 0;
}

static int tell_disks(const char *dir, struct cc_strv *ret, struct cc_err *err)
{
        CC_JSON json_t *config = NULL;
        const json_t *disks;
        int r = ch_read_config(dir, &config, err);

        if (r < 0)
                return r;
        disks = json_object_get(config, "disks");
        for (size_t i = 0; i < json_array_size(disks); i++) {
                const char *path =
                        json_string_value(json_object_get(json_array_get(disks, i), "path"));

                if (!path)
                        return cc_fail(err, CC_INVALID,
                                       "cloud-hypervisor: %s: disk %zu has no path", CH_CONFIG_JSON,
                                       i);
                cc_strv_add(ret, path);
        }
        return 0;
}

int ch_capture(const struct hv_env *env, const char *run_dir, const struct vm_proc *proc,
               const char *dir, struct cc_strv *ret_disks, struct cc_err *err)
{
        CC_FREE char *url = xasprintf("file://%s", dir);
        CC_JSON json_t *body = json_pack("{s:s}", "destination_url", url);
        int r;

        (void)env;
        (void)proc;
        if (!body)
                return cc_fail(err, CC_INVALID, "cloud-hypervisor: path %s is not UTF-8", dir);
        /* Giving up on the reply would leave the VMM writing into a directory that we remove. */
        cc_uninterruptible_begin();
        r = ch_put(run_dir, "vm.snapshot", body, CH_MEMORY_MS, NULL, err);
        cc_uninterruptible_end();
        if (r == 0)
                r = open_to_group(dir, err);
        return r < 0 ? r : tell_disks(dir, ret_disks, err);
}

/* Snapshots are not portable across versions for certain: remember which one made it. */
int ch_sidecar(const struct hv_env *env, const char *run_dir, json_t *sidecar, struct cc_err *err)
{
        CC_FREE char *version = NULL;
        int r = ch_ping_version(run_dir, &version, err);

        (void)env;
        if (r == 0)
                json_object_set_new(sidecar, CH_SIDECAR_VERSION, json_string(version));
        return r;
}
