#include "cli.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "model.h"
#include "options.h"

enum arity { NONE, ONE, MANY, MAYBE };

enum group { VM, PAYLOAD, VMM, OTHER };

struct flag {
        const char *name;
        enum arity arity;
        enum group group;
        const struct ch_option *options; /* NULL: the value is no option string */
        const struct ch_object *object;
        const char *member; /* of VmConfig */
};

#define WORDS(...)                                                                                 \
        .words = (const char *const[])                                                             \
        {                                                                                          \
                __VA_ARGS__, NULL                                                                  \
        }
#define PCI                                                                                        \
        { "id", CH_OPT_TEXT }, { "iommu", CH_OPT_TOGGLE }, { "pci_segment", CH_OPT_NUMBER },       \
        {                                                                                          \
                "pci_device_id", CH_OPT_NUMBER                                                     \
        }

/* clang-format off */
static const struct ch_option disk_options[] = {
        { "path", CH_OPT_TEXT }, { "readonly", CH_OPT_TOGGLE }, { "direct", CH_OPT_TOGGLE },
        { "queue_size", CH_OPT_NUMBER }, { "num_queues", CH_OPT_NUMBER },
        { "vhost_user", CH_OPT_TOGGLE }, { "socket", CH_OPT_TEXT, "vhost_socket" },
        { "bw_size", CH_OPT_FOREIGN }, { "bw_one_time_burst", CH_OPT_FOREIGN },
        { "bw_refill_time", CH_OPT_FOREIGN }, { "ops_size", CH_OPT_FOREIGN },
        { "ops_one_time_burst", CH_OPT_FOREIGN }, { "ops_refill_time", CH_OPT_FOREIGN },
        { "_disable_io_uring", CH_OPT_TOGGLE, "disable_io_uring" },
        { "_disable_aio", CH_OPT_TOGGLE, "disable_aio" }, { "serial", CH_OPT_TEXT },
        { "rate_limit_group", CH_OPT_TEXT }, { "queue_affinity", CH_OPT_AFFINITY },
        { "backing_files", CH_OPT_TOGGLE }, { "sparse", CH_OPT_TOGGLE },
        { "image_type", CH_OPT_WORD, WORDS("raw", "Raw", "qcow2", "Qcow2", "vhd", "FixedVhd", "vhdx", "Vhdx") },
        { "lock_granularity", CH_OPT_WORD, WORDS("byte-range", "ByteRange", "full", "Full") },
        PCI, { 0 },
};
static const struct ch_option net_options[] = {
        { "tap", CH_OPT_TEXT }, { "ip", CH_OPT_TEXT }, { "mask", CH_OPT_TEXT },
        { "mac", CH_OPT_MAC }, { "host_mac", CH_OPT_MAC }, { "offload_tso", CH_OPT_TOGGLE },
        { "offload_ufo", CH_OPT_TOGGLE }, { "offload_csum", CH_OPT_TOGGLE }, { "mtu", CH_OPT_NUMBER },
        { "queue_size", CH_OPT_NUMBER }, { "num_queues", CH_OPT_NUMBER },
        { "vhost_user", CH_OPT_TOGGLE }, { "socket", CH_OPT_TEXT, "vhost_socket" },
        { "vhost_mode", CH_OPT_WORD, WORDS("client", "Client", "server", "Server") },
        { "fd", CH_OPT_FOREIGN }, { "bw_size", CH_OPT_FOREIGN },
        { "bw_one_time_burst", CH_OPT_FOREIGN }, { "bw_refill_time", CH_OPT_FOREIGN },
        { "ops_size", CH_OPT_FOREIGN }, { "ops_one_time_burst", CH_OPT_FOREIGN },
        { "ops_refill_time", CH_OPT_FOREIGN }, PCI, { 0 },
};
static const struct ch_option cpus_options[] = {
        { "boot", CH_OPT_NUMBER, "boot_vcpus" }, { "max", CH_OPT_NUMBER, "max_vcpus" },
        { "topology", CH_OPT_FOREIGN }, { "kvm_hyperv", CH_OPT_TOGGLE },
        { "max_phys_bits", CH_OPT_NUMBER }, { "affinity", CH_OPT_FOREIGN },
        { "features", CH_OPT_FOREIGN }, { "nested", CH_OPT_TOGGLE },
        { "core_scheduling", CH_OPT_WORD, WORDS("vm", "Vm", "vcpu", "Vcpu", "off", "Off") },
        { "profile", CH_OPT_WORD, WORDS("host", "Host") }, { 0 },
};
static const struct ch_option memory_options[] = {
        { "size", CH_OPT_SIZE }, { "file", CH_OPT_FOREIGN }, { "mergeable", CH_OPT_TOGGLE },
        { "hotplug_method", CH_OPT_WORD, WORDS("acpi", "Acpi", "virtio-mem", "VirtioMem") },
        { "hotplug_size", CH_OPT_SIZE }, { "hotplugged_size", CH_OPT_SIZE },
        { "shared", CH_OPT_TOGGLE }, { "hugepages", CH_OPT_TOGGLE }, { "hugepage_size", CH_OPT_SIZE },
        { "prefault", CH_OPT_TOGGLE }, { "reserve", CH_OPT_TOGGLE }, { "thp", CH_OPT_TOGGLE }, { 0 },
};
static const struct ch_option rng_options[] = { { "src", CH_OPT_TEXT }, PCI, { 0 } };
static const struct ch_option rtc_options[] = { PCI, { 0 } };
static const struct ch_option balloon_options[] = {
        { "size", CH_OPT_SIZE }, { "deflate_on_oom", CH_OPT_TOGGLE },
        { "free_page_reporting", CH_OPT_TOGGLE }, PCI, { 0 },
};
static const struct ch_option fs_options[] = {
        { "tag", CH_OPT_TEXT }, { "queue_size", CH_OPT_NUMBER }, { "num_queues", CH_OPT_NUMBER },
        { "socket", CH_OPT_TEXT }, { "id", CH_OPT_TEXT }, { "pci_segment", CH_OPT_NUMBER },
        { "pci_device_id", CH_OPT_NUMBER }, { 0 },
};
static const struct ch_option vsock_options[] = {
        { "socket", CH_OPT_TEXT }, { "cid", CH_OPT_NUMBER }, PCI, { 0 },
};
static const struct ch_option device_options[] = {
        { "path", CH_OPT_TEXT }, { "fd", CH_OPT_FOREIGN }, PCI,
        { "x_nv_gpudirect_clique", CH_OPT_NUMBER }, { "x_exclude_mmap_bars", CH_OPT_FOREIGN }, { 0 },
};
#define CONSOLE_MODES                                                                              \
        { "off", CH_OPT_FLAG, "mode", .json = "Off" }, { "pty", CH_OPT_FLAG, "mode", .json = "Pty" }, \
        { "tty", CH_OPT_FLAG, "mode", .json = "Tty" }, { "null", CH_OPT_FLAG, "mode", .json = "Null" }, \
        { "file", CH_OPT_TEXT }, { "socket", CH_OPT_TEXT }
