/*
 * Configuration: defaults < file < environment < flags, from one key table (cli.md §2). Loading
 * never touches the host; directories are created by those who use them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct config {
        char *root_dir, *run_dir, *log_dir;
        char *cni_conf_dir, *cni_bin_dir;
        int64_t cni_timeout_seconds;
        char *dns;                  /* as configured */
        struct cc_strv dns_servers; /* parsed and validated */
        bool dns_given;             /* by file, environment or flag, not by default */
        char *log_level;
        bool log_use_json;
        char *log_filename;
        int64_t log_max_size, log_max_age, log_max_backups;
        char *ch_binary, *fc_binary, *qemu_binary;
        bool use_firecracker;
        char *hypervisor; /* auto | cloud-hypervisor | firecracker | qemu */
        int64_t stop_timeout_seconds;
        int64_t pool_size;                   /* resolved: >= 1 */
        int64_t socket_wait_timeout_seconds; /* resolved: >= 1 */
        int64_t terminate_grace_period_seconds;
        int64_t pull_conns;
        char *cgroup_parent, *cgroup_cpus, *net_scope;
        char *qemu_accel;    /* auto | kvm | tcg */
        char *qemu_firmware; /* CODE[:VARS], "" search */
        char *qemu_bios;     /* "" search */
        bool qemu_balloon;
        struct cc_strv insecure_registries; /* hosts spoken to over plain http */
        int64_t layer_max_size;             /* bytes one layer may unpack to */
        int64_t cloudimg_max_size;          /* bytes of a cloud image, as sent and unpacked */
};

enum config_type {
        CONFIG_STR,  /* char * */
        CONFIG_BOOL, /* bool */
        CONFIG_INT,  /* int64_t */
        CONFIG_SIZE, /* int64_t bytes, with the suffixes of cli.md §3 */
        CONFIG_LIST, /* struct cc_strv; comma or semicolon separated, or a list in the file */
};

/* One row of the key table. */
struct config_key {
        const char *key;  /* "log.level" */
        const char *flag; /* "log-level", or NULL: file and environment only */
        const char *env;  /* "COCOON_LOG_LEVEL" */
        const char *fallback;
        const char *help;
        enum config_type type;
        size_t offset; /* in struct config */
};
extern const struct config_key config_keys[];
extern const size_t config_keys_len;

/* A value given by a global flag; an explicitly empty one counts as given. */
struct config_flag {
        const char *key;
        const char *value;
};

/* Load and validate. `file` NULL: none (no default file is searched); its extension decides the
 * format: .json, .yaml, .yml, .toml. Directories come out absolute. CC_INVALID with the texts of
 * cli.md §2; a file that cannot be read keeps its own class. */
int config_load(const char *file, const struct config_flag *flags, size_t n, struct config *ret,
                struct cc_err *err);
void config_clear(struct config *config); /* also the cleanup function */
#define CONFIG CC_CLEANUP(config_clear)
