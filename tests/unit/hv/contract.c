/*
 * What every driver promises, checked over every row of the driver table: launch, find, stop, kill,
 * a crash during launch, no leftovers, and that no descriptor of the caller lives on in the VMM.
 * QEMU is the real one; Cloud Hypervisor and Firecracker are COCOON_CH and COCOON_FC, without which
 * their doubles stand in. The guest is COCOON_TEST_KERNEL (and COCOON_TEST_INITRD); without it the
 * firmware (COCOON_TEST_FIRMWARE for Cloud Hypervisor) runs with an empty disk, which is enough for
 * all of this. COCOON_TEST_READY names a line that the guest prints when it is up: then the boot is
 * awaited and timed. COCOON_TEST_POWER says that the guest obeys its power button.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "hv/driver.h"
#include "hv/launch.h"
#include "kernel_file.h"

#define MIB (INT64_C(1) << 20)

struct fixture {
        const struct hv_driver *drv;
        struct hv_env env;
        struct vm_spec spec;
        struct hv_disk disk;
        char *dir, *run, *log, *disk_path, *binary, *cmdline, *kernel;
        char id[CC_ID_LEN + 1];
        bool usable;
};

/* A VMM that tests do not take from the host unless they are told to. */
static char *binary_of(const struct hv_driver *drv)
{
        static const struct {
                const char *driver, *variable, *build_path;
        } rows[] = {
                { "cloud-hypervisor", "COCOON_CH", "tests/double/ch/cloud-hypervisor" },
                { "firecracker", "COCOON_FC", "tests/double/fc/firecracker" },
        };
        const char *build = getenv("COCOON_BUILD_ROOT");

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                const char *given = getenv(rows[i].variable);

                if (!cc_streq(rows[i].driver, drv->name))
                        continue;
                return given ? xstrdup(given)
                             : cc_path_join(build ? build : ".", rows[i].build_path);
        }
        return NULL;
}

/* A double takes anything that looks like a kernel for one. */
static bool is_double(const struct hv_driver *drv)
{
        CC_FREE char *binary = binary_of(drv);

        return binary && strstr(binary, "/tests/double/");
}

/* Where Cloud Hypervisor's firmware is looked for: the given one, or any bytes for a double. */
static int make_firmware(struct fixture *f)
{
        const char *given = getenv("COCOON_TEST_FIRMWARE");
        CC_FREE char *dir = cc_path_join(f->dir, "firmware");
        CC_FREE char *path = cc_path_join(dir, "CLOUDHV.fd");

        if (mkdir(dir, 0750) < 0)
                return -1;
        return given ? symlink(given, path) : cc_publish(path, "firmware", 8, 0600, NULL);
}

/* COCOON_TEST_KERNEL, for drivers that can boot its kind of file. */
static const char *test_kernel(const struct hv_driver *drv)
{
        const char *path = getenv("COCOON_TEST_KERNEL");
        CC_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        char magic[4] = "";

        if (!(drv->caps & HV_CAP_ELF_KERNEL))
                return path;
        return fd >= 0 && read(fd, magic, 4) == 4 && memcmp(magic, "\177ELF", 4) == 0 ? path : NULL;
}

static int setup(void **state)
{
        struct fixture *f = *state;
        char template[] = "/tmp/cocoon-test-XXXXXX";
        int fd;

        f->dir = xstrdup(mkdtemp(template));
        f->run = cc_path_join(f->dir, "run");
        f->log = cc_path_join(f->dir, "log");
        f->disk_path = cc_path_join(f->dir, "disk.raw");
        if (mkdir(f->run, 0750) < 0 || mkdir(f->log, 0750) < 0)
                return -1;
        fd = open(f->disk_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, 16 * MIB) < 0)
                return -1;
        close(fd);
        cc_id_new(f->id);
        f->binary = binary_of(f->drv);
        f->cmdline = xasprintf("%s panic=-1", f->drv->console_prefix);
        if (make_firmware(f) < 0)
                return -1;
        f->env = (struct hv_env){
                .binary = f->binary,
                .accel = "auto",
                .root_dir = f->dir,
                .cache_dir = f->dir,
                .socket_wait_ms = 20000,
                .grace_ms = 5000,
        };
        f->disk = (struct hv_disk){ .path = f->disk_path,
                                    .serial = "cocoon-cow",
                                    .format = "raw",
                                    .boot = true,
                                    .role = "cow" };
        f->spec = (struct vm_spec){
                .id = f->id,
                .name = "contract",
                .run_dir = f->run,
                .log_dir = f->log,
                .cpu = 1,
                .memory = 256 * MIB,
                .kernel = test_kernel(f->drv),
                .initrd = getenv("COCOON_TEST_INITRD"),
                .cmdline = f->cmdline,
                .disks = &f->disk,
                .n_disks = 1,
        };
        if (!f->spec.kernel && !(f->drv->caps & HV_CAP_UEFI) && is_double(f->drv)) {
                f->kernel = cc_path_join(f->dir, "vmlinux");
                if (write_kernel_file(f->kernel) < 0)
                        return -1;
                f->spec.kernel = f->kernel;
        }
        f->usable = f->drv->probe(&f->env, NULL, NULL) == 0;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        int r;

        if (f->drv->find(f->run, f->log, 0, &proc) == 0)
                hv_abort(&proc);
        r = cc_rm_rf(f->dir, NULL);
        free(f->dir);
        free(f->run);
        free(f->log);
        free(f->disk_path);
        free(f->binary);
        free(f->cmdline);
        free(TAKE_PTR(f->kernel));
        return r;
}

