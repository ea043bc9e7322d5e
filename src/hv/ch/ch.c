/*
 * The Cloud Hypervisor driver: what it refuses, the state of a running machine, and the driver
 * struct at the end. Starting lives in start.c, stopping in stop.c, the live check in identity.c.
 */
#include "hv/ch/ch.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "hv/ch/api.h"
#include "hv/ch/install.h"
#include "hv/launch.h"

/* With rng, console, balloon, watchdog and vsock, which is what a machine has by default. */
#define MAX_DISKS (CH_SLOTS - 5)
/* With one disk. */
#define MAX_NICS  (MAX_DISKS - 1)

/* How long delete waits for an answer of a VMM that nothing else shows (§4.4). */
#define PROBE_MS 500

static int probe(const struct hv_env *env, struct cc_buf *detail, struct cc_err *err)
{
        CH_INSTALL struct ch_install install = { 0 };
        int r = ch_install_find(env->binary, env->cache_dir, &install, err);

        if (r == 0 && detail)
                cc_buf_str(detail, "kvm");
        return r;
}

static int version(const struct hv_env *env, struct cc_buf *ret, struct cc_err *err)
{
        CH_INSTALL struct ch_install install = { 0 };
        int r = ch_install_find(env->binary, env->cache_dir, &install, err);

        if (r == 0)
                cc_buf_str(ret, install.version);
        return r;
}

static int check_combination(const struct vm_spec *spec, struct cc_err *err)
{
        if (spec->pci)
                return cc_fail(err, CC_UNSUPPORTED,
                               "--pci is Firecracker only: cloud-hypervisor is always PCI");
        if (spec->windows && !cc_isempty(spec->kernel))
                return cc_fail(
                        err, CC_INVALID,
                        "--windows requires cloudimg (UEFI boot), got OCI direct boot image");
        if (spec->n_forwards)
                return cc_fail(err, CC_UNSUPPORTED,
                               "cloud-hypervisor: there is no user-mode network to forward ports "
                               "with");
        for (size_t i = 0; i < spec->n_nics; i++)
                if (spec->nics[i].tap && strlen(spec->nics[i].tap) >= IF_NAMESIZE)
                        return cc_fail(err, CC_INVALID, "TAP device name \"%s\" is too long",
                                       spec->nics[i].tap);
        return 0;
}

/* Builds the machine and its flags and throws them away: what they refuse is refused here. */
static int check(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err)
{
        CH_HOST_FACTS struct ch_host_facts facts = { 0 };
        CH_CONFIG struct ch_config config = { 0 };
        CC_STRV struct cc_strv argv = { 0 };
        struct ch_host host;
        int r = check_combination(spec, err);

        if (r < 0)
                return r;
        ch_host_facts(env, spec, &facts, &host);
        r = ch_config_make(spec, &host, &config, err);
        if (r == 0)
                r = ch_config_argv(&config, "", &argv, err);
        if (r == 0 && config.firmware)
                r = ch_check_firmware(env, err);
        /* The longest of our sockets is console.sock. */
        if (r == 0 && spec->run_dir)
                r = hv_socket_path_check(spec->run_dir, "console.sock", err);
        return r;
}

/* All that a machine needs beyond its disks is installed or made at launch. */
static int prepare(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err)
{
        (void)env;
        (void)spec;
        (void)err;
        return 0;
}

static int state(const struct hv_env *env, const char *run_dir, enum hv_state *ret,
                 struct cc_err *err)
{
        static const enum hv_state states[] = {
                [CH_NO_VM] = HV_UNCONFIGURED,
                [CH_CREATED] = HV_UNCONFIGURED,
                [CH_RUNNING] = HV_RUNNING,
                [CH_SHUTDOWN] = HV_BROKEN,
                [CH_PAUSED] = HV_PAUSED,
                [CH_BREAKPOINT] = HV_RUNNING, /* in the hands of whoever debugs it */
                [CH_UNKNOWN] = HV_BROKEN,
        };
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        int r = ch_get_info(run_dir, CH_INFO_MS, &info, err);

