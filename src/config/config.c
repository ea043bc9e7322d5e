/* The key table and what follows from it: defaults, file, environment, flags, validation. */
#include "config/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/size.h"
#include "config/file.h"

#define FILE_MAX (1u << 20)

/* clang-format off: one key a row reads as the table that it is. */
#define STR(m)  CONFIG_STR, offsetof(struct config, m)
#define BOOL(m) CONFIG_BOOL, offsetof(struct config, m)
#define INT(m)  CONFIG_INT, offsetof(struct config, m)
#define SIZE(m) CONFIG_SIZE, offsetof(struct config, m)
#define LIST(m) CONFIG_LIST, offsetof(struct config, m)

const struct config_key config_keys[] = {
        { "root_dir", "root-dir", "COCOON_ROOT_DIR", "/var/lib/cocoon",
          "directory of records, images and snapshots", STR(root_dir) },
        { "run_dir", "run-dir", "COCOON_RUN_DIR", "/var/lib/cocoon/run",
          "directory of sockets and disks of VMs", STR(run_dir) },
        { "log_dir", "log-dir", "COCOON_LOG_DIR", "/var/log/cocoon", "directory of hypervisor logs",
          STR(log_dir) },
        { "cni_conf_dir", "cni-conf-dir", "COCOON_CNI_CONF_DIR", "/etc/cni/net.d",
          "directory of CNI network lists", STR(cni_conf_dir) },
        { "cni_bin_dir", "cni-bin-dir", "COCOON_CNI_BIN_DIR", "/opt/cni/bin",
          "directory of CNI plugins", STR(cni_bin_dir) },
        { "cni_timeout_seconds", NULL, "COCOON_CNI_TIMEOUT_SECONDS", "120",
          "how long one run of a CNI plugin may take", INT(cni_timeout_seconds) },
        { "dns", "dns", "COCOON_DNS", "8.8.8.8,1.1.1.1", "DNS servers of guests", STR(dns) },
        { "log.level", "log-level", "COCOON_LOG_LEVEL", "info", "least severity that is logged",
          STR(log_level) },
        { "log.use_json", NULL, "COCOON_LOG_USE_JSON", "false", "log JSON lines",
          BOOL(log_use_json) },
        { "log.filename", NULL, "COCOON_LOG_FILENAME", "",
          "log to this file (JSON, rotated), not to stderr", STR(log_filename) },
        { "log.max_size", NULL, "COCOON_LOG_MAX_SIZE", "500",
          "megabytes before the log file is rotated", INT(log_max_size) },
        { "log.max_age", NULL, "COCOON_LOG_MAX_AGE", "28", "days that rotated log files are kept",
          INT(log_max_age) },
        { "log.max_backups", NULL, "COCOON_LOG_MAX_BACKUPS", "3", "rotated log files that are kept",
          INT(log_max_backups) },
        { "ch_binary", NULL, "COCOON_CH_BINARY", "cloud-hypervisor", "cloud-hypervisor program",
          STR(ch_binary) },
        { "fc_binary", NULL, "COCOON_FC_BINARY", "firecracker", "firecracker program",
          STR(fc_binary) },
        { "qemu_binary", NULL, "COCOON_QEMU_BINARY", "qemu-system-x86_64", "QEMU program",
          STR(qemu_binary) },
        { "use_firecracker", NULL, "COCOON_USE_FIRECRACKER", "false",
          "create VMs on firecracker unless told otherwise", BOOL(use_firecracker) },
        { "hypervisor", NULL, "COCOON_HYPERVISOR", "auto",
          "driver of new VMs: auto, cloud-hypervisor, firecracker, qemu", STR(hypervisor) },
        { "stop_timeout_seconds", NULL, "COCOON_STOP_TIMEOUT_SECONDS", "30",
          "how long a guest may take to shut down", INT(stop_timeout_seconds) },
        { "pool_size", NULL, "COCOON_POOL_SIZE", "0", "VMs handled in parallel (0: one a CPU)",
          INT(pool_size) },
        { "socket_wait_timeout_seconds", NULL, "COCOON_SOCKET_WAIT_TIMEOUT_SECONDS", "5",
          "how long a hypervisor may take to answer, each phase",
          INT(socket_wait_timeout_seconds) },
        { "terminate_grace_period_seconds", NULL, "COCOON_TERMINATE_GRACE_PERIOD_SECONDS", "5",
          "time between SIGTERM and SIGKILL", INT(terminate_grace_period_seconds) },
        { "pull_conns", NULL, "COCOON_PULL_CONNS", "8", "connections per download (at most 64)",
          INT(pull_conns) },
        { "cgroup_parent", NULL, "COCOON_CGROUP_PARENT", "cocoon.slice",
          "cgroup that holds the scopes of VMs", STR(cgroup_parent) },
        { "cgroup_cpus", NULL, "COCOON_CGROUP_CPUS", "",
          "CPUs that VMs may use (kernel list format)", STR(cgroup_cpus) },
        { "net_scope", NULL, "COCOON_NET_SCOPE", "",
          "two characters that separate interface names of two roots", STR(net_scope) },
        { "qemu_accel", NULL, "COCOON_QEMU_ACCEL", "auto", "QEMU accelerator: auto, kvm, tcg",
          STR(qemu_accel) },
        { "qemu_firmware", NULL, "COCOON_QEMU_FIRMWARE", "",
          "UEFI firmware CODE[:VARS] (empty: searched)", STR(qemu_firmware) },
        { "qemu_bios", NULL, "COCOON_QEMU_BIOS", "", "SeaBIOS image (empty: searched)",
          STR(qemu_bios) },
        { "qemu_balloon", NULL, "COCOON_QEMU_BALLOON", "false", "give QEMU guests a balloon",
          BOOL(qemu_balloon) },
        { "insecure_registries", NULL, "COCOON_INSECURE_REGISTRIES", "",
          "registries spoken to over plain http", LIST(insecure_registries) },
        { "layer_max_size", NULL, "COCOON_LAYER_MAX_SIZE", "8G",
          "size that one image layer may unpack to", SIZE(layer_max_size) },
        { "cloudimg_max_size", NULL, "COCOON_CLOUDIMG_MAX_SIZE", "20G",
          "size that a cloud image may have, also unpacked", SIZE(cloudimg_max_size) },
};
/* clang-format on */
const size_t config_keys_len = CC_ARRAY_LEN(config_keys);