static const struct ch_option serial_options[] = { CONSOLE_MODES, { 0 } };
static const struct ch_option console_options[] = { CONSOLE_MODES, PCI, { 0 } };
static const struct ch_option restore_options[] = {
        { "source_url", CH_OPT_TEXT }, { "prefault", CH_OPT_TOGGLE },
        { "memory_restore_mode", CH_OPT_WORD, WORDS("copy", "Copy", "ondemand", "OnDemand") },
        { "net_fds", CH_OPT_FOREIGN }, { "resume", CH_OPT_TOGGLE }, { 0 },
};

/* In the order of the real thing's table. Flags without member or meaning here are taken and
 * ignored when they cannot change what the API shows, and refused otherwise (foreign). */
static const struct flag flags[] = {
        { "api-socket", ONE, VMM }, { "balloon", ONE, VM, balloon_options, NULL, "balloon" },
        { "cmdline", ONE, VM }, { "console", ONE, VM, console_options, NULL, "console" },
        { "cpus", ONE, VM, cpus_options, NULL, "cpus" }, { "debug-console", ONE, VM },
        { "device", MANY, VM, device_options, &ch_device, "devices" },
        { "disk", MANY, VM, disk_options, &ch_disk, "disks" }, { "event-monitor", ONE, VMM },
        { "firmware", ONE, PAYLOAD }, { "fs", MANY, VM, fs_options, &ch_fs, "fs" },
        { "generic-vhost-user", MANY, VM }, { "initramfs", ONE, VM }, { "kernel", ONE, PAYLOAD },
        { "landlock", NONE, VM }, { "landlock-rules", MANY, VM }, { "log-file", ONE, OTHER },
        { "log-format", ONE, OTHER }, { "memory", ONE, VM, memory_options, NULL, "memory" },
        { "memory-zone", MANY, VM }, { "net", MANY, VM, net_options, &ch_net, "net" },
        { "no-shutdown", NONE, VMM }, { "numa", MANY, VM }, { "pci-segment", MANY, VM },
        { "platform", ONE, VM }, { "pmem", MANY, VM }, { "pvpanic", NONE, VM },
        { "rate-limit-group", MANY, VM }, { "restore", ONE, VMM },
        { "rng", ONE, VM, rng_options, NULL, "rng" }, { "rtc", MAYBE, VM, rtc_options, NULL, "rtc" },
        { "seccomp", ONE, OTHER }, { "serial", ONE, VM, serial_options, NULL, "serial" },
        { "tpm", ONE, VM }, { "user-device", MANY, VM }, { "v", NONE, OTHER },
        { "vdpa", MANY, VM }, { "version", NONE, OTHER },
        { "vsock", ONE, VM, vsock_options, &ch_vsock, "vsock" }, { "watchdog", NONE, VM },
};
static const char *const foreign[] = { "debug-console", "generic-vhost-user", "landlock-rules",
        "memory-zone", "numa", "pci-segment", "platform", "pmem", "rate-limit-group", "tpm",
        "user-device", "vdpa" };
