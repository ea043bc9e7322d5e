/* Plugging by ACPI on root ports (qemu.md §7). See plug.h. */
#include "hv/qemu/plug.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/timeutil.h"
#include "hv/qemu/qemu.h"

int qemu_plug_connect(const char *run_dir, int watch, struct qmp **ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, QEMU_API_SOCK);

        return qmp_connect(path, watch, QMP_GREETING_MS, ret, err);
}

int qemu_plugged(struct qmp *q, struct cc_strv *ret, struct cc_err *err)
{
        CC_JSON json_t *list = NULL;
        json_t *item;
        size_t i;
        int r = qmp_command(q, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"),
                            QMP_COMMAND_MS, &list, err);

        json_array_foreach (list, i, item) {
                const char *name = json_string_value(json_object_get(item, "name"));

                if (name && strcmp(name, "type") != 0)
                        cc_strv_add(ret, name);
        }
        return r;
}

int qemu_property(struct qmp *q, const char *id, const char *property, char **ret,
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

/* 1 there, 0 gone. */
static int is_plugged(struct qmp *q, const char *id, struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        int r = qemu_plugged(q, &ids, err);

        return r < 0 ? r : cc_strv_has(&ids, id);
}

/* "Device nic1 is already in the process of unplug" is what is wanted. */
static int request(struct qmp *q, const char *id, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r = qmp_command(q, "device_del", json_pack("{s:s}", "id", id), QMP_COMMAND_MS, NULL,
                            &why);

        if (r == -CC_NOT_FOUND || (r == -CC_STATE && strstr(why.msg, "in the process of unplug")))
                return 0;
        return r < 0 ? cc_err_copy(err, &why) : 0;
}

int qemu_unplug(struct qmp *q, const char *id, struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + HV_EJECT_MS * CC_NSEC_PER_MSEC;
        int r = is_plugged(q, id, err);

        if (r > 0)
                r = request(q, id, err);
        while (r == 0 && (r = is_plugged(q, id, err)) > 0) {
                int64_t left = (deadline - cc_monotonic()) / CC_NSEC_PER_MSEC;

                r = left > 0 ? qmp_wait_event(q, "DEVICE_DELETED", (int)left, err) : -CC_TIMEOUT;
                if (r == -CC_TIMEOUT)
                        return cc_fail(err, CC_TIMEOUT,
                                       "qemu: the guest did not release %s within %d s", id,
                                       HV_EJECT_MS / 1000);
        }
        return r;
}
