/*
 * Is a directory a snapshot that we would load? It may come from anywhere, and what loads it runs
 * with all privileges and opens every path that config.json names. So everything in it that names a
 * file is compared with what we know, replaced at load (load.c), or refused.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/ch/ch.h"
#include "hv/ch/install.h"

#define MAX_CONFIG ((size_t)4 << 20)
#define MAX_STATE  ((size_t)64 << 20)

int ch_read_config(const char *dir, json_t **ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, CH_CONFIG_JSON);
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = NULL;
        size_t n;
        int r;

        if (!cc_is_valid_file(path))
                return cc_fail(err, CC_CORRUPT, "snapshot: %s is missing", CH_CONFIG_JSON);
        r = cc_read_file(path, MAX_CONFIG, &text, &n, err);
        if (r == 0)
                r = cc_json_parse(text, n, "snapshot: " CH_CONFIG_JSON, &j, err);
        if (r < 0)
                return r;
        if (!json_is_object(j))
                return cc_fail(err, CC_INVALID, "snapshot: %s is no object", CH_CONFIG_JSON);
        *ret = TAKE_PTR(j);
        return 0;
}

static int bad(struct cc_err *err, const char *fmt, ...) CC_PRINTF(2, 3);
static int bad(struct cc_err *err, const char *fmt, ...)
{
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        return cc_fail(err, CC_INVALID, "snapshot: %s: %s", CH_CONFIG_JSON, text);
}

/* Absent, null, false, "" or []: older and newer versions say "nothing" differently. */
static bool is_nothing(const json_t *j)
{
        return !j || json_is_null(j) || json_is_false(j) ||
               (json_is_string(j) && json_string_length(j) == 0) ||
               (json_is_array(j) && json_array_size(j) == 0);
}

/* Members that would make the VMM open or connect to something of the author's choice. */
static int check_nothing(const json_t *obj, const char *what, const char *const *keys,
                         struct cc_err *err)
{
        for (; *keys; keys++)
                if (!is_nothing(json_object_get(obj, *keys)))
                        return bad(err, "%s has \"%s\"", what, *keys);
        return 0;
}

static int check_int(const json_t *obj, const char *what, const char *key, int64_t want,
                     struct cc_err *err)
{
        const json_t *j = json_object_get(obj, key);

        if (!json_is_integer(j) || json_integer_value(j) != want)
                return bad(err, "%s.%s is not %lld, as the snapshot's record says", what, key,
                           (long long)want);
        return 0;
}

static int check_machine(const json_t *config, const struct hv_snapshot *snap, struct cc_err *err)
{
        static const char *const foreign[] = {
                "fs",  "pmem",    "devices", "user_devices",  "vdpa", "ivshmem",
                "tpm", "sgx_epc", "net_fds", "preserved_fds", NULL
        };
        static const char *const zones[] = { "zones", NULL };
        static const char *const images[] = { "igvm", NULL };
        const json_t *memory = json_object_get(config, "memory");
        const json_t *debug = json_object_get(config, "debug_console");
        const char *rng = json_string_value(json_object_get(json_object_get(config, "rng"), "src"));
        const char *mode = json_string_value(json_object_get(debug, "mode"));
        int r = check_nothing(config, "the machine", foreign, err);

        if (r == 0)
                r = check_nothing(memory, "memory", zones, err);
        if (r == 0)
                r = check_nothing(json_object_get(config, "payload"), "payload", images, err);
        if (r == 0)
                r = check_int(json_object_get(config, "cpus"), "cpus", "boot_vcpus", snap->cpu,
                              err);
        if (r == 0)
                r = check_int(memory, "memory", "size", snap->memory, err);
        if (r < 0)
                return r;
        if (json_is_true(json_object_get(memory, "shared")) != snap->shared_memory)
                return bad(err, "memory.shared is not what the snapshot's record says");
        if (rng && !cc_streq(rng, "/dev/urandom"))
                return bad(err, "rng.src is %s", rng);
        if (mode && !cc_streq(mode, "Off"))
                return bad(err, "debug_console.mode is %s", mode);
        return 0;
}

static int check_disk(const json_t *disk, const struct hv_disk *want, size_t i, struct cc_err *err)
{
        static const char *const sockets[] = { "vhost_user", "vhost_socket", NULL };
        const char *path = json_string_value(json_object_get(disk, "path"));
        const char *type = json_string_value(json_object_get(disk, "image_type"));
        const char *serial = json_string_value(json_object_get(disk, "serial"));
        const json_t *queues = json_object_get(disk, "num_queues");
        bool qcow2 = cc_streq(want->format, "qcow2");

        if (!cc_streq(path, want->path) ||
            json_is_true(json_object_get(disk, "readonly")) != want->ro)
                return bad(err, "disk %zu is not that of the sidecar, %s", i, want->path);
        if (!cc_streq(serial ? serial : "", want->serial ? want->serial : ""))
                return bad(err, "disk %zu has serial \"%s\"", i, serial ? serial : "");
        /* A raw disk opened as qcow2 could name any file as its backing file. */
        if (!cc_streq(type, qcow2 ? "Qcow2" : "Raw") ||
            (!qcow2 && json_is_true(json_object_get(disk, "backing_files"))))
                return bad(err, "disk %zu has image type %s", i, type ? type : "(none)");
        if (queues && (!json_is_integer(queues) || json_integer_value(queues) < 1 ||
                       json_integer_value(queues) > CH_VCPUS_MAX))
                return bad(err, "disk %zu has no sound number of queues", i);
        return check_nothing(disk, "a disk", sockets, err);
}