/* Skips the test on a host that cannot run this driver, and says why. */
static struct fixture *fixture(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        if (!f->usable) {
                (void)f->drv->probe(&f->env, NULL, &err);
                print_message("skipped: %s: %s\n", f->drv->name, err.msg);
                skip();
        }
        if (!f->spec.kernel && !(f->drv->caps & HV_CAP_UEFI)) {
                print_message("skipped: %s needs COCOON_TEST_KERNEL\n", f->drv->name);
                skip();
        }
        return f;
}

static void must(int r, const struct cc_err *err)
{
        if (r < 0)
                fail_msg("unexpected error: %s", err->msg);
}

static void launch(struct fixture *f, struct vm_proc *proc)
{
        struct cc_err err = CC_ERR_INIT;
        int64_t start = cc_monotonic();
        int64_t ready;

        must(f->drv->check(&f->env, &f->spec, &err), &err);
        must(f->drv->prepare(&f->env, &f->spec, &err), &err);
        ready = cc_monotonic();
        must(f->drv->launch(&f->env, &f->spec, proc, &err), &err);
        print_message("%s: launch to running %lld ms (prepare %lld ms)\n", f->drv->name,
                      (long long)((cc_monotonic() - ready) / CC_NSEC_PER_MSEC),
                      (long long)((ready - start) / CC_NSEC_PER_MSEC));
        assert_true(proc->pid > 0);
        assert_true(proc->starttime > 0);
        assert_true(proc->pidfd >= 0);
}

/* Fails if any runtime file is there. */
static void no_runtime_files(struct fixture *f)
{
        for (size_t i = 0; f->drv->runtime_files[i]; i++) {
                CC_FREE char *path = cc_path_join(f->run, f->drv->runtime_files[i]);

                if (cc_exists(path))
                        fail_msg("%s is left behind", path);
        }
}

