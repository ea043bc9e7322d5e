/* Searching firmware. Descriptors are files of other packages: malformed ones are skipped. See
 * firmware.h. */
#include "hv/qemu/firmware.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"

#define BIOS_NAME      "bios-256k.bin"
#define MAX_DESCRIPTOR 65536
#define MAX_FIRMWARE   (INT64_C(64) << 20) /* the largest pflash in use is 64 MiB */

static const char *const descriptor_dirs[] = { "/etc/qemu/firmware", "/usr/share/qemu/firmware" };
static const char *const uefi_dirs[] = { "/usr/share/OVMF", "/usr/share/edk2/x64",
                                         "/usr/share/edk2/ovmf" };
static const char *const uefi_names[][2] = { { "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd" },
                                             { "OVMF_CODE.fd", "OVMF_VARS.fd" } };
static const char *const bios_dirs[] = { "/usr/share/seabios", "/usr/share/qemu" };
static const char *const bad_features[] = { "requires-smm", "secure-boot", "enrolled-keys" };

void qemu_firmware_clear(struct qemu_firmware *f)
{
        free(f->code);
        free(f->vars);
        *f = (struct qemu_firmware){ 0 };
}

/* Size of a usable firmware file, or 0. */
static int64_t firmware_size(const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_FIRMWARE ||
            access(path, R_OK) < 0)
                return 0;
        return st.st_size;
}

/* Takes the pair if it is usable; vars may be NULL. */
static bool take(const char *prefix, const char *code, const char *vars, struct qemu_firmware *f)
{
        f->code = xasprintf("%s%s", prefix, code);
        f->vars = vars ? xasprintf("%s%s", prefix, vars) : NULL;
        f->code_size = firmware_size(f->code);
        f->vars_size = vars ? firmware_size(f->vars) : 0;
        if (f->code_size && (!vars || f->vars_size))
                return true;
        qemu_firmware_clear(f);
        return false;
}

static int use_configured(const char *key, const char *code, const char *vars,
                          struct qemu_firmware *ret, struct cc_err *err)
{
        if (take("", code, vars, ret))
                return 0;
        return cc_fail(err, CC_UNAVAILABLE, "qemu: %s: %s is not a readable firmware file", key,
                       firmware_size(code) ? vars : code);
}

int qemu_bios_find(const char *configured, const struct cc_strv *data_dirs, const char *prefix,
                   struct qemu_firmware *ret, struct cc_err *err)
{
        const char *dir;

        if (!cc_isempty(configured))
                return use_configured("qemu_bios", configured, NULL, ret, err);
        cc_strv_foreach (data_dirs, i, dir) {
                CC_FREE char *path = cc_path_join(dir, BIOS_NAME);

                if (take(prefix, path, NULL, ret))
                        return 0;
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(bios_dirs); i++) {
                CC_FREE char *path = cc_path_join(bios_dirs[i], BIOS_NAME);

                if (take(prefix, path, NULL, ret))
                        return 0;
        }
        (void)cc_fail(err, CC_UNAVAILABLE, "qemu: no SeaBIOS found");
        cc_hint(err, "install seabios or set qemu_bios");
        return -CC_UNAVAILABLE;
}

/* True if the array at key holds the string; a pattern matches like a shell's when `glob`. */
static bool array_has(const json_t *obj, const char *key, const char *s, bool glob)
{
        const json_t *item;
        size_t i;

        json_array_foreach (json_object_get(obj, key), i, item) {
                const char *v = json_string_value(item);

                if (v && (glob ? fnmatch(v, s, 0) == 0 : strcmp(v, s) == 0))
                        return true;
        }
        return false;
}

static const char *raw_file(const json_t *mapping, const char *key)
{
        const json_t *f = json_object_get(mapping, key);

        if (!cc_streq(json_string_value(json_object_get(f, "format")), "raw"))
                return NULL;
        return json_string_value(json_object_get(f, "filename"));
}