/* clang-format on */

_Static_assert(CC_ARRAY_LEN(flags) <= 64, "ch_cli has room for 64 flags");

static size_t flag_index(const char *name, size_t n)
{
        size_t i = 0;

        while (i < CC_ARRAY_LEN(flags) &&
               (strlen(flags[i].name) != n || strncmp(flags[i].name, name, n) != 0))
                i++;
        return i;
}

static const struct cc_strv *values(const struct ch_cli *cli, const char *name)
{
        return &cli->values[flag_index(name, strlen(name))];
}

static const char *value(const struct ch_cli *cli, const char *name)
{
        const struct cc_strv *v = values(cli, name);

        return v->len ? v->v[0] : NULL;
}

static bool given(const struct ch_cli *cli, const char *name)
{
        return cli->given[flag_index(name, strlen(name))];
}

/* "--cpus <cpus>", as errors and usage show a flag. */
static char *shown(const struct flag *f)
{
        if (f->arity == NONE)
                return xasprintf("--%s", f->name);
        if (f->arity == MAYBE)
                return xasprintf("--%s [<%s>]", f->name, f->name);
        return xasprintf("--%s <%s>%s", f->name, f->name, f->arity == MANY ? "..." : "");
}

static _Noreturn void usage_error(const char *usage, const char *fmt, ...) CC_PRINTF(2, 3);
static _Noreturn void usage_error(const char *usage, const char *fmt, ...)
{
        va_list ap;

        fputs("error: ", stderr);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputs("\n\n", stderr);
        if (usage)
                fprintf(stderr, "Usage: cloud-hypervisor %s\n\n", usage);
        fputs("For more information, try '--help'.\n", stderr);
        exit(2);
}

static void note_flag(struct ch_cli *cli, size_t i)
{
        CC_FREE char *text = shown(&flags[i]);

        if (cli->given[i] && flags[i].arity != MANY && !cc_streq(flags[i].name, "v"))
                usage_error("[OPTIONS]", "the argument '%s' cannot be used multiple times", text);
        cli->given[i] = true;
}

/* Flag i with the values that follow argv[at]; returns the index of the next argument. */
static int take_values(struct ch_cli *cli, size_t i, const char *attached, int at, int argc,
                       char **argv)
{
        size_t want = flags[i].arity == MANY ? SIZE_MAX : flags[i].arity == NONE ? 0 : 1;
        CC_FREE char *text = shown(&flags[i]);

        if (attached) {
                if (!want)
                        usage_error("[OPTIONS]",
                                    "unexpected value '%s' for '%s' found; no more were expected",
                                    attached, text);
                cc_strv_add(&cli->values[i], attached);
                return at;
        }
        for (; want && at < argc && argv[at][0] != '-'; want--)
                cc_strv_add(&cli->values[i], argv[at++]);
        if (!cli->values[i].len && (flags[i].arity == ONE || flags[i].arity == MANY))
                usage_error(NULL, "a value is required for '%s' but none was supplied", text);
        return at;
}

static const char *short_name(const char *arg)
{
        return cc_streq(arg, "-V") ? "--version" : cc_streq(arg, "-v") ? "--v" : arg;
}

