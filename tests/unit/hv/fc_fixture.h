/* A machine on the Firecracker double: directories, disks, a kernel; questions to the journal. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/http.h"
#include "base/id.h"
#include "base/proc.h"
#include "double.h"
#include "hv/driver.h"
#include "hv/launch.h"
#include "kernel_file.h"

#define MIB (INT64_C(1) << 20)

extern const struct hv_driver hv_driver_fc;
static const struct hv_driver *const drv = &hv_driver_fc;

struct fixture {
        struct hv_env env;
        struct vm_spec spec;
        struct hv_disk disks[2];
        struct double_vmm vmm;
        char *dir, *run, *log, *kernel, *disk_path;
        char id[CC_ID_LEN + 1];
};

static inline int setup(void **state)
{
        CC_FREE char *program = double_program("tests/double/fc/firecracker");
        struct fixture *f = xcalloc(1, sizeof(*f));
        char template[] = "/tmp/cocoon-test-XXXXXX";
        int fd;

        *state = f;
        f->dir = xstrdup(mkdtemp(template));
        cc_id_new(f->id);
        /* The double insists: a run directory is named like its VM. */
        f->run = xasprintf("%s/%s", f->dir, f->id);
        f->log = cc_path_join(f->dir, "log");
        f->kernel = cc_path_join(f->dir, "vmlinux");
        f->disk_path = cc_path_join(f->dir, "disk.raw");
        fd = open(f->disk_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (!program || mkdir(f->run, 0750) < 0 || mkdir(f->log, 0750) < 0 || fd < 0 ||
            ftruncate(fd, 16 * MIB) < 0 || write_kernel_file(f->kernel) < 0)
                return -1;
        close(fd);
        double_init(&f->vmm, f->dir, program);
        f->env = (struct hv_env){
                .binary = f->vmm.binary,
                .cache_dir = f->dir,
                .socket_wait_ms = 10000,
                .grace_ms = 300,
        };
        /* Any file of its own that is only read. */
        f->disks[0] =
                (struct hv_disk){ .path = f->kernel, .format = "raw", .ro = true, .role = "layer" };
        f->disks[1] = (struct hv_disk){ .path = f->disk_path, .format = "raw", .role = "cow" };
        f->spec = (struct vm_spec){
                .id = f->id,
                .name = "web",
                .run_dir = f->run,
                .log_dir = f->log,
                .cpu = 1,
                .memory = 256 * MIB,
                .kernel = f->kernel,
                .cmdline = "console=ttyS0 reboot=k cocoon.hostname=web",
                .disks = f->disks,
                .n_disks = 2,
        };
        return 0;
}

static inline int teardown(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        int r;

        if (drv->find(f->run, f->log, 0, &proc) == 0)
                hv_abort(&proc);
        double_clear(&f->vmm);
        r = cc_rm_rf(f->dir, NULL);
        free(f->dir);
        free(f->run);
        free(f->log);
        free(f->kernel);
        free(f->disk_path);
        free(f);
        return r;
}

/* ---- the journal ---- */

struct query {
        const char *event, *endpoint;
        size_t n;
        struct cc_buf text;
};

static inline void look(void *ctx, const json_t *e)
{
        struct query *q = ctx;
        const char *text = json_string_value(json_object_get(e, "text"));

        if (!cc_streq(json_string_value(json_object_get(e, "event")), q->event))
                return;
        if (q->endpoint &&
            !cc_streq(json_string_value(json_object_get(e, "endpoint")), q->endpoint))
                return;
        q->n++;
        if (text)
                cc_buf_printf(&q->text, "%s\n", text);
}

static inline size_t count(struct fixture *f, const char *event, const char *endpoint)
{
        struct query q = { .event = event, .endpoint = endpoint };

        double_journal(&f->vmm, look, &q);
        cc_buf_free(&q.text);
        return q.n;
}

static inline size_t requests(struct fixture *f, const char *endpoint)
{
        return count(f, "request", endpoint);
}

static inline void no_violations(struct fixture *f)
{
        struct query q = { .event = "violation" };

        double_journal(&f->vmm, look, &q);
        if (q.n)
                fail_msg("%s", q.text.data ? q.text.data : "violations in the journal");
        cc_buf_free(&q.text);
        assert_int_equal(count(f, "retry-violation", NULL), 0);
}

static inline void fault(struct fixture *f, const char *endpoint, const char *what)
{
        CC_FREE char *line = xasprintf("{\"endpoint\":\"%s\",%s}", endpoint, what);

        double_fault(&f->vmm, line);
}

/* ---- launches ---- */

static inline void launch(struct fixture *f, struct vm_proc *proc)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(drv->launch(&f->env, &f->spec, proc, &err));
        assert_true(proc->pid > 0);
        assert_true(proc->console >= 0);
}

static inline void nothing_left(struct fixture *f)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;

        assert_int_equal(drv->find(f->run, f->log, 0, &proc), -CC_NOT_FOUND);
        for (size_t i = 0; drv->runtime_files[i]; i++) {
                CC_FREE char *path = cc_path_join(f->run, drv->runtime_files[i]);

                if (cc_exists(path))
                        fail_msg("%s is left behind", path);
        }
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

/* The launch fails with `class`, its text starts as every launch failure and holds `text`. */
static inline void launch_fails(struct fixture *f, int class, const char *text)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(drv->launch(&f->env, &f->spec, &proc, &err), -class);
        if (!cc_startswith(err.msg, "launch firecracker: ") || !strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        assert_int_equal(proc.pidfd, -1);
        assert_int_equal(proc.console, -1);
        nothing_left(f);
}

static inline void stop_now(struct fixture *f, struct vm_proc *proc)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(drv->stop(&f->env, f->run, proc, 0, &err));
        vm_proc_clear(proc);
        assert_ok(hv_remove_files(f->run, drv->runtime_files, &err));
}

/* Reads until `text` was seen. */
static inline void hear(int fd, const char *text)
{
        CC_BUF struct cc_buf seen = { 0 };
        int64_t end = cc_monotonic() + 5 * CC_NSEC_PER_SEC;

        while (!seen.data || !strstr(seen.data, text)) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                char chunk[512];
                ssize_t n;

                if (cc_monotonic() > end)
                        fail_msg("\"%s\" is not in: %s", text, seen.data ? seen.data : "");
                if (poll(&p, 1, 100) < 1)
                        continue;
                n = read(fd, chunk, sizeof(chunk));
                if (n > 0)
                        cc_buf_add(&seen, chunk, (size_t)n);
        }
}
