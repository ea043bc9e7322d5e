/*
 * From a running machine to files (qemu.md §8): device state by xen-save-devices-state, which saves
 * every device and no memory; memory straight from its memfd; qemu.json and the firmware's
 * variables as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "hv/qemu/memory.h"
#include "hv/qemu/plug.h"
#include "hv/qemu/qemu.h"
#include "hv/qemu/recipe.h"

#define STATE_MS   600000 /* a loaded host, a slow disk: minutes, then it is lost anyway */
#define MAX_RECIPE ((size_t)1 << 20)

enum hv_file qemu_classify(const char *name)
{
        static const char *const state[] = { QEMU_RECIPE, QEMU_STATE, QEMU_EFIVARS };

        if (strcmp(name, QEMU_MEMORY) == 0)
                return HV_FILE_MEMORY;
        for (size_t i = 0; i < CC_ARRAY_LEN(state); i++)
                if (strcmp(name, state[i]) == 0)
                        return HV_FILE_STATE;
        return HV_FILE_FOREIGN;
}

/* ---- may it be saved ---- */

/* Mandatory: with some devices attached the save does not fail, it crashes QEMU. */
static int check_blocked(struct qmp *q, struct cc_err *err)
{
        CC_JSON json_t *info = NULL;
        const char *reason;
        int r = qmp_command(q, "query-migrate", NULL, QMP_COMMAND_MS, &info, err);

        if (r < 0)
                return r;
        reason = json_string_value(json_array_get(json_object_get(info, "blocked-reasons"), 0));
        return reason ? cc_fail(err, CC_STATE, "snapshot: %s", reason) : 0;
}

int qemu_can_capture(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        QMP struct qmp *q = NULL;
        int r = qemu_plug_connect(run_dir, -1, &q, err);

        (void)env;
        return r < 0 ? r : check_blocked(q, err);
}

/* ---- saving ---- */

int qemu_pause(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        QMP struct qmp *q = NULL;
        int r = qemu_plug_connect(run_dir, -1, &q, err);

        (void)env;
        return r < 0 ? r : qmp_command(q, "stop", NULL, QMP_COMMAND_MS, NULL, err);
}

static int copy_file(const char *from_dir, const char *to_dir, const char *name, struct cc_err *err)
{
        CC_FREE char *from = cc_path_join(from_dir, name);
        CC_FREE char *to = cc_path_join(to_dir, name);
        CC_CLOSE int in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        CC_CLOSE int out = -1;
        int r;

        if (in < 0)
                return cc_fail_errno(err, errno, "open %s", from);
        out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (out < 0)
                return cc_fail_errno(err, errno, "create %s", to);
        r = cc_copy_sparse(in, out, err);
        return r < 0 ? cc_wrap(err, "copy %s", from) : 0;
}

static int save_state(struct qmp *q, const char *dir, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, QEMU_STATE);
        /* Not "live": that would give up the disks of a machine that goes on. */
        json_t *args = json_pack("{s:s, s:b}", "filename", path, "live", 0);
        int r;

        if (!args)
                return cc_fail(err, CC_INVALID, "qemu: path %s is not valid UTF-8", path);
        r = qmp_command(q, "xen-save-devices-state", args, STATE_MS, NULL, err);
        if (r == 0 && chmod(path, 0640) < 0)
                r = cc_fail_errno(err, errno, "set mode of %s", path);
        return r;
}

static void tell_disks(const struct qemu_recipe *recipe, struct cc_strv *ret)
{
        for (size_t i = 0; i < recipe->disks.len; i++) {
                const struct qemu_disk *d = qemu_recipe_disk(recipe, i);

                cc_strv_add(ret, d->blob ? d->blob : d->file);
        }
}

int qemu_capture(const struct hv_env *env, const char *run_dir, const struct vm_proc *proc,
                 const char *dir, struct cc_strv *ret_disks, struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe recipe = { 0 };
        CC_FREE char *recipe_path = cc_path_join(run_dir, QEMU_RECIPE);
        CC_FREE char *memory = cc_path_join(dir, QEMU_MEMORY);
        CC_FREE char *text = NULL;
        QMP struct qmp *q = NULL;
        size_t n;
        int r = cc_read_file(recipe_path, MAX_RECIPE, &text, &n, err);

        (void)env;
        if (r == 0)
                r = qemu_recipe_parse(text, n, &recipe, err);
        if (r == 0)
                r = qemu_plug_connect(run_dir, proc->pidfd, &q, err);
        if (r == 0)
                r = save_state(q, dir, err);
        if (r == 0)
                r = qemu_memory_save(q, proc->pid, run_dir, memory, recipe.memory, err);
        if (r == 0)
                r = copy_file(run_dir, dir, QEMU_RECIPE, err);
        if (r == 0 && qemu_recipe_uefi(&recipe) && recipe.vars_size > 0)
                r = copy_file(run_dir, dir, QEMU_EFIVARS, err);
        if (r == 0)
                tell_disks(&recipe, ret_disks);
        return r;
}
