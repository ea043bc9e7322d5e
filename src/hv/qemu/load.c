/*
 * From files to a paused machine (qemu.md §9). The machine is built from the snapshot's recipe,
 * never from a record: whatever the guest can see must be identical. The recipe is hostile input
 * and was checked when parsed; preflight checks that everything else agrees with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "hv/qemu/accel.h"
#include "hv/qemu/memory.h"
#include "hv/qemu/process.h"
#include "hv/qemu/qemu.h"
#include "hv/qemu/swap.h"

#define MAX_RECIPE ((size_t)1 << 20)
#define LOAD_MS    600000
#define POLL_MS    2
#define HUGE_PAGE  (INT64_C(1) << 21)
#define MIB        (INT64_C(1) << 20)

int qemu_read_recipe(const char *dir, struct qemu_recipe *ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, QEMU_RECIPE);
        CC_FREE char *text = NULL;
        struct stat st;
        size_t n;
        int r;

        if (lstat(path, &st) < 0)
                return errno == ENOENT ? cc_fail(err, CC_CORRUPT, "snapshot: file %s is missing",
                                                 QEMU_RECIPE)
                                       : cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", path);
        r = cc_read_file(path, MAX_RECIPE, &text, &n, err);
        return r < 0 ? r : qemu_recipe_parse(text, n, ret, err);
}

/* ---- preflight ---- */

static int differs(const char *what, long long record, long long machine, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "snapshot: its record says %lld %s, its machine has %lld",
                       record, what, machine);
}

static int check_size(const struct qemu_recipe *r, const struct hv_snapshot *snap,
                      struct cc_err *err)
{
        int64_t unit = r->hugepages ? HUGE_PAGE : MIB;

        if (r->vcpus != snap->cpu)
                return differs("vCPUs", snap->cpu, r->vcpus, err);
        if (r->memory != (snap->memory + unit - 1) / unit * unit)
                return differs("bytes of memory", snap->memory, r->memory, err);
        if (r->nics.len != snap->n_nics)
                return differs("NICs", (long long)snap->n_nics, (long long)r->nics.len, err);
        if (r->disks.len != snap->n_disks)
                return differs("disks", (long long)snap->n_disks, (long long)r->disks.len, err);
        return 0;
}

static bool same_serial(const char *recipe, const char *disk)
{
        size_t n = disk ? strnlen(disk, QEMU_SERIAL_LEN) : 0;

        return strlen(recipe ? recipe : "") == n && (n == 0 || memcmp(recipe, disk, n) == 0);
}

static bool same_disk(const struct qemu_disk *q, const struct hv_disk *d)
{
        const char *base = cc_basename(d->path);
        size_t stem = strcspn(base, ".");

        if (q->ro != d->ro || !cc_streq(q->format, d->format) || !same_serial(q->serial, d->serial))
                return false;
        if (q->role && !cc_streq(q->role, d->role))
                return false;
        if (q->blob)
                return strlen(q->blob) == stem && strncmp(q->blob, base, stem) == 0;
        return cc_streq(q->file, base);
}

static int check_disks(const struct qemu_recipe *r, const struct hv_snapshot *snap,
                       struct cc_err *err)
{
        for (size_t i = 0; i < r->disks.len; i++)
                if (!same_disk(qemu_recipe_disk(r, i), &snap->disks[i]))
                        return cc_fail(err, CC_INVALID,
                                       "snapshot: disk %zu of its machine is not the one that "
                                       "cocoon.json lists",
                                       i);
        return 0;
}

static int open_file(const char *dir, const char *name, int *ret, struct stat *ret_st,
                     struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, name);
        CC_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0)
                return errno == ENOENT
                               ? cc_fail(err, CC_CORRUPT, "snapshot: file %s is missing", name)
                               : cc_fail_errno(err, errno, "open %s", path);
        if (fstat(fd, ret_st) < 0)
                return cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(ret_st->st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", path);
        *ret = TAKE_FD(fd);
        return 0;
}

static int check_files(const struct qemu_recipe *r, const char *dir, struct cc_err *err)
{
        static const unsigned char magic[8] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3 };
        CC_CLOSE int state = -1;
        CC_CLOSE int memory = -1;
        CC_CLOSE int vars = -1;
        unsigned char head[sizeof(magic)];
        struct stat st;
        int e = open_file(dir, QEMU_STATE, &state, &st, err);

        if (e < 0)
                return e;
        if (st.st_size < (off_t)sizeof(head) ||
            cc_pread_all(state, head, sizeof(head), 0, NULL) < 0 ||
            memcmp(head, magic, sizeof(magic)) != 0)
                return cc_fail(err, CC_CORRUPT, "snapshot: %s is not a device state", QEMU_STATE);
        e = open_file(dir, QEMU_MEMORY, &memory, &st, err);
        if (e < 0)
                return e;
        if (st.st_size != r->memory)
                return cc_fail(err, CC_CORRUPT, "snapshot: %s has %lld bytes, should have %lld",
                               QEMU_MEMORY, (long long)st.st_size, (long long)r->memory);
        if (!qemu_recipe_uefi(r) || r->vars_size == 0)
                return 0;
        e = open_file(dir, QEMU_EFIVARS, &vars, &st, err);
        if (e == 0 && st.st_size != r->vars_size)
                e = cc_fail(err, CC_CORRUPT, "snapshot: %s has %lld bytes, should have %lld",
                            QEMU_EFIVARS, (long long)st.st_size, (long long)r->vars_size);
        return e;
}

