/*
 * From files to a machine (cloud-hypervisor.md §4.8, §4.9).
 *
 * config.json is the source's. Before the VMM reads it, everything in it that belongs to a place
 * (disk paths, processors, sockets, TAPs, boot files) becomes the new VM's; everything that is part
 * of the device state (numbers, order, queues and ids of devices, MACs) stays, and so does what we
 * do not know. A VMM is started without a machine, restores, and has it paused. A clone's NICs are
 * then swapped: the guest finds new ones when it goes on. No eject is awaited: a paused guest
 * cannot acknowledge one.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/ch/api.h"
#include "hv/ch/ch.h"
#include "hv/ch/install.h"
#include "hv/launch.h"

/* The first version that knows memory_restore_mode. */
#define MODE_MAJOR 52

/* ---- the configuration of the new place ---- */

static int set(json_t *obj, const char *key, json_t *value, struct cc_err *err)
{
        if (json_object_set_new(obj, key, value) < 0)
                return cc_fail(err, CC_INVALID, "snapshot: %s: %s cannot be set", CH_CONFIG_JSON,
                               key);
        return 0;
}

static int set_str(json_t *obj, const char *key, const char *value, struct cc_err *err)
{
        return set(obj, key, json_string(value), err);
}

static int patch_disk(json_t *disk, const struct ch_disk *to, const struct ch_config *c,
                      struct cc_err *err)
{
        int64_t queues = json_integer_value(json_object_get(disk, "num_queues"));
        int r = set_str(disk, "path", to->path, err);

        if (r == 0)
                r = set(disk, "queue_size", json_integer(to->queue_size), err);
        if (r == 0)
                r = set(disk, "direct", json_boolean(to->direct), err);
        if (r < 0)
                return r;
        /* The source host's processors mean nothing here. */
        (void)json_object_del(disk, "queue_affinity");
        if (to->ro || queues < 2 || c->n_cpus == 0)
                return 0;
        return set(disk, "queue_affinity", ch_affinity_json(queues, c->cpus, c->n_cpus), err);
}

static int patch_disks(json_t *config, const struct ch_config *c, const struct hv_load *how,
                       struct cc_err *err)
{
        json_t *disks = json_object_get(config, "disks");
        int r = 0;

        if (json_array_size(disks) != how->snap->n_disks || c->n_disks < how->snap->n_disks)
                return cc_fail(err, CC_INVALID, "snapshot: %s: %zu disks, expected %zu",
                               CH_CONFIG_JSON, json_array_size(disks), how->snap->n_disks);
        for (size_t i = 0; i < how->snap->n_disks && r == 0; i++)
                r = patch_disk(json_array_get(disks, i), &c->disks[i], c, err);
        return r;
}

/*
 * The VMM opens every TAP that the file names. The same VM has the same TAPs; a clone gets names
 * that nobody has: the source's would be busy or, with several queues, silently shared, and its own
 * would still be held when the NIC that shall have it is added. The kernel drops such a device with
 * its last descriptor.
 */
static int patch_nets(json_t *config, const struct vm_spec *spec, const struct hv_load *how,
                      struct cc_err *err)
{
        json_t *nets = json_object_get(config, "net");
        int r = 0;

        if (!how->clone && json_array_size(nets) != spec->n_nics)
                return cc_fail(err, CC_INVALID, "snapshot: %s: %zu NICs, expected %zu",
                               CH_CONFIG_JSON, json_array_size(nets), spec->n_nics);
        for (size_t i = 0; i < json_array_size(nets) && r == 0; i++) {
                CC_FREE char *name = how->clone ? xasprintf("rm%.8s-%zu", spec->id, i)
                                                : xstrdup(spec->nics[i].tap);

                for (char *p = name; how->clone && *p; p++)
                        *p = (char)tolower((unsigned char)*p);
                r = set_str(json_array_get(nets, i), "tap", name, err);
        }
        return r;
}

/* The object `key` of the machine, made when it is not there. Borrowed. */
static json_t *object_at(json_t *config, const char *key)
{
        json_t *j = json_object_get(config, key);

        if (json_is_object(j))
                return j;
        json_object_set_new(config, key, json_object());
        return json_object_get(config, key);
}

