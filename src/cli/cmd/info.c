/* cocoon info: what this host offers. Changes nothing, opens no store. */
#include <sys/statvfs.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "doctor/doctor.h"
#include "version.h"

static const char *reflink_verdict(const char *dir)
{
        int can = doctor_reflink(dir);

        if (can < 0)
                return cc_exists(dir) ? "unknown" : "unknown: the directory does not exist yet";
        return can ? "yes" : "no";
}

static json_t *driver_json(const struct config *config, const struct hv_driver *driver)
{
        struct hv_env env = { 0 };
        struct cc_err why = CC_ERR_INIT;
        CC_BUF struct cc_buf detail = { 0 };
        CC_BUF struct cc_buf version = { 0 };
        json_t *json = json_object();
        bool found;

        vm_hv_env(config, driver, &env);
        found = driver->probe(&env, &detail, &why) == 0;
        json_object_set_new(json, "name", json_string(driver->name));
        json_object_set_new(json, "binary", out_string(env.binary ? env.binary : ""));
        if (found && driver->version && driver->version(&env, &version, NULL) == 0)
                json_object_set_new(json, "version", out_string(version.data));
        json_object_set_new(json, "usable", json_boolean(found));
        json_object_set_new(json, "detail",
                            out_string(found ? (detail.data ? detail.data : "") : why.msg));
        return json;
}

static json_t *directory_json(const char *path)
{
        json_t *json = json_object();
        struct statvfs fs;

        json_object_set_new(json, "path", out_string(path));
        json_object_set_new(json, "exists", json_boolean(cc_exists(path)));
        if (statvfs(path, &fs) == 0)
                json_object_set_new(
                        json, "free_bytes",
                        json_integer((json_int_t)fs.f_bavail * (json_int_t)fs.f_frsize));
        return json;
}

static json_t *gather(const struct config *config)
{
        struct cc_err why = CC_ERR_INIT;
        json_t *root = json_object();
        json_t *drivers = json_array();
        json_t *kvm = json_object();
        json_t *dirs = json_object();
        bool usable;

        for (size_t i = 0; hv_driver_at(i); i++)
                json_array_append_new(drivers, driver_json(config, hv_driver_at(i)));
        usable = hv_kvm_probe(NULL, &why) == 0;
        json_object_set_new(kvm, "usable", json_boolean(usable));
        json_object_set_new(kvm, "detail",
                            out_string(usable ? "runs guest code at hardware speed" : why.msg));
        json_object_set_new(dirs, "root", directory_json(config->root_dir));
        json_object_set_new(dirs, "run", directory_json(config->run_dir));
        json_object_set_new(dirs, "log", directory_json(config->log_dir));
        json_object_set_new(root, "version", json_string(COCOON_VERSION));
        json_object_set_new(root, "hypervisor", out_string(config->hypervisor));
        json_object_set_new(root, "drivers", drivers);
        json_object_set_new(root, "kvm", kvm);
        json_object_set_new(root, "vhost_vsock", json_boolean(cc_exists("/dev/vhost-vsock")));
        json_object_set_new(root, "cgroup_v2",
                            json_boolean(cc_exists("/sys/fs/cgroup/cgroup.controllers")));
        json_object_set_new(root, "reflink", json_string(reflink_verdict(config->root_dir)));
        json_object_set_new(root, "directories", dirs);
        return root;
}

static const char *text(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static const char *yes_no(const json_t *obj, const char *key)
{
        return json_is_true(json_object_get(obj, key)) ? "yes" : "no";
}

static void print_text(const json_t *info)
{
        static const char *const dirs[] = { "root", "run", "log" };
        CC_BUF struct cc_buf b = { 0 };
        const json_t *kvm = json_object_get(info, "kvm");
        const json_t *value;

        cc_buf_printf(&b, "%-16s%s\n", "Version:", text(info, "version"));
        cc_buf_printf(&b, "%-16s%s\n", "Hypervisor:", text(info, "hypervisor"));
        for (size_t i = 0; (value = json_array_get(json_object_get(info, "drivers"), i)); i++) {
                const char *version = text(value, "version");

                cc_buf_printf(&b, "%-16s%s%s%s: %s\n", i == 0 ? "Drivers:" : "",
                              text(value, "name"), version ? " " : "", version ? version : "",
                              text(value, "detail"));
        }
        cc_buf_printf(&b, "%-16s%s: %s\n", "KVM:", yes_no(kvm, "usable"), text(kvm, "detail"));
        cc_buf_printf(&b, "%-16s%s\n", "vhost-vsock:", yes_no(info, "vhost_vsock"));
        cc_buf_printf(&b, "%-16s%s\n", "cgroup v2:", yes_no(info, "cgroup_v2"));
        cc_buf_printf(&b, "%-16s%s\n", "Reflink:", text(info, "reflink"));
        for (size_t i = 0; i < CC_ARRAY_LEN(dirs); i++) {
                char size[24];
                const json_t *bytes;

                value = json_object_get(json_object_get(info, "directories"), dirs[i]);
                bytes = json_object_get(value, "free_bytes");
                cc_size_format(json_integer_value(bytes), size);
                cc_buf_printf(&b, "%-16s%s: %s (%s%s)\n", i == 0 ? "Directories:" : "", dirs[i],
                              text(value, "path"), bytes ? size : "absent", bytes ? " free" : "");
        }
        out_text(b.data);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        CC_JSON json_t *info = gather(&cli->config);

        if (output_is_json(opts))
                out_json(json_incref(info));
        else
                print_text(info);
        return 0;
}

static const struct opt_group groups[] = { { output_json_opts, 0, NULL }, { 0 } };

const struct cmd cmd_info = {
        .path = "info",
        .args = "",
        .help = "Show what this host offers: drivers, KVM, directories",
        .examples = "cocoon info\ncocoon info -o json\n",
        .opts = groups,
        .size = sizeof(struct output_flags),
        .flags = CMD_STREAM,
        .run = run,
};