static int check_version(const struct qemu_install *install, const struct qemu_recipe *r,
                         struct cc_err *err)
{
        CC_FREE char *theirs = xasprintf("QEMU emulator version %s", r->qemu);
        CC_FREE char *ours = xasprintf("QEMU emulator version %s", install->version);
        CC_FREE char *a = NULL;
        CC_FREE char *b = NULL;
        int major[2];
        int minor[2];

        if (qemu_version_parse(theirs, &a, &major[0], &minor[0]) < 0 ||
            qemu_version_parse(ours, &b, &major[1], &minor[1]) < 0)
                return cc_fail(err, CC_INVALID, "qemu.json: bad qemu version");
        if (major[1] < major[0] || (major[1] == major[0] && minor[1] < minor[0]))
                return cc_fail(err, CC_UNSUPPORTED,
                               "qemu: snapshot was made by %s, this is the older %s", r->qemu,
                               install->version);
        if (!cc_streq(install->machine, r->machine) &&
            !qemu_install_has_machine(install, r->machine))
                return cc_fail(err, CC_UNSUPPORTED,
                               "qemu: this QEMU has no machine %s (snapshot made by %s)",
                               r->machine, r->qemu);
        return 0;
}

static int check_accel(const struct hv_env *env, const struct qemu_recipe *r, struct cc_err *err)
{
        bool kvm = false;
        int e;

        if (!qemu_recipe_kvm(r))
                return 0;
        e = qemu_accel_choose(env, &kvm, NULL, err);
        if (e == 0 && !kvm)
                e = cc_fail(err, CC_UNSUPPORTED,
                            "qemu: snapshot was taken with KVM, this host can only emulate");
        return e;
}

int qemu_preflight(const struct hv_env *env, const struct hv_snapshot *snap, const json_t *sidecar,
                   struct cc_strv *ret_macs, struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe recipe = { 0 };
        QEMU_INSTALL struct qemu_install install = { 0 };
        int r = qemu_read_recipe(snap->dir, &recipe, err);

        (void)sidecar;
        (void)ret_macs; /* the recipe has none; cocoon.json tells them */
        if (r == 0)
                r = check_size(&recipe, snap, err);
        if (r == 0)
                r = check_disks(&recipe, snap, err);
        if (r == 0)
                r = check_files(&recipe, snap->dir, err);
        if (r == 0)
                r = qemu_install_find(env->binary, env->cache_dir, &install, err);
        if (r == 0)
                r = check_version(&install, &recipe, err);
        return r < 0 ? r : check_accel(env, &recipe, err);
}

/* ---- load ---- */

/* Copy where a private mapping would take something away: a balloon punches holes into the mapped
 * file, shared memory must be shared. */
static bool choose_copy(const struct qemu_recipe *r, const struct hv_load *how)
{
        bool must = r->balloon || r->hugepages || how->snap->shared_memory;

        if (how->mode == HV_RESTORE_COPY)
                return true;
        if (must && how->mode != HV_RESTORE_AUTO)
                cc_warn("qemu.load", "this machine's memory cannot be mapped (%s): copying it",
                        r->balloon     ? "it has a balloon"
                        : r->hugepages ? "it is of huge pages"
                                       : "it is shared");
        return must;
}

static int make_plan(const struct hv_env *env, const struct vm_spec *spec,
                     const struct hv_load *how, struct qemu_plan *p, struct qemu_wiring *w,
                     const char **ret_memory, struct cc_err *err)
{
        struct vm_spec start = *spec;
        struct qemu_bindings bind;
        int major = 0;
        int r = qemu_read_recipe(spec->run_dir, &p->recipe, err);

        if (r == 0)
                r = qemu_install_find(env->binary, env->cache_dir, &p->install, err);
        if (r == 0)
                r = qemu_plan_firmware(env, spec, p, err);
        if (r < 0)
                return r;
        if (p->firmware.code_size != p->recipe.fw_size ||
            p->firmware.vars_size != p->recipe.vars_size)
                return cc_fail(err, CC_UNSUPPORTED,
                               "qemu: the firmware here is of another size than the snapshot's "
                               "(%lld and %lld bytes)",
                               (long long)p->firmware.code_size, (long long)p->recipe.fw_size);
        /* Who saves it next may not be older than who runs it now. */
        cc_strset(&p->recipe.qemu, p->install.version);
        qemu_wire(&p->recipe, spec, how->clone, w);
        start.nics = w->nics;
        start.n_nics = w->n;
        start.n_disks = how->snap->n_disks;
        qemu_plan_bind(&start, p, &bind);
        bind.spec = &start;
        bind.incoming = true;
        bind.isolated = w->isolated;
        if (*ret_memory) {
                char *end;

                major = (int)strtol(p->install.version, &end, 10);
                bind.memory_file = *ret_memory;
                bind.memory_read_only = major > 8 || (major == 8 && strncmp(end, ".2", 2) == 0);
        }
        return qemu_argv(&p->recipe, &bind, &p->argv, err);
}