static int patch_line(json_t *config, const char *name, const char *mode, const char *socket,
                      struct cc_err *err)
{
        json_t *line = object_at(config, name);

        (void)json_object_del(line, "file");
        (void)json_object_del(line, "socket");
        if (socket && set_str(line, "socket", socket, err) < 0)
                return -CC_INVALID;
        return set_str(line, "mode", mode, err);
}

/* Used when the guest reboots: without it, it would come back with the source's address. */
static int patch_payload(json_t *config, const struct ch_config *c, struct cc_err *err)
{
        const struct {
                const char *key, *value;
        } rows[] = {
                { "kernel", c->kernel },
                { "initramfs", c->initramfs },
                { "cmdline", c->kernel ? c->cmdline : NULL },
                { "firmware", c->firmware },
        };
        json_t *payload = object_at(config, "payload");
        int r = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(rows) && r == 0; i++)
                if (rows[i].value)
                        r = set_str(payload, rows[i].key, rows[i].value, err);
                else
                        (void)json_object_del(payload, rows[i].key);
        return r;
}

static int patch(json_t *config, const struct vm_spec *spec, const struct hv_load *how,
                 const struct ch_config *c, struct cc_err *err)
{
        json_t *vsock = json_object_get(config, "vsock");
        int r = patch_disks(config, c, how, err);

        if (r == 0)
                r = patch_nets(config, spec, how, err);
        if (r == 0)
                r = patch_payload(config, c, err);
        if (r == 0)
                r = patch_line(config, "serial", c->kernel ? "Off" : "Socket", c->serial_socket,
                               err);
        if (r == 0)
                r = patch_line(config, "console", c->kernel ? "Pty" : "Off", NULL, err);
        if (r == 0 && json_is_object(vsock)) {
                CC_FREE char *socket = cc_path_join(spec->run_dir, CH_VSOCK_SOCK);

                r = set_str(vsock, "socket", socket, err);
        }
        return r;
}

static int rewrite_config(const struct vm_spec *spec, const struct hv_load *how,
                          const struct ch_config *c, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->run_dir, CH_CONFIG_JSON);
        CC_JSON json_t *config = NULL;
        CC_FREE char *text = NULL;
        int r = ch_read_config(spec->run_dir, &config, err);

        if (r == 0)
                r = patch(config, spec, how, c, err);
        if (r < 0)
                return r;
        text = cc_json_pretty(config);
        return cc_replace(path, text, strlen(text), 0600, err);
}

/* ---- restoring ---- */

static const char *mode_name(enum hv_restore_mode mode, const struct ch_install *install)
{
        static const char *const names[] = {
                [HV_RESTORE_ONDEMAND] = "OnDemand", [HV_RESTORE_MMAP] = "CopyOnWrite"
        };

        if (mode != HV_RESTORE_ONDEMAND && mode != HV_RESTORE_MMAP)
                return NULL;
        if (install->major >= MODE_MAJOR)
                return names[mode];
        cc_warn("ch.load", "cloud-hypervisor %s only knows how to copy memory", install->version);
        return NULL;
}

static int restore(const char *run_dir, const char *mode, struct cc_err *err)
{
        CC_FREE char *url = xasprintf("file://%s", run_dir);
        CC_JSON json_t *body =
                json_pack("{s:s, s:s*}", "source_url", url, "memory_restore_mode", mode);

        if (!body)
                return cc_fail(err, CC_INVALID, "cloud-hypervisor: path %s is not UTF-8", run_dir);
        return ch_put(run_dir, "vm.restore", body, CH_MEMORY_MS, NULL, err);
}

/* A mode that a build does not have is refused while the request is read: nothing has happened. */
static bool refused_mode(int r, const struct cc_err *why)
{
        return r == -CC_INVALID && strstr(why->msg, "unknown variant");
}

