/* Asking a QEMU binary about itself, and remembering the answer. See install.h. */
#include "hv/qemu/install.h"

#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/proc.h"
#include "hv/binary.h"

#define CACHE_NAME   "qemu-install.json"
#define ASK_MS       10000
#define MAX_VERSION  32
#define MAX_MACHINE  64
#define MAX_DATADIRS 16

void qemu_install_clear(struct qemu_install *i)
{
        free(i->binary);
        free(i->version);
        free(i->machine);
        cc_strv_free(&i->data_dirs);
        *i = (struct qemu_install){ 0 };
}

int qemu_version_parse(const char *text, char **ret, int *ret_major, int *ret_minor)
{
        static const char prefix[] = "QEMU emulator version ";
        const char *v;
        size_t n;
        char *end;
        long major;
        long minor;

        if (!cc_startswith(text, prefix))
                return -CC_INVALID;
        v = text + sizeof(prefix) - 1;
        n = strspn(v, "0123456789.");
        if (n == 0 || n > MAX_VERSION || !isdigit((unsigned char)*v))
                return -CC_INVALID;
        major = strtol(v, &end, 10);
        if (*end != '.' || !isdigit((unsigned char)end[1]))
                return -CC_INVALID;
        minor = strtol(end + 1, NULL, 10);
        if (major > 10000 || minor > 10000)
                return -CC_INVALID;
        *ret = xstrndup(v, n);
        *ret_major = (int)major;
        *ret_minor = (int)minor;
        return 0;
}

static bool machine_name_valid(const char *s, size_t n)
{
        if (n == 0 || n > MAX_MACHINE)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!isalnum((unsigned char)s[i]) && !strchr("-._+", s[i]))
                        return false;
        return true;
}

char *qemu_machine_parse(const char *text)
{
        static const char alias[] = "(alias of ";

        while (text && *text) {
                size_t n = strcspn(text, "\n");

                if (cc_startswith(text, "q35 ")) {
                        const char *a = memmem(text, n, alias, sizeof(alias) - 1);
                        size_t len;

                        if (!a)
                                return NULL;
                        a += sizeof(alias) - 1;
                        len = strcspn(a, ")\n");
                        return machine_name_valid(a, len) && a[len] == ')' ? xstrndup(a, len)
                                                                           : NULL;
                }
                text += n + (text[n] == '\n');
        }
        return NULL;
}

static int ask(const char *binary, const char *option, const char *value, char **ret,
               struct cc_err *err)
{
        const char *const argv[] = { binary, option, value, NULL };

        return cc_run_ok(argv, ASK_MS, ret, err);
}

/* Only an attempt tells: a build without io_uring refuses the option, and so does a kernel that
 * forbids it. The binary itself serves as the disk. */
static bool ask_io_uring(const char *binary)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };
        CC_FREE char *text = NULL;
        json_t *node = json_pack("{s:s, s:s, s:b, s:s, s:s}", "driver", "file", "node-name", "n0",
                                 "read-only", 1, "filename", binary, "aio", "io_uring");
        const char *argv[] = { binary,     "-M",   "none",     "-nodefaults", "-no-user-config",
                               "-display", "none", "-monitor", "stdio",       "-blockdev",
                               NULL,       NULL };

        if (!node)
                return false;
        text = cc_json_compact(node);
        json_decref(node);
        argv[CC_ARRAY_LEN(argv) - 2] = text;
        return cc_run(argv, "quit\n", 5, 65536, ASK_MS, &result, NULL) == 0 && result.status == 0;
}

