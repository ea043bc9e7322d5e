/*
 * From files to a paused machine (firecracker.md §6, §7).
 *
 * A snapshot's vmstate is opaque to us and names files that Firecracker opens as we may. So nothing
 * in it is trusted: what was loaded is compared with what the record says, drive by drive, before a
 * vCPU runs (check_machine).
 *
 * A clone is loaded with its disks mounted over the source's paths (redirect.h), and then anchored:
 * each drive is told its own path while the guest is paused. Without that its next snapshot would
 * name the source's files.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "hv/fc/api.h"
#include "hv/fc/fc.h"
#include "hv/fc/install.h"
#include "hv/fc/machine.h"
#include "hv/fc/process.h"
#include "hv/fc/redirect.h"
#include "hv/launch.h"

/* Firecracker's own limit. */
#define VMSTATE_MAX 10000000
#define SIDECAR_MAX ((size_t)1 << 20)

/* ---- preflight ---- */

static int check_file(const char *dir, const char *name, int64_t min, int64_t max,
                      struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, name);
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno == ENOENT
                               ? cc_fail(err, CC_CORRUPT, "snapshot: file %s is missing", name)
                               : cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "snapshot: %s is not a regular file", name);
        if (st.st_size < min || st.st_size > max)
                return cc_fail(err, CC_CORRUPT,
                               "snapshot: %s has %lld bytes, expected %lld to %lld", name,
                               (long long)st.st_size, (long long)min, (long long)max);
        return 0;
}

static int check_format(const struct fc_install *install, const char *dir, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, FC_VMSTATE);
        struct cc_err why = CC_ERR_INIT;
        int theirs[2];
        int ours[2];
        int r = fc_snapshot_format(install->binary, NULL, ours, err);

        if (r < 0)
                return r;
        r = fc_snapshot_format(install->binary, path, theirs, &why);
        if (r == -CC_CANCELED || r == -CC_TIMEOUT)
                return cc_err_copy(err, &why);
        if (r < 0)
                return cc_fail(err, CC_INVALID, "snapshot: firecracker cannot read %s: %s",
                               FC_VMSTATE, why.msg);
        if (theirs[0] != ours[0] || theirs[1] > ours[1])
                return cc_fail(err, CC_UNSUPPORTED,
                               "snapshot has format v%d.%d, firecracker %s loads v%d.0 to v%d.%d",
                               theirs[0], theirs[1], install->version, ours[0], ours[0], ours[1]);
        return 0;
}

/* A vsock that was saved keeps its path unless 1.16 or later is told another, and works again since
 * 1.16.1. */
static int check_vsock(const struct fc_install *install, const json_t *sidecar, struct cc_err *err)
{
        bool vsock = false;
        int r = cc_json_bool(sidecar, "vsock", &vsock, err);

        if (r < 0 || !vsock || fc_version_at_least(install, 1, 16, 1))
                return r;
        return cc_fail(err, CC_UNSUPPORTED,
                       "snapshot has a vsock device: firecracker >= 1.16.1 is needed to load it, "
                       "this is %s",
                       install->version);
}

int fc_preflight(const struct hv_env *env, const struct hv_snapshot *snap, const json_t *sidecar,
                 struct cc_strv *ret_macs, struct cc_err *err)
{
        FC_INSTALL struct fc_install install = { 0 };
        int r;

        (void)ret_macs; /* only the sidecar tells them */
        if (snap->shared_memory)
                return cc_fail(err, CC_INVALID, "snapshot: firecracker shares no guest memory");
        for (size_t i = 0; i < snap->n_disks; i++)
                if (!cc_streq(snap->disks[i].format, "raw") ||
                    cc_streq(snap->disks[i].role, "cidata"))
                        return cc_fail(err, CC_INVALID,
                                       "snapshot: firecracker cannot have had disk %s",
                                       snap->disks[i].path);
        r = check_file(snap->dir, FC_VMSTATE, 1, VMSTATE_MAX, err);
        /* Equal: a longer one would be another machine's. */
        if (r == 0)
                r = check_file(snap->dir, FC_MEMORY, snap->memory >> 20 << 20,
                               snap->memory >> 20 << 20, err);
        if (r == 0)
                r = fc_install_find(env->binary, env->cache_dir, &install, err);
        if (r == 0)
                r = check_vsock(&install, sidecar, err);
        return r < 0 ? r : check_format(&install, snap->dir, err);
}

/* ---- what was loaded ---- */

static const json_t *find_by_id(const json_t *list, const char *key, const char *id)
{
        for (size_t i = 0; i < json_array_size(list); i++)
                if (cc_streq(json_string_value(json_object_get(json_array_get(list, i), key)), id))
                        return json_array_get(list, i);
        return NULL;
}

static int differs(const char *what, const char *have, const char *want, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "the snapshot's machine has %s %s, its record says %s",
                       what, have ? have : "(none)", want);
}

