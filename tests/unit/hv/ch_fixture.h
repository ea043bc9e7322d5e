/* A machine on the Cloud Hypervisor double, in directories of its own: what the tests of that
 * driver share. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/id.h"
#include "base/proc.h"
#include "double.h"
#include "hv/ch/api.h"
#include "hv/ch/ch.h"
#include "hv/driver.h"
#include "hv/launch.h"

#define MIB (INT64_C(1) << 20)

extern const struct hv_driver hv_driver_ch;
static const struct hv_driver *const drv = &hv_driver_ch;

struct fixture {
        struct double_vmm vmm;
        char *dir, *run, *log, *disk_path, *kernel;
        struct hv_env env;
        struct hv_disk disk;
        struct vm_spec spec;
        char id[CC_ID_LEN + 1];
        struct vm_proc proc;
        char *program;
};

/* As much of a bzImage as a loader looks at. */
static inline void write_kernel(const char *path)
{
        struct cc_err err = CC_ERR_INIT;
        char image[4096] = { 0 };

        memcpy(image + 0x202, "HdrS", 4);
        assert_ok(cc_publish(path, image, sizeof(image), 0600, &err));
}

static inline int setup(void **state)
{
        struct fixture *f = xcalloc(1, sizeof(*f));
        char template[] = "/tmp/cocoon-ch-XXXXXX";

        *state = f;
        f->program = double_program("tests/double/ch/cloud-hypervisor");
        f->dir = xstrdup(mkdtemp(template));
        f->run = cc_path_join(f->dir, "run");
        f->log = cc_path_join(f->dir, "log");
        f->disk_path = cc_path_join(f->dir, "disk.raw");
        f->kernel = cc_path_join(f->dir, "vmlinuz");
        f->proc = (struct vm_proc)VM_PROC_INIT;
        if (mkdir(f->run, 0750) < 0 || mkdir(f->log, 0750) < 0)
                return -1;
        double_write(f->disk_path, "a disk");
        write_kernel(f->kernel);
        if (truncate(f->disk_path, 16 * MIB) < 0)
                return -1;
        cc_id_new(f->id);
        if (f->program)
                double_init(&f->vmm, f->dir, f->program);
        f->env = (struct hv_env){
                .binary = f->vmm.binary,
                .root_dir = f->dir,
                .socket_wait_ms = 2000,
                .grace_ms = 500,
        };
        f->disk = (struct hv_disk){
                .path = f->disk_path, .serial = "cocoon-cow", .format = "raw", .role = "cow"
        };
        f->spec = (struct vm_spec){
                .id = f->id,
                .name = "faults",
                .run_dir = f->run,
                .log_dir = f->log,
                .cpu = 1,
                .memory = 512 * MIB,
                .kernel = f->kernel,
                .cmdline = "console=hvc0",
                .disks = &f->disk,
                .n_disks = 1,
        };
        return 0;
}

static inline int teardown(void **state)
{
        struct fixture *f = *state;
        int r;

        vm_proc_clear(&f->proc);
        if (ch_find(f->run, f->log, 0, &f->proc) == 0)
                hv_abort(&f->proc);
        r = cc_rm_rf(f->dir, NULL);
        double_clear(&f->vmm);
        free(f->dir);
        free(f->run);
        free(f->log);
        free(f->disk_path);
        free(f->kernel);
        free(f->program);
        free(f);
        return r;
}

static inline struct fixture *fixture(void **state)
{
        struct fixture *f = *state;

        if (!f->program)
                skip_because("the Cloud Hypervisor double is not built");
        return f;
}

static inline void launch(struct fixture *f)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(drv->launch(&f->env, &f->spec, &f->proc, &err));
}

static inline void events_are(struct fixture *f, const char *want)
{
        CC_FREE char *got = double_events(&f->vmm);

        if (strcmp(got, want) != 0)
                fail_msg("the VMM saw:\n%sexpected:\n%s", got, want);
}

static inline bool ended(const struct fixture *f)
{
        return cc_pidfd_wait(f->proc.pidfd, 0) == 1;
}

#define test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