        (void)env;
        if (r == 0)
                *ret = states[info.state];
        return r;
}

static int resume(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        (void)env;
        return ch_resume(run_dir, err);
}

static int pause_guest(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        (void)env;
        return ch_pause(run_dir, err);
}

/* A UEFI machine has a serial socket; else the guest's console is a PTY, and only the VMM knows
 * which: it makes another one when the guest reboots. */
static int console_open(const char *run_dir, int vmm_pidfd, int *ret, struct cc_err *err)
{
        CC_FREE char *serial = cc_path_join(run_dir, CH_SERIAL_SOCK);
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        const char *mode;
        const char *file;
        int fd;
        int r;

        (void)vmm_pidfd;
        if (cc_exists(serial))
                return hv_connect_unix(run_dir, CH_SERIAL_SOCK, ret, err);
        r = ch_get_info_retry(run_dir, CH_INFO_MS, &info, err);
        if (r < 0)
                return r;
        file = ch_info_pty(&info, &mode);
        if (!*file)
                return cc_fail(err, CC_UNAVAILABLE,
                               "cloud-hypervisor: the console has no file: its mode is \"%s\"",
                               mode);
        fd = open(file, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return cc_fail_errno(err, errno, "open console %s", file);
        *ret = fd;
        return 0;
}

static int vacant(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        CC_FREE char *socket = cc_path_join(run_dir, CH_API_SOCK);

        (void)env;
        if (!cc_exists(socket) || !ch_answers(run_dir, PROBE_MS))
                return 0;
        return cc_fail(err, CC_STATE,
                       "a cloud-hypervisor process that cannot be identified still answers on %s",
                       socket);
}

const struct hv_driver hv_driver_ch = {
        .name = "cloud-hypervisor",
        .title = "Cloud Hypervisor",
        .dir = "cloudhypervisor",
        .log_name = CH_LOG,
        .pid_name = CH_PID,
        .console_prefix = "console=hvc0 loglevel=3",
        .caps = HV_CAP_DIRECT_BOOT | HV_CAP_UEFI | HV_CAP_WINDOWS | HV_CAP_SHARED_MEMORY |
                HV_CAP_HUGEPAGES | HV_CAP_MERGEABLE | HV_CAP_NO_WATCHDOG | HV_CAP_DIRECT_IO |
                HV_CAP_DISK_QUEUES | HV_CAP_SERIAL_NAMES | HV_CAP_BALLOON | HV_CAP_VCPU_MAX |
                HV_CAP_SNAPSHOT | HV_CAP_NIC_SWAP | HV_CAP_DISK_REQUEUE | HV_CAP_NIC_HOTPLUG |
                HV_CAP_FS_ATTACH | HV_CAP_DEVICE_ATTACH | HV_CAP_DISK_ATTACH,
        .max_disks = MAX_DISKS,
        .max_nics = MAX_NICS,
        .companion = "ch-remote",
        .probe = probe,
        .version = version,
        .check = check,
        .prepare = prepare,
        .launch = ch_launch,
        .find = ch_find,
        .state = state,
        .stop = ch_stop,
        .resume = resume,
        .classify = ch_classify,
        .can_capture = ch_can_capture,
        .pause = pause_guest,
        .capture = ch_capture,
        .sidecar = ch_sidecar,
        .preflight = ch_preflight,
        .load = ch_load,
        .rewire = ch_rewire,
        .vacant = vacant,
        .runtime_files = ch_runtime_files,
        .socket_name = CH_API_SOCK,
        .agent_vsock = CH_VSOCK_SOCK,
        .console_open = console_open,
        .debug = ch_debug,
        .nic_add = ch_nic_add,
        .nic_remove = ch_nic_remove,
        .nic_list = ch_nic_list,
        .attach = ch_attach,
        .detach = ch_detach,
        .attachments = ch_attachments,
        .debug_hint = "the console is this terminal; it ends when the guest powers off",
};