static int check_disks(const json_t *config, const struct hv_snapshot *snap, struct cc_err *err)
{
        const json_t *disks = json_object_get(config, "disks");
        int r = 0;

        if (json_array_size(disks) != snap->n_disks)
                return bad(err, "%zu disks, the sidecar has %zu", json_array_size(disks),
                           snap->n_disks);
        for (size_t i = 0; i < snap->n_disks && r == 0; i++)
                r = check_disk(json_array_get(disks, i), &snap->disks[i], i, err);
        return r;
}

static bool is_mac(const char *s)
{
        for (size_t i = 0; i < 17; i++)
                if (i % 3 == 2 ? s[i] != ':' : !isxdigit((unsigned char)s[i]))
                        return false;
        return s[17] == '\0';
}

static int check_nets(const json_t *config, const struct hv_snapshot *snap,
                      struct cc_strv *ret_macs, struct cc_err *err)
{
        static const char *const sockets[] = { "vhost_user", "vhost_socket", "fds", NULL };
        const json_t *nets = json_object_get(config, "net");
        int r = 0;

        if (json_array_size(nets) != snap->n_nics)
                return bad(err, "%zu NICs, the snapshot's record says %zu", json_array_size(nets),
                           snap->n_nics);
        for (size_t i = 0; i < snap->n_nics && r == 0; i++) {
                const json_t *net = json_array_get(nets, i);
                const char *mac = json_string_value(json_object_get(net, "mac"));

                if (!mac || !is_mac(mac))
                        return bad(err, "NIC %zu has no MAC", i);
                r = check_nothing(net, "a NIC", sockets, err);
                if (ret_macs)
                        cc_strv_add(ret_macs, mac);
        }
        return r;
}

/* A cut-off state.json must be noticed here: later the machine it would replace is gone. Numbers
 * are read as reals only because they may have 64 bits without a sign. */
static int check_state(const char *dir, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, CH_STATE_JSON);
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = NULL;
        json_error_t why;
        size_t n;
        int r;

        if (!cc_is_valid_file(path))
                return cc_fail(err, CC_CORRUPT, "snapshot: %s is missing", CH_STATE_JSON);
        r = cc_read_file(path, MAX_STATE, &text, &n, err);
        if (r < 0)
                return r;
        j = json_loadb(text, n, JSON_DECODE_INT_AS_REAL, &why);
        return j ? 0
                 : cc_fail(err, CC_CORRUPT, "snapshot: %s is damaged: %s", CH_STATE_JSON, why.text);
}

static int check_memory(const struct hv_snapshot *snap, struct cc_err *err)
{
        CC_DIR DIR *d = opendir(snap->dir);
        const struct dirent *e;
        int64_t total = 0;

        if (!d)
                return cc_fail_errno(err, errno, "open %s", snap->dir);
        while ((e = readdir(d))) {
                struct stat st;

                if (ch_classify(e->d_name) != HV_FILE_MEMORY)
                        continue;
                if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return cc_fail_errno(err, errno, "stat %s/%s", snap->dir, e->d_name);
                if (!S_ISREG(st.st_mode))
                        return cc_fail(err, CC_INVALID, "snapshot: %s is no regular file",
                                       e->d_name);
                total += st.st_size;
        }
        if (total < snap->memory)
                return cc_fail(err, CC_CORRUPT,
                               "snapshot: %lld bytes of memory are there, the machine has %lld",
                               (long long)total, (long long)snap->memory);
        return 0;
}

static void compare_version(const json_t *sidecar, const struct ch_install *install)
{
        const char *made = json_string_value(json_object_get(sidecar, CH_SIDECAR_VERSION));
        size_t n = strspn(install->version, "0123456789.");

        /* "53.0" is what --version says of what vmm.ping calls "53.0.0". */
        if (made && n &&
            (strncmp(made, install->version, n) != 0 || isdigit((unsigned char)made[n])))
                cc_warn("ch.load", "the snapshot was made by cloud-hypervisor %s, installed is %s",
                        made, install->version);
}

int ch_preflight(const struct hv_env *env, const struct hv_snapshot *snap, const json_t *sidecar,
                 struct cc_strv *ret_macs, struct cc_err *err)
{
        CH_INSTALL struct ch_install install = { 0 };
        CC_STRV struct cc_strv macs = { 0 };
        CC_JSON json_t *config = NULL;
        int r = ch_install_find(env->binary, env->cache_dir, &install, err);

        if (r == 0)
                r = ch_read_config(snap->dir, &config, err);
        if (r == 0)
                r = check_machine(config, snap, err);
        if (r == 0)
                r = check_disks(config, snap, err);
        if (r == 0)
                r = check_nets(config, snap, &macs, err);
        if (r == 0)
                r = check_state(snap->dir, err);
        if (r == 0)
                r = check_memory(snap, err);
        if (r < 0)
                return r;
        compare_version(sidecar, &install);
        if (ret_macs)
                cc_strv_copy(ret_macs, &macs);
        return 0;
}