static void check_words(const struct ch_cli *cli)
{
        const char *seccomp = value(cli, "seccomp");

        if (seccomp && !cc_streq(seccomp, "true") && !cc_streq(seccomp, "false") &&
            !cc_streq(seccomp, "log") && !cc_streq(seccomp, "errno"))
                usage_error(NULL,
                            "invalid value '%s' for '--seccomp <seccomp>'\n"
                            "  [possible values: true, false, log, errno]",
                            seccomp);
        for (size_t i = 0; i < CC_ARRAY_LEN(foreign); i++) {
                if (given(cli, foreign[i])) {
                        fprintf(stderr, "double: --%s is not modelled\n", foreign[i]);
                        exit(70);
                }
        }
}

/* Flags of a VM need something to boot. */
static void check_payload(const struct ch_cli *cli)
{
        CC_BUF struct cc_buf usage = { 0 };
        bool vm = false;

        for (size_t i = 0; i < CC_ARRAY_LEN(flags); i++) {
                CC_FREE char *text = shown(&flags[i]);

                if (!cli->given[i])
                        continue;
                vm |= flags[i].group == VM;
                cc_buf_printf(&usage, "%s ", text);
        }
        cc_buf_str(&usage, "<--firmware <firmware>|--kernel <kernel>>");
        if (vm && !cli->payload)
                usage_error(usage.data, "the following required arguments were not provided:\n"
                                        "  <--firmware <firmware>|--kernel <kernel>>");
}

/* The socket's path may come as "path=…". */
static void take_socket(struct ch_cli *cli)
{
        cli->api_socket = value(cli, "api-socket");
        if (cli->api_socket && cc_startswith(cli->api_socket, "path="))
                cli->api_socket += strlen("path=");
}

void ch_cli_parse(struct ch_cli *cli, int argc, char **argv)
{
        if (argc < 2) {
                fputs("Launch a cloud-hypervisor VMM.\n\nUsage: cloud-hypervisor [OPTIONS]\n",
                      stderr);
                exit(2);
        }
        for (int at = 1; at < argc;) {
                const char *arg = short_name(argv[at++]);
                size_t n = strcspn(arg, "=");
                size_t i =
                        cc_startswith(arg, "--") ? flag_index(arg + 2, n - 2) : CC_ARRAY_LEN(flags);

                if (cc_streq(arg, "--help") || cc_streq(arg, "-h")) {
                        puts("Launch a cloud-hypervisor VMM.\n\n"
                             "Usage: cloud-hypervisor [OPTIONS]");
                        exit(0);
                }
                if (i == CC_ARRAY_LEN(flags) || cc_streq(argv[at - 1], "--v"))
                        usage_error("[OPTIONS]", "unexpected argument '%.*s' found", (int)n, arg);
                note_flag(cli, i);
                at = take_values(cli, i, arg[n] ? arg + n + 1 : NULL, at, argc, argv);
        }
        cli->payload = given(cli, "kernel") || given(cli, "firmware");
        cli->version = given(cli, "version");
        cli->no_shutdown = given(cli, "no-shutdown");
        cli->restore = value(cli, "restore");
        take_socket(cli);
        check_words(cli);
        check_payload(cli);
}

void ch_cli_free(struct ch_cli *cli)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(flags); i++)
                cc_strv_free(&cli->values[i]);
}

/* ---- the configuration -------------------------------------------------------------------- */

/* A console that names a file or socket has that mode. */
static int console_mode(json_t *v, struct ch_error *e)
{
        bool file = json_object_get(v, "file"), socket = json_object_get(v, "socket");

        if (json_object_get(v, "mode")) {
                json_object_del(v, "file");
                json_object_del(v, "socket");
        } else if (file || socket) {
                json_object_set_new(v, "mode", json_string(file ? "File" : "Socket"));
        } else {
                return ch_fail(e, CH_OTHER, "Error parsing --console: invalid console mode given");
        }
        return 0;
}

static int missing(const struct flag *f, const json_t *v, struct ch_error *e)
{
        static const struct {
                const char *flag, *member;
        } needed[] = {
                { "fs", "tag" }, { "fs", "socket" }, { "vsock", "socket" }, { "vsock", "cid" }
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(needed); i++)
                if (cc_streq(needed[i].flag, f->name) && !json_object_get(v, needed[i].member))
                        return ch_fail(e, CH_OTHER, "Error parsing --%s: %s missing", f->name,
                                       needed[i].member);
        return 0;
}

