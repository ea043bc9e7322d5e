/*
 * The Firecracker driver: what is installed, the live check, the state of a running machine, and
 * the driver struct at the end. Starting lives in start.c, stopping in stop.c, the machine's words
 * and limits in machine.c.
 */
#include "hv/fc/fc.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "hv/fc/api.h"
#include "hv/fc/install.h"
#include "hv/fc/machine.h"
#include "hv/launch.h"

/* A command line of ours has a few hundred bytes. */
#define CMDLINE_MAX 65536

static int probe(const struct hv_env *env, struct cc_buf *detail, struct cc_err *err)
{
        FC_INSTALL struct fc_install install = { 0 };
        int r = fc_install_find(env->binary, env->cache_dir, &install, err);

        if (r == 0 && detail)
                cc_buf_str(detail, "kvm");
        return r;
}

static int version(const struct hv_env *env, struct cc_buf *ret, struct cc_err *err)
{
        FC_INSTALL struct fc_install install = { 0 };
        int r = fc_install_find(env->binary, env->cache_dir, &install, err);

        if (r == 0)
                cc_buf_str(ret, install.version);
        return r;
}

static int check(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err)
{
        int r = fc_machine_check(spec, err);

        (void)env;
        return r < 0 || !spec->run_dir ? r
                                       : hv_socket_path_check(spec->run_dir, "console.sock", err);
}

static int prepare(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err)
{
        (void)env;
        (void)spec;
        (void)err;
        return 0;
}

/* Is the word behind `option` in the NUL-separated command line exactly dir/name? */
static bool has_option(const char *text, size_t n, const char *option, const char *dir,
                       const char *name)
{
        CC_FREE char *want = cc_path_join(dir, name);

        for (const char *p = text; p < text + n; p += strlen(p) + 1) {
                const char *value = p + strlen(p) + 1;

                if (strcmp(p, option) == 0 && value < text + n)
                        return strcmp(value, want) == 0;
        }
        return false;
}

static bool is_ours(pid_t pid, const char *run_dir, const char *log_dir)
{
        CC_FREE char *path = xasprintf("/proc/%d/cmdline", (int)pid);
        CC_FREE char *text = NULL;
        size_t n = 0;

        return cc_read_file(path, CMDLINE_MAX, &text, &n, NULL) == 0 &&
               has_option(text, n, "--api-sock", run_dir, FC_API_SOCK) &&
               has_option(text, n, "--log-path", log_dir, FC_LOG);
}

static int find(const char *run_dir, const char *log_dir, uint64_t starttime, struct vm_proc *ret)
{
        CC_FREE char *pid_file = cc_path_join(run_dir, FC_PID);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;

        /* The pidfd first: what is read afterwards is about the process behind it, or it died. */
        if (cc_pid_file_read(pid_file, &proc.pid) < 0 ||
            cc_proc_open(proc.pid, starttime, NULL, &proc.pidfd) < 0 ||
            !is_ours(proc.pid, run_dir, log_dir) ||
            cc_proc_starttime(proc.pid, &proc.starttime) < 0)
                return -CC_NOT_FOUND;
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}

static int state(const struct hv_env *env, const char *run_dir, enum hv_state *ret,
                 struct cc_err *err)
{
        static const enum hv_state states[] = {
                [FC_NOT_STARTED] = HV_UNCONFIGURED,
                [FC_RUNNING] = HV_RUNNING,
                [FC_PAUSED] = HV_PAUSED,
        };
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        enum fc_state s;
        int r = fc_get_state(&api, FC_ASK_MS, &s, err);

        (void)env;
        if (r < 0)
                return cc_wrap(err, "firecracker");
        *ret = states[s];
        return 0;
}

static int resume(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        int r = fc_set_paused(&api, false, err);

        (void)env;
        return r < 0 ? cc_wrap(err, "firecracker") : 0;
}

static int vacant(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        CC_CLOSE int fd = -1;

        (void)env;
        if (hv_connect_unix(run_dir, FC_API_SOCK, &fd, NULL) < 0)
                return 0;
        return cc_fail(err, CC_STATE,
                       "a firecracker process that cannot be identified still listens on %s/%s",
                       run_dir, FC_API_SOCK);
}

const struct hv_driver hv_driver_fc = {
        .name = "firecracker",
        .title = "Firecracker",
        .dir = "firecracker",
        .log_name = FC_LOG,
        .pid_name = FC_PID,
        /* reboot=k: without ACPI only the keyboard controller's reset ends the VMM. pci=off is
         * Firecracker's to add where it applies. */
        .console_prefix = "console=ttyS0 reboot=k loglevel=3 i8042.noaux 8250.nr_uarts=1",
        .caps = HV_CAP_DIRECT_BOOT | HV_CAP_ELF_KERNEL | HV_CAP_ONE_QUEUE | HV_CAP_BALLOON |
                HV_CAP_SNAPSHOT | HV_CAP_FIXED_PATHS | HV_CAP_PCI_FLAG | HV_CAP_NIC_HOTPLUG |
                HV_CAP_DISK_ATTACH,
        .max_disks = FC_MAX_DEVICES - FC_OWN_DEVICES,
        .max_nics = FC_MAX_DEVICES - FC_OWN_DEVICES,
        .max_devices = FC_MAX_DEVICES - FC_OWN_DEVICES,
        .full_version = "1.16.1",
        .older_lacks = "clone and restore of VMs with an agent",
        .probe = probe,
        .version = version,
        .check = check,
        .prepare = prepare,
        .launch = fc_launch,
        .find = find,
        .state = state,
        .stop = fc_stop,
        .resume = resume,
        .vacant = vacant,
        .runtime_files = fc_runtime_files,
        .socket_name = FC_API_SOCK,
        .agent_vsock = FC_VSOCK_SOCK,
        .console_open = fc_console_open,
        .classify = fc_classify,
        .pause = fc_pause,
        .capture = fc_capture,
        .sidecar = fc_sidecar,
        .preflight = fc_preflight,
        .load = fc_load,
        .rewire = fc_rewire,
        .nic_add = fc_nic_add,
        .nic_remove = fc_nic_remove,
        .nic_list = fc_nic_list,
        .attach = fc_attach,
        .detach = fc_detach,
        .attachments = fc_attachments,
        .guest_hint = fc_guest_hint,
        .debug = fc_debug,
        .debug_requests = fc_debug_requests,
        .debug_hint = "the console is this terminal; a reboot of the guest ends it",
};
