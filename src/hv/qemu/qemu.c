/*
 * The QEMU driver: its limits and refusals, the live check, the state of a running machine, and the
 * driver struct at the end. Starting lives in start.c, stopping in stop.c.
 */
#include "hv/qemu/qemu.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "hv/launch.h"
#include "hv/qemu/accel.h"
#include "hv/qemu/argv.h"
#include "hv/qemu/install.h"
#include "hv/qemu/qmp.h"

/* The x86 boot protocol's limit without the NUL (images.md §6). */
#define CMDLINE_MAX 2047

static int probe(const struct hv_env *env, struct cc_buf *detail, struct cc_err *err)
{
        QEMU_INSTALL struct qemu_install install = { 0 };
        CC_BUF struct cc_buf reason = { 0 };
        bool kvm = false;
        int r = qemu_install_find(env->binary, env->cache_dir, &install, err);

        if (r == 0)
                r = qemu_accel_choose(env, &kvm, &reason, err);
        if (r < 0 || !detail)
                return r;
        if (kvm)
                cc_buf_str(detail, "kvm");
        else
                cc_buf_printf(detail, "emulation (tcg): %s; expect 10-50x slower guests",
                              reason.data);
        return 0;
}

static int version(const struct hv_env *env, struct cc_buf *ret, struct cc_err *err)
{
        QEMU_INSTALL struct qemu_install install = { 0 };
        int r = qemu_install_find(env->binary, env->cache_dir, &install, err);

        if (r == 0)
                cc_buf_str(ret, install.version);
        return r;
}

static int check_devices(const struct vm_spec *spec, struct cc_err *err)
{
        if (spec->n_nics > QEMU_MAX_NICS)
                return cc_fail(err, CC_UNSUPPORTED, "qemu: at most %d NICs, got %zu", QEMU_MAX_NICS,
                               spec->n_nics);
        if (spec->n_disks > QEMU_MAX_DISKS)
                return cc_fail(err, CC_UNSUPPORTED, "qemu: at most %d disks, got %zu",
                               QEMU_MAX_DISKS, spec->n_disks);
        for (size_t i = 0; i < spec->n_disks; i++) {
                const char *format = spec->disks[i].format;

                /* QEMU must never guess the format of a disk its guest can write (§12). */
                if (!cc_streq(format, "raw") && !cc_streq(format, "qcow2"))
                        return cc_fail(err, CC_INVALID, "qemu: disk %s: format \"%s\" is not known",
                                       spec->disks[i].path, format ? format : "");
        }
        return 0;
}

static int check(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err)
{
        int r;

        (void)env;
        if (spec->mergeable)
                return cc_fail(err, CC_UNSUPPORTED,
                               "qemu: --mergeable is not supported (guest memory is shared)");
        if (spec->pci)
                return cc_fail(err, CC_UNSUPPORTED,
                               "--pci is Firecracker only: qemu is always PCI");
        r = check_devices(spec, err);
        if (r < 0)
                return r;
        if (spec->cmdline && strlen(spec->cmdline) > CMDLINE_MAX)
                return cc_fail(err, CC_INVALID,
                               "qemu: the kernel command line is %zu bytes long, at most %d fit",
                               strlen(spec->cmdline), CMDLINE_MAX);
        /* agent.0.sock is as long as the longest of our names, console.sock. */
        return spec->run_dir ? hv_socket_path_check(spec->run_dir, "agent.0.sock", err) : 0;
}

static int find(const char *run_dir, const char *log_dir, uint64_t starttime, struct vm_proc *ret)
{
        CC_FREE char *pid_file = cc_path_join(run_dir, QEMU_PID);
        CC_FREE char *needle = qemu_argv_needle(log_dir);
        const char *const needles[] = { needle, NULL };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;

        if (cc_pid_file_read(pid_file, &proc.pid) < 0 ||
            cc_proc_open(proc.pid, starttime, needles, &proc.pidfd) < 0 ||
            cc_proc_starttime(proc.pid, &proc.starttime) < 0)
                return -CC_NOT_FOUND;
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}

static int state(const struct hv_env *env, const char *run_dir, enum hv_state *ret,
                 struct cc_err *err)
{
        static const struct {
                const char *name;
                enum hv_state state;
        } states[] = {
                { "running", HV_RUNNING },
                { "paused", HV_PAUSED },
                { "prelaunch", HV_UNCONFIGURED },
                { "inmigrate", HV_UNCONFIGURED },
        };
        CC_FREE char *path = cc_path_join(run_dir, QEMU_API_SOCK);
        CC_JSON json_t *status = NULL;
        QMP struct qmp *q = NULL;
        const char *s;
        int r;