static int check_drives(const json_t *config, const struct hv_load *how, struct cc_err *err)
{
        const json_t *drives = json_object_get(config, "drives");

        if (json_array_size(drives) != how->snap->n_disks)
                return cc_fail(err, CC_INVALID,
                               "the snapshot's machine has %zu disks, its record says %zu",
                               json_array_size(drives), how->snap->n_disks);
        for (size_t i = 0; i < how->snap->n_disks; i++) {
                const struct hv_disk *d = &how->snap->disks[i];
                const json_t *drive;
                const char *path;
                char id[32];

                fc_drive_id(i, id);
                drive = find_by_id(drives, "drive_id", id);
                path = json_string_value(json_object_get(drive, "path_on_host"));
                if (!cc_streq(path, d->path))
                        return differs(id, path, d->path, err);
                if (json_is_true(json_object_get(drive, "is_read_only")) != d->ro)
                        return differs(id, d->ro ? "writable" : "read-only",
                                       d->ro ? "read-only" : "writable", err);
        }
        return 0;
}

static int check_nics(const json_t *config, const struct vm_spec *spec, struct cc_err *err)
{
        const json_t *nics = json_object_get(config, "network-interfaces");

        if (json_array_size(nics) != spec->n_nics)
                return cc_fail(err, CC_INVALID,
                               "the snapshot's machine has %zu NICs, its record says %zu",
                               json_array_size(nics), spec->n_nics);
        for (size_t i = 0; i < spec->n_nics; i++) {
                const char *tap;
                char id[32];

                fc_nic_id(i, id);
                tap = json_string_value(
                        json_object_get(find_by_id(nics, "iface_id", id), "host_dev_name"));
                if (!cc_streq(tap, spec->nics[i].tap))
                        return differs(id, tap, spec->nics[i].tap, err);
        }
        return 0;
}

static int check_size(const json_t *config, const struct hv_snapshot *snap, struct cc_err *err)
{
        const json_t *machine = json_object_get(config, "machine-config");
        int64_t cpu = 0;
        int64_t mib = 0;
        int r = cc_json_int(machine, "vcpu_count", &cpu, err);

        if (r == 0)
                r = cc_json_int(machine, "mem_size_mib", &mib, err);
        if (r < 0)
                return r;
        if (cpu != snap->cpu || mib != snap->memory >> 20)
                return cc_fail(err, CC_INVALID,
                               "the snapshot's machine has %lld vCPUs and %lld MiB, its record "
                               "says %lld and %lld",
                               (long long)cpu, (long long)mib, (long long)snap->cpu,
                               (long long)(snap->memory >> 20));
        return 0;
}

/* The vsock must end in this VM's directory, wherever the snapshot had it. */
static int check_socket(const json_t *config, const struct vm_spec *spec, struct cc_err *err)
{
        CC_FREE char *want = cc_path_join(spec->run_dir, FC_VSOCK_SOCK);
        const json_t *vsock = json_object_get(config, "vsock");
        const char *path = json_string_value(json_object_get(vsock, "uds_path"));

        if (!json_is_object(vsock) || cc_streq(path, want))
                return 0;
        return differs("its vsock at", path, want, err);
}

static int check_machine(const struct fc_api *api, const struct vm_spec *spec,
                         const struct hv_load *how, struct cc_err *err)
{
        CC_JSON json_t *config = NULL;
        int r = fc_get_config(api, &config, err);

        if (r == 0)
                r = check_size(config, how->snap, err);
        if (r == 0)
                r = check_drives(config, how, err);
        if (r == 0)
                r = check_nics(config, spec, err);
        return r < 0 ? r : check_socket(config, spec, err);
}

/* ---- load ---- */

/* Staged with the rest, and judged before. */
static int had_vsock(const char *run_dir, bool *ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, FC_SIDECAR);
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = NULL;
        size_t n = 0;
        int r = cc_read_file(path, SIDECAR_MAX, &text, &n, err);

        *ret = false;
        if (r == 0)
                r = cc_json_parse(text, n, FC_SIDECAR, &j, err);
        return r < 0 ? r : cc_json_bool(j, "vsock", ret, err);
}

static json_t *nic_overrides(const struct vm_spec *spec)
{
        json_t *list = json_array();

        for (size_t i = 0; i < spec->n_nics; i++) {
                char id[32];

                fc_nic_id(i, id);
                (void)json_array_append_new(list, json_pack("{s:s, s:s}", "iface_id", id,
                                                            "host_dev_name", spec->nics[i].tap));
        }
        return list;
}