static int parse_flag(const struct flag *f, const char *text, json_t **ret, struct ch_error *e)
{
        const struct ch_field *field = ch_field(&ch_vm_config, f->member);
        CC_JSON json_t *v = NULL;
        bool console = f->options == serial_options || f->options == console_options;

        if (console && (cc_streq(text, "file=") || cc_streq(text, "socket="))) {
                ch_fail(e, CH_BAD_CONFIG, "Path missing when using %s console mode",
                        *text == 'f' ? "file" : "socket");
                return ch_wrap(e, "Error validating configuration");
        }
        if (ch_options(text, f->options, field->object, &v, e) < 0)
                return ch_wrap(e, "Error parsing --%s", f->name);
        if (console ? console_mode(v, e) < 0 : missing(f, v, e) < 0)
                return -1;
        *ret = TAKE_PTR(v);
        return 0;
}

/* What the command line leaves out and JSON must have. */
static void complete(const struct ch_cli *cli, json_t *config)
{
        json_t *cpus = json_object_get(config, "cpus");
        json_t *memory = json_object_get(config, "memory");
        json_t *rng = json_object_get(config, "rng");

        if (cpus && !json_object_get(cpus, "boot_vcpus"))
                json_object_set_new(cpus, "boot_vcpus", json_integer(1));
        if (cpus && !json_object_get(cpus, "max_vcpus"))
                json_object_set(cpus, "max_vcpus", json_object_get(cpus, "boot_vcpus"));
        if (memory && !json_object_get(memory, "size"))
                json_object_set_new(memory, "size", json_integer(INT64_C(512) << 20));
        if (rng && !json_object_get(rng, "src"))
                json_object_set_new(rng, "src", json_string("/dev/urandom"));
        if (json_object_get(config, "balloon") &&
            !json_object_get(json_object_get(config, "balloon"), "size"))
                json_object_set_new(json_object_get(config, "balloon"), "size", json_integer(0));
        json_object_set_new(config, "watchdog", json_boolean(given(cli, "watchdog")));
        json_object_set_new(config, "pvpanic", json_boolean(given(cli, "pvpanic")));
        json_object_set_new(config, "landlock_enable", json_boolean(given(cli, "landlock")));
}

static json_t *payload(const struct ch_cli *cli)
{
        static const char *const names[] = { "firmware", "kernel", "cmdline", "initramfs" };
        json_t *obj = json_object();

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                if (value(cli, names[i]))
                        json_object_set_new(obj, names[i], json_string(value(cli, names[i])));
        return obj;
}

int ch_cli_config(const struct ch_cli *cli, const struct ch_dialect *d, json_t **ret,
                  struct ch_error *e)
{
        CC_JSON json_t *config = json_object();
        CC_FREE char *why = NULL;

        for (size_t i = 0; i < CC_ARRAY_LEN(flags); i++) {
                const struct flag *f = &flags[i];
                bool list = f->arity == MANY;
                const char *text;

                if (!f->member || !cli->given[i])
                        continue;
                if (list)
                        json_object_set_new(config, f->member, json_array());
                else if (!cli->values[i].len)
                        json_object_set_new(config, f->member, json_object());
                cc_strv_foreach (&cli->values[i], k, text) {
                        json_t *v = NULL;

                        if (parse_flag(f, text, &v, e) < 0)
                                return -1;
                        if (list)
                                json_array_append_new(json_object_get(config, f->member), v);
                        else
                                json_object_set_new(config, f->member, v);
                }
        }
        json_object_set_new(config, "payload", payload(cli));
        complete(cli, config);
        if (ch_read(d, &ch_vm_config, config, ret, &why) < 0)
                return ch_fail(e, CH_OTHER, "%s", why);
        return 0;
}

int ch_cli_restore(const struct ch_cli *cli, const struct ch_dialect *d, json_t **ret,
                   struct ch_error *e)
{
        CC_JSON json_t *v = NULL;
        CC_FREE char *why = NULL;

        if (ch_options(cli->restore, restore_options, &ch_restore, &v, e) < 0)
                return ch_wrap(e, "Error parsing --restore");
        if (!json_object_get(v, "source_url"))
                return ch_fail(e, CH_OTHER, "Error parsing --restore: source_url missing");
        if (ch_read(d, &ch_restore, v, ret, &why) < 0)
                return ch_fail(e, CH_OTHER, "%s", why);
        return 0;
}