        (void)env;
        r = qmp_connect(path, -1, QMP_GREETING_MS, &q, err);
        if (r == 0)
                r = qmp_command(q, "query-status", NULL, QMP_GREETING_MS, &status, err);
        if (r < 0)
                return r;
        s = json_string_value(json_object_get(status, "status"));
        *ret = HV_BROKEN;
        for (size_t i = 0; i < CC_ARRAY_LEN(states); i++)
                if (cc_streq(s, states[i].name))
                        *ret = states[i].state;
        return 0;
}

static int resume(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, QEMU_API_SOCK);
        QMP struct qmp *q = NULL;
        int r;

        (void)env;
        r = qmp_connect(path, -1, QMP_GREETING_MS, &q, err);
        return r < 0 ? r : qmp_command(q, "cont", NULL, QMP_COMMAND_MS, NULL, err);
}

static int console_open(const char *run_dir, int vmm_pidfd, int *ret, struct cc_err *err)
{
        (void)vmm_pidfd;
        return hv_connect_unix(run_dir, QEMU_SERIAL_SOCK, ret, err);
}

static const char *const agent_ports[] = { "agent.0.sock", "agent.1.sock", "agent.2.sock",
                                           "agent.3.sock", NULL };

/* The other end of a port's socket, as QEMU calls it, is the guest's. */
static int agent_open(const struct hv_env *env, const char *run_dir, bool *ret, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(run_dir, QEMU_API_SOCK);
        CC_JSON json_t *list = NULL;
        QMP struct qmp *q = NULL;
        int r;

        (void)env;
        r = qmp_connect(path, -1, QMP_GREETING_MS, &q, err);
        if (r == 0)
                r = qmp_command(q, "query-chardev", NULL, QMP_COMMAND_MS, &list, err);
        if (r < 0)
                return r;
        *ret = false;
        for (size_t i = 0; i < json_array_size(list); i++) {
                const json_t *dev = json_array_get(list, i);

                if (cc_streq(json_string_value(json_object_get(dev, "label")), "ag0"))
                        *ret = json_is_true(json_object_get(dev, "frontend-open"));
        }
        return 0;
}

const struct hv_driver hv_driver_qemu = {
        .name = "qemu",
        .title = "QEMU",
        .dir = "qemu",
        .log_name = QEMU_LOG,
        .pid_name = QEMU_PID,
        .console_prefix = "console=ttyS0 loglevel=3",
        .caps = HV_CAP_DIRECT_BOOT | HV_CAP_UEFI | HV_CAP_WINDOWS | HV_CAP_SHARED_MEMORY |
                HV_CAP_HUGEPAGES | HV_CAP_NO_WATCHDOG | HV_CAP_USER_NET | HV_CAP_DIRECT_IO |
                HV_CAP_DISK_QUEUES | HV_CAP_SERIAL_NAMES | HV_CAP_EMULATION | HV_CAP_SNAPSHOT |
                HV_CAP_NIC_SWAP | HV_CAP_NIC_HOTPLUG | HV_CAP_FS_ATTACH | HV_CAP_DEVICE_ATTACH |
                HV_CAP_DISK_ATTACH,
        .max_disks = QEMU_MAX_DISKS,
        .max_nics = QEMU_MAX_NICS,
        .probe = probe,
        .version = version,
        .check = check,
        .prepare = qemu_prepare,
        .launch = qemu_launch,
        .find = find,
        .state = state,
        .stop = qemu_stop,
        .resume = resume,
        .runtime_files = qemu_runtime_files,
        .socket_name = QEMU_API_SOCK,
        .agent_ports = agent_ports,
        .agent_open = agent_open,
        .console_open = console_open,
        .console_log_name = QEMU_CONSOLE_LOG,
        .debug = qemu_debug,
        .debug_hint = "the console is this terminal, Ctrl-a x ends it",
        .classify = qemu_classify,
        .can_capture = qemu_can_capture,
        .pause = qemu_pause,
        .capture = qemu_capture,
        .preflight = qemu_preflight,
        .load = qemu_load,
        .rewire = qemu_rewire,
        .settle = qemu_settle,
        .nic_add = qemu_nic_add,
        .nic_remove = qemu_nic_remove,
        .nic_list = qemu_nic_list,
        .attach = qemu_attach,
        .detach = qemu_detach,
        .attachments = qemu_attachments,
};