/* The same VM comes back to its own TAPs and sockets; a clone has others. */
static int load_body(const struct vm_spec *spec, const struct hv_load *how, char **ret,
                     struct cc_err *err)
{
        CC_FREE char *state = cc_path_join(spec->run_dir, FC_VMSTATE);
        CC_FREE char *memory = cc_path_join(spec->run_dir, FC_MEMORY);
        CC_FREE char *vsock = cc_path_join(spec->run_dir, FC_VSOCK_SOCK);
        CC_JSON json_t *body =
                json_pack("{s:s, s:{s:s, s:s}}", "snapshot_path", state, "mem_backend",
                          "backend_type", "File", "backend_path", memory);
        bool has_vsock = false;
        int r = how->clone ? had_vsock(spec->run_dir, &has_vsock, err) : 0;

        if (r < 0)
                return r;
        if (!body)
                return cc_fail(err, CC_INVALID, "%s is not valid UTF-8", spec->run_dir);
        if (how->clone && spec->n_nics)
                (void)json_object_set_new(body, "network_overrides", nic_overrides(spec));
        if (has_vsock)
                (void)json_object_set_new(body, "vsock_override",
                                          json_pack("{s:s}", "uds_path", vsock));
        *ret = cc_json_compact(body);
        return 0;
}

static int check_spec(const struct vm_spec *spec, const struct hv_load *how, struct cc_err *err)
{
        int r = fc_machine_check(spec, err);

        if (r < 0)
                return r;
        if (spec->n_nics != how->snap->n_nics)
                return cc_fail(err, CC_INVALID, "the snapshot has %zu NICs, the VM %zu",
                               how->snap->n_nics, spec->n_nics);
        if (spec->n_disks != how->snap->n_disks)
                return cc_fail(err, CC_INVALID, "the snapshot has %zu disks, the VM %zu",
                               how->snap->n_disks, spec->n_disks);
        return fc_check_taps(spec, err);
}

static int prepare(const struct vm_spec *spec, const struct hv_load *how, const struct hv_env *env,
                   struct fc_install *install, struct fc_redirect *redirect, char **ret_body,
                   struct cc_err *err)
{
        int r = hv_remove_files(spec->run_dir, fc_runtime_files, err);

        if (r == 0)
                r = check_spec(spec, how, err);
        if (r == 0)
                r = fc_install_find(env->binary, env->cache_dir, install, err);
        if (r == 0)
                r = load_body(spec, how, ret_body, err);
        if (r == 0)
                r = fc_redirect_make(how->vms_dir, how->snap->disks, spec->disks, spec->n_disks,
                                     redirect, err);
        return r < 0 ? cc_wrap(err, "load firecracker") : 0;
}

int fc_load(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
            struct vm_proc *ret, struct cc_err *err)
{
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        FC_INSTALL struct fc_install install = { 0 };
        FC_REDIRECT struct fc_redirect redirect = { 0 };
        CC_STRV struct cc_strv argv = { 0 };
        CC_FREE char *body = NULL;
        struct fc_process process = { .env = env, .spec = spec, .doing = "load" };
        struct fc_api api = { .run_dir = spec->run_dir, .pidfd = -1 };
        struct cc_err why = CC_ERR_INIT;
        int r = prepare(spec, how, env, &install, &redirect, &body, err);

        if (r < 0)
                return r;
        fc_process_argv(spec, install.binary, &argv);
        process.argv = (const char *const *)argv.v;
        process.binds = redirect.binds;
        process.n_binds = redirect.n;
        process.failpoint = how->failpoint;
        r = fc_process_start(&process, &proc, err);
        if (r == 0) {
                api.pidfd = proc.pidfd;
                r = fc_snapshot_load(&api, body, &why);
                if (r == 0)
                        r = fc_redirect_verify(&redirect, proc.pid, &why);
                if (r == 0)
                        r = check_machine(&api, spec, how, &why);
                if (r < 0)
                        r = fc_process_failed(&process, proc.pidfd, "/snapshot/load", &why, err);
        }
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, fc_runtime_files, NULL);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}

/* ---- rewire ---- */

static int anchor(const struct fc_api *api, size_t i, const char *path, struct cc_err *err)
{
        CC_FREE char *target = NULL;
        CC_FREE char *body = NULL;
        CC_JSON json_t *j = NULL;
        char id[32];

        fc_drive_id(i, id);
        j = json_pack("{s:s, s:s}", "drive_id", id, "path_on_host", path);
        if (!j)
                return cc_fail(err, CC_INVALID, "%s is not valid UTF-8", path);
        target = xasprintf("/drives/%s", id);
        body = cc_json_compact(j);
        return fc_call(api, "PATCH", target, body, FC_CALL_MS, false, NULL, err);
}

int fc_rewire(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
              const struct vm_proc *proc, struct cc_err *err)
{
        struct fc_api api = { .run_dir = spec->run_dir, .pidfd = proc->pidfd };
        int r = 0;

        (void)env;
        for (size_t i = 0; r == 0 && i < spec->n_disks; i++)
                if (!cc_streq(how->snap->disks[i].path, spec->disks[i].path))
                        r = anchor(&api, i, spec->disks[i].path, err);
        return r < 0 ? cc_wrap(err, "firecracker") : 0;
}