static bool descriptor_fits(const json_t *d, const char *machine)
{
        const json_t *target;
        bool fits = false;
        size_t i;

        if (!array_has(d, "interface-types", "uefi", false))
                return false;
        for (i = 0; i < CC_ARRAY_LEN(bad_features); i++)
                if (array_has(d, "features", bad_features[i], false))
                        return false;
        json_array_foreach (json_object_get(d, "targets"), i, target)
                fits = fits || (cc_streq(json_string_value(json_object_get(target, "architecture")),
                                         "x86_64") &&
                                array_has(target, "machines", machine, true));
        return fits;
}

static bool try_descriptor(const char *path, const char *machine, const char *prefix,
                           struct qemu_firmware *ret)
{
        CC_FREE char *text = NULL;
        CC_JSON json_t *d = NULL;
        const json_t *mapping;
        const char *mode;
        const char *code;
        const char *vars;
        size_t n;

        if (cc_read_file(path, MAX_DESCRIPTOR, &text, &n, NULL) < 0 ||
            cc_json_parse(text, n, path, &d, NULL) < 0) {
                cc_debug("qemu", "firmware descriptor %s is unusable", path);
                return false;
        }
        mapping = json_object_get(d, "mapping");
        mode = json_string_value(json_object_get(mapping, "mode"));
        code = raw_file(mapping, "executable");
        vars = raw_file(mapping, "nvram-template");
        return descriptor_fits(d, machine) &&
               cc_streq(json_string_value(json_object_get(mapping, "device")), "flash") &&
               (!mode || strcmp(mode, "split") == 0) && code && vars &&
               take(prefix, code, vars, ret);
}

/* Names of *.json in both folders, sorted, each once. */
static void list_descriptors(const char *prefix, struct cc_strv *ret)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(descriptor_dirs); i++) {
                CC_FREE char *dir = xasprintf("%s%s", prefix, descriptor_dirs[i]);
                CC_DIR DIR *d = opendir(dir);

                for (struct dirent *e; d && (e = readdir(d));)
                        if (cc_endswith(e->d_name, ".json") && !cc_strv_has(ret, e->d_name))
                                cc_strv_add(ret, e->d_name);
        }
        cc_strv_sort(ret);
}

static bool search_descriptors(const char *machine, const char *prefix, struct qemu_firmware *ret)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;

        list_descriptors(prefix, &names);
        cc_strv_foreach (&names, i, name) {
                for (size_t k = 0; k < CC_ARRAY_LEN(descriptor_dirs); k++) {
                        CC_FREE char *path = xasprintf("%s%s/%s", prefix, descriptor_dirs[k], name);

                        if (!cc_exists(path))
                                continue;
                        if (try_descriptor(path, machine, prefix, ret))
                                return true;
                        break;
                }
        }
        return false;
}

int qemu_uefi_find(const char *configured, const char *machine, const char *prefix,
                   struct qemu_firmware *ret, struct cc_err *err)
{
        if (!cc_isempty(configured)) {
                CC_FREE char *code = xstrdup(configured);
                char *colon = strchr(code, ':');

                if (colon)
                        *colon++ = '\0';
                return use_configured("qemu_firmware", code, cc_isempty(colon) ? NULL : colon, ret,
                                      err);
        }
        if (search_descriptors(machine, prefix, ret))
                return 0;
        for (size_t n = 0; n < CC_ARRAY_LEN(uefi_names); n++)
                for (size_t i = 0; i < CC_ARRAY_LEN(uefi_dirs); i++) {
                        CC_FREE char *code = cc_path_join(uefi_dirs[i], uefi_names[n][0]);
                        CC_FREE char *vars = cc_path_join(uefi_dirs[i], uefi_names[n][1]);

                        if (take(prefix, code, vars, ret))
                                return 0;
                }
        (void)cc_fail(err, CC_UNAVAILABLE,
                      "qemu: no UEFI firmware found (install ovmf or set qemu_firmware)");
        return -CC_UNAVAILABLE;
}