/* The winning text of every key so far, and where it came from for messages. */
struct values {
        char *text[CC_ARRAY_LEN(config_keys)];
        const char *origin[CC_ARRAY_LEN(config_keys)];
        bool given[CC_ARRAY_LEN(config_keys)]; /* by anything but the table */
};

static void values_free(struct values *v)
{
        for (size_t i = 0; i < config_keys_len; i++)
                free(v->text[i]);
}

static void *at(const struct config *c, const struct config_key *k)
{
        return (char *)(uintptr_t)c + k->offset;
}

void config_clear(struct config *config)
{
        for (size_t i = 0; i < config_keys_len; i++) {
                if (config_keys[i].type == CONFIG_STR)
                        free(*(char **)at(config, config_keys + i));
                else if (config_keys[i].type == CONFIG_LIST)
                        cc_strv_free(at(config, config_keys + i));
        }
        cc_strv_free(&config->dns_servers);
        *config = (struct config){ 0 };
}

/* ---- sources ---- */

/* "LogLevel" = "log_level": case and underscores do not count, dots do. */
static bool same_key(const char *a, const char *b)
{
        for (;; a++, b++) {
                while (*a == '_')
                        a++;
                while (*b == '_')
                        b++;
                if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
                        return false;
                if (!*a)
                        return true;
        }
}

static int from_file(void *ctx, const char *key, const char *value, struct cc_err *err)
{
        struct values *v = ctx;

        for (size_t i = 0; i < config_keys_len; i++)
                if (same_key(config_keys[i].key, key)) {
                        if (!value)
                                return cc_fail(err, CC_INVALID, "%s: a plain value is expected",
                                               key);
                        cc_strset(&v->text[i], value);
                        v->origin[i] = config_keys[i].key;
                        v->given[i] = true;
                }
        return 0;
}

static int read_file(const char *path, struct values *v, struct cc_err *err)
{
        const char *dot = strrchr(cc_basename(path), '.');
        CC_FREE char *text = NULL;
        size_t n;
        int r;

        if (!dot || (strcasecmp(dot, ".json") && strcasecmp(dot, ".yaml") &&
                     strcasecmp(dot, ".yml") && strcasecmp(dot, ".toml")))
                return cc_fail(err, CC_INVALID,
                               "read config: %s: unknown format (use .json, .yaml, .yml or .toml)",
                               path);
        r = cc_read_file(path, FILE_MAX, &text, &n, err);
        if (r < 0)
                return cc_wrap(err, "read config");
        if (strcasecmp(dot, ".toml") == 0)
                r = config_read_toml(text, n, from_file, v, err);
        else
                r = config_read_yaml(text, n, from_file, v, err);
        return r < 0 ? cc_wrap(err, "read config: %s", path) : 0;
}