static void test_launch_find_stop(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;
        enum hv_state hv;
        struct stat st;
        CC_FREE char *sock = cc_path_join(f->run, f->drv->socket_name);
        CC_FREE char *other = cc_path_join(f->dir, "other");

        assert_int_equal(f->drv->find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        launch(f, &proc);
        assert_int_equal(stat(sock, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 0077, 0);

        assert_int_equal(f->drv->find(f->run, f->log, proc.starttime, &found), 0);
        assert_int_equal(found.pid, proc.pid);
        assert_true(found.starttime == proc.starttime);
        vm_proc_clear(&found);
        assert_int_equal(f->drv->find(f->run, f->log, proc.starttime + 1, &found), -CC_NOT_FOUND);
        assert_int_equal(f->drv->find(other, other, 0, &found), -CC_NOT_FOUND);

        must(f->drv->state(&f->env, f->run, &hv, &err), &err);
        assert_int_equal(hv, HV_RUNNING);
        must(f->drv->resume(&f->env, f->run, &err), &err);

        must(f->drv->stop(&f->env, f->run, &proc, 300, &err), &err);
        assert_int_equal(cc_pidfd_wait(proc.pidfd, 0), 1);
        assert_int_equal(f->drv->find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        must(hv_remove_files(f->run, f->drv->runtime_files, &err), &err);
        no_runtime_files(f);
        /* Stopping what has ended is success. */
        must(f->drv->stop(&f->env, f->run, &proc, 300, &err), &err);
}

static void test_kill_and_restart(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *sock = cc_path_join(f->run, f->drv->socket_name);

        launch(f, &proc);
        must(cc_pidfd_signal(proc.pidfd, SIGKILL, &err), &err);
        assert_int_equal(cc_pidfd_wait(proc.pidfd, 5000), 1);
        /* The corpse is a zombie of ours: not alive, whoever asks. */
        assert_int_equal(f->drv->find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        cc_reap(proc.pid);
        vm_proc_clear(&proc);
        assert_true(cc_exists(sock));
        must(hv_remove_files(f->run, f->drv->runtime_files, &err), &err);
        no_runtime_files(f);

        launch(f, &proc);
        must(f->drv->stop(&f->env, f->run, &proc, 0, &err), &err);
        assert_int_equal(cc_pidfd_wait(proc.pidfd, 0), 1);
}

/* A disk that the VMM cannot use: it dies during launch, and its last words are our message. */
static void test_crash_during_launch(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *prefix = xasprintf("launch %s: ", f->drv->name);
        int64_t start = cc_monotonic();

        f->disk.format = "qcow2";
        must(f->drv->prepare(&f->env, &f->spec, &err), &err);
        assert_true(f->drv->launch(&f->env, &f->spec, &proc, &err) < 0);
        print_message("%s: %s\n", f->drv->name, err.msg);
        assert_true(cc_startswith(err.msg, prefix));
        assert_true(strlen(err.msg) > strlen(prefix) + 10);
        assert_int_equal(proc.pidfd, -1);
        no_runtime_files(f);
        /* Noticed by the death itself, not by the greeting timeout. */
        assert_true(cc_monotonic() - start < 10 * CC_NSEC_PER_SEC);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

static void test_missing_disk(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;

        must(cc_unlink(f->disk_path, &err), &err);
        assert_int_equal(f->drv->launch(&f->env, &f->spec, &proc, &err), -CC_NOT_FOUND);
        assert_non_null(strstr(err.msg, f->disk_path));
        no_runtime_files(f);
}

/* A caller that reads our output to its end must not wait for the VM (DESIGN §2). */
static void test_callers_pipe(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct pollfd p;
        int fds[2];
        pid_t pid;
        int status;
        char c;

        assert_int_equal(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
                struct vm_proc child = VM_PROC_INIT;

                /* The write end is stdin, stdout, stderr and one more, none close-on-exec. */
                if (dup2(fds[1], 0) < 0 || dup2(fds[1], 1) < 0 || dup2(fds[1], 2) < 0)
                        _exit(2);
                _exit(f->drv->prepare(&f->env, &f->spec, NULL) < 0 ||
                      f->drv->launch(&f->env, &f->spec, &child, NULL) < 0);
        }
        close(fds[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(read(fds[0], &c, 1), 0);
        close(fds[0]);

        assert_int_equal(f->drv->find(f->run, f->log, 0, &proc), 0);
        assert_int_equal(getsid(proc.pid), proc.pid);
        must(f->drv->stop(&f->env, f->run, &proc, 0, &err), &err);
}

static void test_debug_is_the_launch(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_STRV struct cc_strv argv = { 0 };
        CC_STRV struct cc_strv copies = { 0 };
        CC_FREE char *path = NULL;
        CC_FREE char *line = NULL;
        struct cc_err err = CC_ERR_INIT;

        must(f->drv->debug(&f->env, &f->spec, &argv, &copies, &err), &err);
        launch(f, &proc);
        path = cc_path_join(f->run, "cmdline");
        must(cc_read_file(path, 1 << 20, &line, NULL, &err), &err);
        /* Every argument but the few that are drawn anew at each start, and those that name what a
         * launch passes as descriptors. */
        for (size_t i = 0; i < argv.len; i++)
                if (!strstr(argv.v[i], "\"guid\"") && !strstr(argv.v[i], "memory-backend-") &&
                    !strstr(argv.v[i], ",path=") && !cc_startswith(argv.v[i], "stdio,") &&
                    !cc_streq(argv.v[i], "tty"))
                        assert_non_null(strstr(line, argv.v[i]));
        for (size_t i = 0; i < argv.len; i++)
                assert_null(strstr(argv.v[i], "fd="));
        must(f->drv->stop(&f->env, f->run, &proc, 0, &err), &err);
}

static uint16_t free_port(void)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t n = sizeof(a);
        CC_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
        return ntohs(a.sin_port);
}

/* What the guest has said so far: from the log that the VMM keeps, or collected from the console.
 */
static bool said(struct fixture *f, int console, struct cc_buf *heard, const char *text)
{
        CC_FREE char *path = NULL;
        CC_FREE char *log = NULL;
        char chunk[4096];
        ssize_t n;

        if (f->drv->console_log_name) {
                path = cc_path_join(f->log, f->drv->console_log_name);
                return cc_read_file(path, 1 << 20, &log, NULL, NULL) == 0 && strstr(log, text);
        }
        while ((n = read(console, chunk, sizeof(chunk))) > 0)
                cc_buf_add(heard, chunk, (size_t)n);
        return heard->len && strstr(heard->data, text);
}

static void test_boot(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        const char *ready = getenv("COCOON_TEST_READY");
        CC_BUF struct cc_buf heard = { 0 };
        CC_CLOSE int console = -1;
        struct cc_err err = CC_ERR_INIT;
        int64_t start = cc_monotonic();
        bool up = false;

        if (!ready || !f->spec.kernel) {
                print_message("skipped: COCOON_TEST_KERNEL and COCOON_TEST_READY are not set\n");
                skip();
                return; /* not reached */
        }
        launch(f, &proc);
        if (proc.console >= 0)
                console = TAKE_FD(proc.console);
        else if (!f->drv->console_log_name)
                must(f->drv->console_open(f->run, proc.pidfd, &console, &err), &err);
        while (!up && cc_monotonic() - start < 90 * CC_NSEC_PER_SEC) {
                up = said(f, console, &heard, ready);
                if (!up)
                        assert_int_equal(cc_pidfd_wait(proc.pidfd, 10), 0);
        }
        print_message("%s: launch to guest's own line %lld ms\n", f->drv->name,
                      (long long)((cc_monotonic() - start) / CC_NSEC_PER_MSEC));
        assert_true(up);
        start = cc_monotonic();
        must(f->drv->stop(&f->env, f->run, &proc, 12000, &err), &err);
        print_message("%s: stop %lld ms\n", f->drv->name,
                      (long long)((cc_monotonic() - start) / CC_NSEC_PER_MSEC));
        assert_int_equal(cc_pidfd_wait(proc.pidfd, 0), 1);
        if (getenv("COCOON_TEST_POWER"))
                assert_true(cc_monotonic() - start < 10 * CC_NSEC_PER_SEC);
}

static void test_refused_capability(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        struct vm_spec spec = f->spec;
        CC_FREE struct hv_nic *nics = xcalloc(f->drv->max_nics + 1, sizeof(*nics));
        CC_FREE char *expect = xasprintf("backend %s: backend does not support", f->drv->name);

        assert_int_equal(hv_require(f->drv, 0, "nothing", &err), 0);
        assert_int_equal(hv_require(f->drv, 1u << 31, "--warp", &err), -CC_UNSUPPORTED);
        assert_non_null(strstr(err.msg, expect));
        if (!(f->drv->caps & HV_CAP_MERGEABLE)) {
                spec.mergeable = true;
                assert_int_equal(f->drv->check(&f->env, &spec, &err), -CC_UNSUPPORTED);
        }
        spec = f->spec;
        if (!(f->drv->caps & HV_CAP_PCI_FLAG)) {
                spec.pci = true;
                assert_int_equal(f->drv->check(&f->env, &spec, &err), -CC_UNSUPPORTED);
        }
        spec = f->spec;
        spec.nics = nics;
        spec.n_nics = f->drv->max_nics + 1;
        assert_int_equal(f->drv->check(&f->env, &spec, &err), -CC_UNSUPPORTED);
}

/* As many devices as the driver says it takes, all at once: the VMM must agree. */
static void test_full_machine(void **state)
{
        struct fixture *f = fixture(state);
        size_t n_disks = f->drv->max_disks < 40 ? f->drv->max_disks : 40;
        size_t n_nics = f->drv->caps & HV_CAP_USER_NET ? f->drv->max_nics : 0;
        CC_FREE struct hv_disk *disks = xcalloc(n_disks, sizeof(*disks));
        CC_FREE struct hv_nic *nics = xcalloc(n_nics + 1, sizeof(*nics));
        struct hv_forward forward = { .guest = 22 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_STRV struct cc_strv names = { 0 };
        CC_STRV struct cc_strv paths = { 0 };
        struct cc_err err = CC_ERR_INIT;

        for (size_t i = 0; i < n_disks; i++) {
                cc_strv_addf(&paths, "%s.%zu", f->disk_path, i);
                assert_int_equal(link(f->disk_path, paths.v[i]), 0);
                cc_strv_addf(&names, "cocoon-layer%zu", i);
                disks[i] = (struct hv_disk){ .path = paths.v[i],
                                             .serial = names.v[i],
                                             .format = "raw",
                                             .ro = true,
                                             .role = "layer" };
        }
        for (size_t i = 0; i < n_nics; i++) {
                cc_strv_addf(&names, "02:00:00:00:00:%02zx", i);
                nics[i] = (struct hv_nic){ .mac = names.v[n_disks + i],
                                           .num_queues = 4,
                                           .queue_size = 512 };
        }
        /* The port to forward: one that was free a moment ago. */
        forward.host = free_port();
        f->spec.disks = disks;
        f->spec.n_disks = n_disks;
        f->spec.nics = nics;
        f->spec.n_nics = n_nics;
        f->spec.forwards = &forward;
        f->spec.n_forwards = n_nics ? 1 : 0;
        launch(f, &proc);
        must(f->drv->stop(&f->env, f->run, &proc, 0, &err), &err);
}

static bool make_tap(const char *name, short flags)
{
        CC_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        struct ifreq ifr = { 0 };

        memcpy(ifr.ifr_name, name, strlen(name) + 1);
        ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags);
        return fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0 && ioctl(fd, TUNSETPERSIST, 1) == 0;
}

/* A process that keeps a network namespace with three TAPs alive. Returns 0 when it cannot. */
static pid_t hold_netns(int *ret_end)
{
        int ready[2];
        int end[2];
        pid_t pid;
        char c = 0;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(end, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                close(end[1]);
                if (unshare(CLONE_NEWNET) < 0 || !make_tap("one", 0) || !make_tap("two", 0) ||
                    !make_tap("many", IFF_MULTI_QUEUE) || write(ready[1], "y", 1) != 1)
                        _exit(1);
                (void)!read(end[0], &c, 1);
                _exit(0);
        }
        close(ready[1]);
        close(end[0]);
        *ret_end = end[1];
        if (read(ready[0], &c, 1) != 1) {
                (void)waitpid(pid, NULL, 0);
                pid = 0;
        }
        close(ready[0]);
        return pid;
}

/* TAP NICs of one and of two queue pairs, and the VMM inside the VM's network namespace. */
static void test_tap_nics(void **state)
{
        struct fixture *f = fixture(state);
        struct hv_nic nics[2] = {
                { .tap = "one",
                  .mac = "02:00:00:00:00:01",
                  .num_queues = 2,
                  .queue_size = 512,
                  .mtu = 1450 },
                { .tap = "many", .mac = "02:00:00:00:00:02", .num_queues = 4, .queue_size = 512 },
        };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_CLOSE int end = -1;
        CC_FREE char *netns = NULL;
        CC_FREE char *vmm_netns = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct stat want;
        struct stat got;
        pid_t holder = hold_netns(&end);

        if (holder == 0) {
                print_message("skipped: cannot make TAP devices here\n");
                skip();
        }
        if (f->drv->caps & HV_CAP_ONE_QUEUE) {
                nics[1].tap = "two";
                nics[1].num_queues = 2;
        }
        netns = xasprintf("/proc/%d/ns/net", (int)holder);
        f->spec.netns = netns;
        f->spec.cpu = 2;
        f->spec.nics = nics;
        f->spec.n_nics = 2;
        launch(f, &proc);
        vmm_netns = xasprintf("/proc/%d/ns/net", (int)proc.pid);
        assert_int_equal(stat(netns, &want), 0);
        assert_int_equal(stat(vmm_netns, &got), 0);
        assert_true(want.st_ino == got.st_ino);
        must(f->drv->stop(&f->env, f->run, &proc, 0, &err), &err);

        /* A missing TAP is named, and nothing is left. */
        nics[1].tap = "none";
        assert_true(f->drv->launch(&f->env, &f->spec, &proc, &err) < 0);
        assert_non_null(strstr(err.msg, "none"));
        no_runtime_files(f);
        close(TAKE_FD(end));
        (void)waitpid(holder, NULL, 0);
}

#define CASE(fn)                                                                                   \
        {                                                                                          \
#fn, fn, setup, teardown, NULL                                                     \
        }

int main(void)
{
        const struct CMUnitTest cases[] = {
                CASE(test_launch_find_stop),
                CASE(test_kill_and_restart),
                CASE(test_crash_during_launch),
                CASE(test_missing_disk),
                CASE(test_callers_pipe),
                CASE(test_debug_is_the_launch),
                CASE(test_boot),
                CASE(test_full_machine),
                CASE(test_tap_nics),
                CASE(test_refused_capability),
        };
        const struct hv_driver *drv;
        int failed = 0;

        for (size_t i = 0; (drv = hv_driver_at(i)); i++) {
                struct fixture f = { .drv = drv };
                struct CMUnitTest tests[CC_ARRAY_LEN(cases)];

                memcpy(tests, cases, sizeof(cases));
                for (size_t k = 0; k < CC_ARRAY_LEN(tests); k++)
                        tests[k].initial_state = &f;
                failed +=
                        _cmocka_run_group_tests(drv->name, tests, CC_ARRAY_LEN(tests), NULL, NULL);
        }
        return failed;
}
