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
#include "hv/qemu/qemu.h"
#include "hv/qemu/qmp.h"
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

static int connect_to(const char *run_dir, int watch, struct qmp **ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, QEMU_API_SOCK);

        return qmp_connect(path, watch, QMP_GREETING_MS, ret, err);
}

/* ---- may it be saved ---- */

static int qom_string(struct qmp *q, const char *id, const char *property, char **ret,
                      struct cc_err *err)
{
        CC_FREE char *path = xasprintf("/machine/peripheral/%s", id);
        CC_JSON json_t *value = NULL;
        int r = qmp_command(q, "qom-get",
                            json_pack("{s:s, s:s}", "path", path, "property", property),
                            QMP_COMMAND_MS, &value, err);

        if (r < 0)
                return r;
        *ret = xstrdup(json_is_string(value) ? json_string_value(value) : "");
        return 0;
}

/* Devices plugged in at run time, by the names users know. */
static int list_attached(struct qmp *q, struct cc_strv *ret, struct cc_err *err)
{
        /* Our IDs of such devices, what of them users see, and what they see in front of it. */
        static const struct {
                const char *id, *property, *shown;
        } kinds[] = {
                { "disk-", "serial", "cocoon-disk-" },
                { "fs-", "tag", "cocoon-fs-" },
                { "vfio-", NULL, "" },
        };
        CC_JSON json_t *list = NULL;
        json_t *item;
        size_t i;
        int r = qmp_command(q, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"),
                            QMP_COMMAND_MS, &list, err);

        if (r < 0)
                return r;
        json_array_foreach (list, i, item) {
                const char *id = json_string_value(json_object_get(item, "name"));

                for (size_t k = 0; id && k < CC_ARRAY_LEN(kinds); k++) {
                        CC_FREE char *name = NULL;

                        if (!cc_startswith(id, kinds[k].id))
                                continue;
                        if (!kinds[k].property)
                                name = xstrdup(id + strlen(kinds[k].id));
                        else if ((r = qom_string(q, id, kinds[k].property, &name, err)) < 0)
                                return r;
                        cc_strv_addf(ret, "%s%s", kinds[k].shown, name);
                }
        }
        return 0;
}

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

int qemu_can_capture(const struct hv_env *env, const char *run_dir, struct cc_strv *ret_attached,
                     struct cc_err *err)
{
        QMP struct qmp *q = NULL;
        int r = connect_to(run_dir, -1, &q, err);

        (void)env;
        if (r == 0)
                r = list_attached(q, ret_attached, err);
        if (r < 0 || ret_attached->len)
                return r;
        return check_blocked(q, err);
}

/* ---- saving ---- */

int qemu_pause(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        QMP struct qmp *q = NULL;
        int r = connect_to(run_dir, -1, &q, err);

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
                r = connect_to(run_dir, proc->pidfd, &q, err);
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