static int collect(const char *file, const struct config_flag *flags, size_t n, struct values *v,
                   struct cc_err *err)
{
        for (size_t i = 0; i < config_keys_len; i++) {
                v->text[i] = xstrdup(config_keys[i].fallback);
                v->origin[i] = config_keys[i].key;
        }
        if (file) {
                int r = read_file(file, v, err);

                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < config_keys_len; i++) {
                const char *value = getenv(config_keys[i].env);

                if (cc_isempty(value))
                        continue;
                cc_strset(&v->text[i], value);
                v->origin[i] = config_keys[i].env;
                v->given[i] = true;
        }
        for (size_t f = 0; f < n; f++)
                for (size_t i = 0; i < config_keys_len; i++)
                        if (strcmp(config_keys[i].key, flags[f].key) == 0) {
                                cc_strset(&v->text[i], flags[f].value);
                                v->origin[i] = config_keys[i].key;
                                v->given[i] = true;
                        }
        return 0;
}

/* ---- values ---- */

static int parse_bool(const char *s, bool *ret)
{
        static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
        static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };

        for (size_t i = 0; i < CC_ARRAY_LEN(yes); i++) {
                if (strcmp(s, yes[i]) == 0) {
                        *ret = true;
                        return 0;
                }
                if (strcmp(s, no[i]) == 0) {
                        *ret = false;
                        return 0;
                }
        }
        return -CC_INVALID;
}

static int convert(const struct config_key *k, const char *text, const char *origin,
                   struct config *c, struct cc_err *err)
{
        void *p = at(c, k);
        const char *kind = NULL;
        long long number;

        if (!cc_utf8_valid(text, strlen(text)))
                return cc_fail(err, CC_INVALID, "parse config: %s: not valid UTF-8", origin);
        switch (k->type) {
        case CONFIG_STR:
                *(char **)p = xstrdup(text);
                break;
        case CONFIG_LIST:
                cc_split(text, ",; \t", p);
                break;
        case CONFIG_BOOL:
                if (parse_bool(text, p) < 0)
                        kind = "boolean";
                break;
        case CONFIG_INT:
                /* The bound lets users of seconds and megabytes multiply without a thought. */
                if (cc_parse_i64(text, &number) < 0 || number > 1000000000 || number < -1000000000)
                        kind = "integer";
                else
                        *(int64_t *)p = number;
                break;
        case CONFIG_SIZE:
                if (cc_size_parse(text, p) < 0)
                        kind = "size";
                break;
        }
        if (kind)
                return cc_fail(err, CC_INVALID, "parse config: %s: invalid %s \"%s\"", origin, kind,
                               text);
        return 0;
}

/* ---- validation ---- */

static int parse_dns(struct config *c, struct cc_err *err)
{
        const char *server;

        cc_split(c->dns, ",;", &c->dns_servers);
        cc_strv_foreach (&c->dns_servers, i, server) {
                unsigned char addr[sizeof(struct in6_addr)];

                if (inet_pton(AF_INET, server, addr) != 1 && inet_pton(AF_INET6, server, addr) != 1)
                        return cc_fail(err, CC_INVALID,
                                       "config: dns: invalid DNS server address \"%s\"", server);
        }
        return 0;
}

static int one_of(const char *key, const char *value, const char *const *names, size_t n,
                  struct cc_err *err)
{
        CC_BUF struct cc_buf all = { 0 };
        const char *close;

        for (size_t i = 0; i < n; i++) {
                if (strcmp(names[i], value) == 0)
                        return 0;
                cc_buf_printf(&all, "%s%s", i ? ", " : "", names[i]);
        }
        cc_fail(err, CC_INVALID, "config: %s must be one of %s, got \"%s\"", key, all.data, value);
        close = cc_closest(value, names, n);
        if (close)
                cc_hint(err, "did you mean \"%s\"?", close);
        return -CC_INVALID;
}

/* Kernel list format: "0-3,8,10-11". */
static bool is_cpu_list(const char *s)
{
        while (*s) {
                unsigned long first, last;
                char *end;

                if (!isdigit((unsigned char)*s))
                        return false;
                first = last = strtoul(s, &end, 10);
                if (*end == '-') {
                        s = end + 1;
                        if (!isdigit((unsigned char)*s))
                                return false;
                        last = strtoul(s, &end, 10);
                }
                if (last < first || last > 65535 || (*end && *end != ','))
                        return false;
                s = end + (*end == ',');
                if (*end == ',' && !*s)
                        return false;
        }
        return true;
}

static bool is_net_scope(const char *s)
{
        if (!*s)
                return true;
        return strlen(s) == 2 && isalnum((unsigned char)s[0]) && isalnum((unsigned char)s[1]) &&
               strcmp(s, "bt") != 0 && strcmp(s, "rm") != 0;
}