static int add_memory(const struct vm_spec *spec, const struct qemu_plan *p, struct qemu_fds *fds,
                      struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->run_dir, QEMU_MEMORY);
        int fd;
        int r = hv_guest_memory(p->recipe.memory, p->recipe.hugepages, &fd, err);

        if (r < 0)
                return r;
        r = qemu_memory_load(path, fd, p->recipe.memory, p->recipe.hugepages, err);
        if (r < 0) {
                close(fd);
                return r;
        }
        return qemu_fds_add(fds, fd, QEMU_FD_MEMORY, err);
}

static int open_fds(const struct vm_spec *spec, const struct qemu_plan *p,
                    const struct qemu_wiring *w, bool mapped, struct qemu_fds *fds,
                    struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->run_dir, QEMU_STATE);
        int state = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        int r;

        if (state < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        r = qemu_fds_add(fds, state, QEMU_FD_STATE, err);
        if (r == 0 && !mapped)
                r = add_memory(spec, p, fds, err);
        return r < 0 ? r : qemu_wire_fds(p, spec, w, fds, err);
}

static bool reads_files(const struct qemu_install *install)
{
        char *end;
        long major = strtol(install->version, &end, 10);

        return major > 8 || (major == 8 && *end == '.' && strtol(end + 1, NULL, 10) >= 2);
}

static int start_incoming(struct qmp *q, const struct qemu_plan *p, const char *run_dir,
                          struct cc_err *err)
{
        CC_FREE char *state = cc_path_join(run_dir, QEMU_STATE);
        /* fd: takes the number of an inherited descriptor; newer ones call that deprecated. */
        CC_FREE char *uri = reads_files(&p->install) ? xasprintf("file:%s", state)
                                                     : xasprintf("fd:%d", QEMU_FD_STATE);
        json_t *args = json_pack("{s:s}", "uri", uri);

        if (!args)
                return cc_fail(err, CC_INVALID, "qemu: path %s is not valid UTF-8", state);
        return qmp_command(q, "migrate-incoming", args, QMP_COMMAND_MS, NULL, err);
}

/* Loaded is "paused", because of -S; a failed load ends the process. */
static int wait_loaded(struct qmp *q, const struct vm_proc *proc, struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + LOAD_MS * CC_NSEC_PER_MSEC;

        while (cc_monotonic() < deadline) {
                CC_JSON json_t *status = NULL;
                const char *s;
                int r = qmp_command(q, "query-status", NULL, QMP_COMMAND_MS, &status, err);

                if (r < 0)
                        return r;
                s = json_string_value(json_object_get(status, "status"));
                if (cc_streq(s, "paused"))
                        return 0;
                if (!cc_streq(s, "inmigrate"))
                        return cc_fail(err, CC_STATE, "qemu: loading ended in state %s",
                                       s ? s : "(none)");
                if (cc_pidfd_wait(proc->pidfd, POLL_MS) == -CC_CANCELED)
                        return cc_fail(err, CC_CANCELED, "interrupted");
        }
        return cc_fail(err, CC_TIMEOUT, "qemu: loading the device state takes too long");
}

static int load_state(const struct hv_env *env, const struct hv_launch *l,
                      const struct qemu_plan *p, const struct vm_proc *proc, struct cc_err *err)
{
        QMP struct qmp *q = NULL;
        struct cc_err why = CC_ERR_INIT;
        int r = qemu_process_connect(env, l, proc, &q, err);

        if (r < 0)
                return r;
        r = start_incoming(q, p, l->run_dir, &why);
        if (r == 0)
                r = wait_loaded(q, proc, &why);
        return r < 0 ? qemu_process_failed(l, proc, r, &why, err) : 0;
}

int qemu_load(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
              struct vm_proc *ret, struct cc_err *err)
{
        QEMU_PLAN struct qemu_plan p = { 0 };
        QEMU_FDS struct qemu_fds fds = { .n = 0 };
        QEMU_RECIPE_CLEANUP struct qemu_recipe peek = { 0 };
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *memory = cc_path_join(spec->run_dir, QEMU_MEMORY);
        struct qemu_wiring w;
        struct hv_launch l;
        const char *mapped = NULL;
        int r = qemu_check_files(spec, err);

        if (r == 0)
                r = qemu_read_recipe(spec->run_dir, &peek, err);
        if (r < 0)
                return r;
        if (!choose_copy(&peek, how))
                mapped = memory;
        r = make_plan(env, spec, how, &p, &w, &mapped, err);
        if (r == 0)
                r = open_fds(spec, &p, &w, mapped != NULL, &fds, err);
        if (r == 0)
                r = qemu_process_start(spec, &p, &fds, how->failpoint, &l, &proc, err);
        if (r == 0)
                r = load_state(env, &l, &p, &proc, err);
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, qemu_runtime_files, NULL);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}