static int ask_all(const char *binary, struct qemu_install *i, struct cc_err *err)
{
        CC_FREE char *version = NULL;
        CC_FREE char *machines = NULL;
        CC_FREE char *dirs = NULL;
        int major;
        int minor;
        int r = ask(binary, "--version", NULL, &version, err);

        if (r == 0)
                r = ask(binary, "-machine", "help", &machines, err);
        if (r == 0)
                r = ask(binary, "-L", "help", &dirs, err);
        if (r < 0)
                return cc_wrap(err, "qemu");
        if (qemu_version_parse(version, &i->version, &major, &minor) < 0)
                return cc_fail(err, CC_UNAVAILABLE, "qemu: %s does not look like QEMU: \"%.60s\"",
                               binary, version);
        if (major < QEMU_MIN_MAJOR || (major == QEMU_MIN_MAJOR && minor < QEMU_MIN_MINOR))
                return cc_fail(err, CC_UNAVAILABLE, "qemu: %s is version %s, need >= %d.%d", binary,
                               i->version, QEMU_MIN_MAJOR, QEMU_MIN_MINOR);
        i->machine = qemu_machine_parse(machines);
        if (!i->machine)
                return cc_fail(err, CC_UNAVAILABLE, "qemu: %s has no machine q35", binary);
        i->io_uring = ask_io_uring(binary);
        cc_split(dirs, "\n", &i->data_dirs);
        return 0;
}

/* True if the remembered answer is complete; then *i is, too. */
static bool recall(const struct hv_binary *b, const char *cache_dir, struct qemu_install *i)
{
        CC_JSON json_t *j = hv_binary_recall(b, cache_dir, CACHE_NAME);
        const char *version = NULL;
        const char *machine = NULL;
        const json_t *dirs;

        if (!j || cc_json_str(j, "version", &version, NULL) < 0 ||
            cc_json_str(j, "machine", &machine, NULL) < 0 ||
            cc_json_bool(j, "io_uring", &i->io_uring, NULL) < 0)
                return false;
        dirs = json_object_get(j, "data_dirs");
        if (!version || !machine || !machine_name_valid(machine, strlen(machine)) ||
            !json_is_array(dirs) || json_array_size(dirs) > MAX_DATADIRS)
                return false;
        for (size_t k = 0; k < json_array_size(dirs); k++)
                if (!json_is_string(json_array_get(dirs, k)))
                        return false;
        for (size_t k = 0; k < json_array_size(dirs); k++)
                cc_strv_add(&i->data_dirs, json_string_value(json_array_get(dirs, k)));
        i->version = xstrdup(version);
        i->machine = xstrdup(machine);
        return true;
}

static void remember(const struct hv_binary *b, const char *cache_dir, const struct qemu_install *i)
{
        json_t *dirs = json_array();
        CC_JSON json_t *j = NULL;

        for (size_t k = 0; k < i->data_dirs.len && k < MAX_DATADIRS; k++)
                json_array_append_new(dirs, json_string(i->data_dirs.v[k]));
        j = json_pack("{s:s, s:s, s:b, s:o}", "version", i->version, "machine", i->machine,
                      "io_uring", i->io_uring, "data_dirs", dirs);
        hv_binary_remember(b, cache_dir, CACHE_NAME, j);
}

int qemu_install_find(const char *binary, const char *cache_dir, struct qemu_install *ret,
                      struct cc_err *err)
{
        QEMU_INSTALL struct qemu_install i = { 0 };
        HV_BINARY struct hv_binary b = { 0 };
        int r = hv_binary_find("qemu", cc_isempty(binary) ? "qemu-system-x86_64" : binary,
                               "install qemu-system-x86 or set qemu_binary", &b, err);

        if (r < 0)
                return r;
        if (!recall(&b, cache_dir, &i)) {
                r = ask_all(b.path, &i, err);
                if (r < 0)
                        return r;
                remember(&b, cache_dir, &i);
        }
        i.binary = TAKE_PTR(b.path);
        *ret = i;
        i = (struct qemu_install){ 0 };
        return 0;
}

bool qemu_install_has_machine(const struct qemu_install *i, const char *machine)
{
        CC_FREE char *text = NULL;
        size_t n = strlen(machine);

        if (ask(i->binary, "-machine", "help", &text, NULL) < 0)
                return false;
        for (const char *p = text; *p;) {
                if (strncmp(p, machine, n) == 0 && p[n] == ' ')
                        return true;
                p += strcspn(p, "\n");
                p += *p == '\n';
        }
        return false;
}