static int restore_in_mode(const char *run_dir, enum hv_restore_mode mode,
                           const struct ch_install *install, bool *ret_copied, struct cc_err *err)
{
        const char *name = mode_name(mode, install);
        struct cc_err why = CC_ERR_INIT;
        int r = restore(run_dir, name, &why);

        *ret_copied = !name;
        if (name && refused_mode(r, &why)) {
                cc_warn("ch.load", "cloud-hypervisor %s does not know restore mode %s: copying",
                        install->version, name);
                *ret_copied = true;
                return restore(run_dir, NULL, err);
        }
        return r < 0 ? cc_err_copy(err, &why) : 0;
}

/* After a copy the file is only a second memory of the guest's size. */
static void drop_memory(const char *run_dir)
{
        CC_DIR DIR *d = opendir(run_dir);
        const struct dirent *e;

        while (d && (e = readdir(d)))
                if (ch_classify(e->d_name) == HV_FILE_MEMORY)
                        (void)unlinkat(dirfd(d), e->d_name, 0);
}

int ch_load(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
            struct vm_proc *ret, struct cc_err *err)
{
        CH_INSTALL struct ch_install install = { 0 };
        CH_HOST_FACTS struct ch_host_facts facts = { 0 };
        CH_CONFIG struct ch_config config = { 0 };
        CC_STRV struct cc_strv argv = { 0 };
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        struct ch_host host;
        bool copied = false;
        int r = hv_remove_files(spec->run_dir, ch_runtime_files, err);

        if (r == 0)
                r = ch_install_find(env->binary, env->cache_dir, &install, err);
        if (r < 0)
                return r;
        ch_host_facts(env, spec, &facts, &host);
        r = ch_config_make(spec, &host, &config, err);
        if (r == 0)
                r = ch_check_files(&config, err);
        if (r == 0)
                r = ch_check_taps(spec, err);
        if (r == 0)
                r = rewrite_config(spec, how, &config, err);
        if (r < 0)
                return r;
        cc_strv_add(&argv, install.binary);
        cc_strv_add(&argv, "--api-socket");
        cc_strv_add(&argv, config.api_socket);
        r = ch_process_start(env, spec, &argv, true, how->failpoint, &proc, err);
        if (r == 0)
                r = restore_in_mode(spec->run_dir, how->mode, &install, &copied, err);
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, ch_runtime_files, NULL);
                return r;
        }
        if (copied)
                drop_memory(spec->run_dir);
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}

/* ---- rewiring a clone ---- */

static int remove_nets(const char *run_dir, struct cc_err *err)
{
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        const json_t *nets;
        int r = ch_get_info(run_dir, CH_API_MS, &info, err);

        if (r < 0)
                return r;
        nets = json_object_get(json_object_get(info.body, "config"), "net");
        for (size_t i = 0; i < json_array_size(nets) && r == 0; i++) {
                const char *id = json_string_value(json_object_get(json_array_get(nets, i), "id"));
                CC_JSON json_t *body = json_pack("{s:s}", "id", id ? id : "");

                r = ch_put(run_dir, "vm.remove-device", body, CH_API_MS, NULL, err);
        }
        return r;
}

int ch_rewire(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
              const struct vm_proc *proc, struct cc_err *err)
{
        CH_HOST_FACTS struct ch_host_facts facts = { 0 };
        CH_CONFIG struct ch_config config = { 0 };
        struct ch_host host;
        int r;

        (void)proc;
        ch_host_facts(env, spec, &facts, &host);
        r = ch_config_make(spec, &host, &config, err);
        if (r == 0 && how->clone)
                r = remove_nets(spec->run_dir, err);
        for (size_t i = 0; how->clone && i < config.n_nets && r == 0; i++) {
                CC_JSON json_t *body = NULL;

                r = ch_net_json(&config.nets[i], &body, err);
                if (r == 0)
                        r = ch_put(spec->run_dir, "vm.add-net", body, CH_API_MS, NULL, err);
        }
        for (size_t i = how->snap->n_disks; i < config.n_disks && r == 0; i++) {
                CC_JSON json_t *body = NULL;

                r = ch_disk_json(&config, &config.disks[i], &body, err);
                if (r == 0)
                        r = ch_put(spec->run_dir, "vm.add-disk", body, CH_API_MS, NULL, err);
        }
        return r < 0 ? cc_wrap(err, "rewire") : 0;
}