/* Absolute, without trailing or double slashes: records store these paths for good. */
static int absolute_dir(const char *key, char **dir, struct cc_err *err)
{
        CC_FREE char *cwd = NULL;
        CC_FREE char *joined = NULL;
        char *w;

        if (!**dir)
                return cc_fail(err, CC_INVALID, "config: %s must not be empty", key);
        for (const char *p = *dir; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return cc_fail(err, CC_INVALID, "config: %s has a control character", key);
        if (**dir == '/') {
                joined = xstrdup(*dir);
        } else {
                cwd = getcwd(NULL, 0);
                if (!cwd)
                        return cc_fail(err, CC_IO,
                                       "config: %s is relative and the working "
                                       "directory is gone",
                                       key);
                joined = cc_path_join(cwd, *dir);
        }
        w = joined;
        for (const char *p = joined; *p;) {
                if (p[0] == '/' && (p[1] == '/' || p[1] == '\0'))
                        p++;
                else if (p[0] == '/' && p[1] == '.' && (p[2] == '/' || p[2] == '\0'))
                        p += 2;
                else
                        *w++ = *p++;
        }
        if (w == joined)
                *w++ = '/';
        *w = '\0';
        cc_strset(dir, joined);
        return 0;
}

static int64_t cpu_count(void)
{
        cpu_set_t set;

        /* What this process may use, like nproc(1). */
        if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) < 1)
                return 1;
        return CPU_COUNT(&set);
}

static int validate(struct config *c, struct cc_err *err)
{
        static const char *const levels[] = { "trace", "debug", "info",  "warn",
                                              "error", "fatal", "panic", "disabled" };
        static const char *const drivers[] = { "auto", "cloud-hypervisor", "firecracker", "qemu" };
        static const char *const accels[] = { "auto", "kvm", "tcg" };
        enum cc_log_level level;
        int r;

        if ((r = absolute_dir("root_dir", &c->root_dir, err)) < 0 ||
            (r = absolute_dir("run_dir", &c->run_dir, err)) < 0 ||
            (r = absolute_dir("log_dir", &c->log_dir, err)) < 0 || (r = parse_dns(c, err)) < 0)
                return r;
        if (cc_log_level_parse(c->log_level, &level) < 0)
                return one_of("log.level", c->log_level, levels, CC_ARRAY_LEN(levels), err);
        if ((r = one_of("hypervisor", c->hypervisor, drivers, CC_ARRAY_LEN(drivers), err)) < 0 ||
            (r = one_of("qemu_accel", c->qemu_accel, accels, CC_ARRAY_LEN(accels), err)) < 0)
                return r;
        if (c->stop_timeout_seconds <= 0)
                return cc_fail(err, CC_INVALID,
                               "config: stop_timeout_seconds must be > 0, got %lld",
                               (long long)c->stop_timeout_seconds);
        if (c->layer_max_size <= 0)
                return cc_fail(err, CC_INVALID, "config: layer_max_size must be > 0, got %lld",
                               (long long)c->layer_max_size);
        if (c->cloudimg_max_size <= 0)
                return cc_fail(err, CC_INVALID, "config: cloudimg_max_size must be > 0, got %lld",
                               (long long)c->cloudimg_max_size);
        if (!is_cpu_list(c->cgroup_cpus))
                return cc_fail(err, CC_INVALID, "config: cgroup_cpus: invalid CPU list \"%s\"",
                               c->cgroup_cpus);
        if (!is_net_scope(c->net_scope))
                return cc_fail(err, CC_INVALID,
                               "config: net_scope must be two letters or digits other than bt and "
                               "rm, got \"%s\"",
                               c->net_scope);
        if (c->cni_timeout_seconds <= 0)
                c->cni_timeout_seconds = 120;
        if (c->cni_timeout_seconds > 86400)
                c->cni_timeout_seconds = 86400;
        if (c->pool_size <= 0)
                c->pool_size = cpu_count();
        if (c->socket_wait_timeout_seconds <= 0)
                c->socket_wait_timeout_seconds = 5;
        if (c->terminate_grace_period_seconds <= 0)
                c->terminate_grace_period_seconds = 5;
        if (c->pull_conns <= 0)
                c->pull_conns = 8;
        if (c->pull_conns > 64)
                c->pull_conns = 64;
        return 0;
}

int config_load(const char *file, const struct config_flag *flags, size_t n, struct config *ret,
                struct cc_err *err)
{
        CC_CLEANUP(values_free) struct values values = { 0 };
        CONFIG struct config c = { 0 };
        int r = collect(file, flags, n, &values, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < config_keys_len; i++) {
                r = convert(config_keys + i, values.text[i], values.origin[i], &c, err);
                if (r < 0)
                        return r;
                if (config_keys[i].offset == offsetof(struct config, dns))
                        c.dns_given = values.given[i];
        }
        r = validate(&c, err);
        if (r < 0)
                return r;
        *ret = c;
        c = (struct config){ 0 };
        return 0;
}
