/*
 * The process of a Cloud Hypervisor VMM: its log, its start, and the wait for it. Its API socket
 * appears before a guest runs, so a VM only counts as started when vm.info says Running; whichever
 * comes first, that or the death of the process, ends the wait.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/timeutil.h"
#include "hv/ch/api.h"
#include "hv/ch/ch.h"
#include "hv/launch.h"

#define SOCKET_WAIT_MS 5000  /* when the configuration says nothing */
#define BOOT_FACTOR    6     /* a machine may take this much longer than its socket: 30 s */
#define DEATH_MS       2000  /* a socket goes a moment before its process */
#define BROKEN_MAX     5     /* connections that may break before the API counts as broken */
#define NAP_US         250   /* between two looks, doubled up to: */
#define NAP_SOCKET_US  1000  /* before there is a socket */
#define NAP_MAX_US     64000 /* before the guest runs */
#define LOG_MAX        65536 /* of a VMM that has only just begun */

/* Left behind by a VMM that was killed; a leftover makes the next one fail with "address in use".
 */
const char *const ch_runtime_files[] = {
        CH_API_SOCK, CH_SERIAL_SOCK, "console.sock", CH_VSOCK_SOCK, CH_PID, "cmdline", NULL,
};

/* The log of the start before this one is often the one that explains. */
static void rotate_log(const struct vm_spec *spec)
{
        CC_FREE char *log = cc_path_join(spec->log_dir, CH_LOG);
        CC_FREE char *old = xasprintf("%s.1", log);

        (void)rename(log, old);
}

/*
 * The error of a VMM that died during launch. Its last words are a list of causes, outermost first:
 *
 *      Error: Cloud Hypervisor exited with the following chain of errors:
 *        0: Error booting VM
 *        1: The VM could not boot
 *
 * Joined, they make one line; any other words are quoted as hv_launch_died() does.
 */
static int died(const struct hv_launch *l, struct cc_err *err)
{
        static const char head[] = "chain of errors:";
        CC_FREE char *path = cc_path_join(l->log_dir, l->log_name);
        CC_BUF struct cc_buf causes = { 0 };
        CC_FREE char *text = NULL;
        const char *line;

        if (cc_read_file(path, LOG_MAX, &text, NULL, NULL) < 0 || !(line = strstr(text, head)))
                return hv_launch_died(l, err);
        for (line += strcspn(line, "\n"); *line == '\n'; line += strcspn(line, "\n")) {
                const char *cause;

                line++;
                cause = line + strspn(line, " ");
                cause += strspn(cause, "0123456789");
                if (cause[0] != ':' || cause[1] != ' ')
                        break;
                cause += 2;
                cc_buf_str(&causes, causes.len ? ": " : "");
                cc_buf_add(&causes, cause, strcspn(cause, "\n"));
        }
        if (causes.len == 0)
                return hv_launch_died(l, err);
        return cc_fail(err, CC_UNAVAILABLE, "launch %s: %s", l->title, causes.data);
}

/* Waiting for a VMM that was just started. */
struct wait {
        const struct hv_launch *launch;
        const struct vm_proc *proc;
        bool bare; /* no machine is expected: the API alone is enough */
        int64_t wait_ms;
        int64_t socket_deadline, boot_deadline;
        bool connected; /* ever */
        int broken;     /* connections that broke */
        long nap_us;
        struct cc_err last; /* why it was not running when last asked */
};

/* Returns as cc_pidfd_wait(). That a socket can be connected to wakes nobody: inotify could tell of
 * its file, but closing an inotify descriptor waits for the kernel's grace period, 10-20 ms. */
static int nap(const struct wait *w, struct cc_err *err)
{
        struct pollfd fds[2] = {
                { .fd = w->proc->pidfd, .events = POLLIN },
                { .fd = cc_interrupt_wait_fd(), .events = POLLIN },
        };
        struct timespec ts = { .tv_nsec = w->nap_us * 1000 };

        (void)ppoll(fds, CC_ARRAY_LEN(fds), &ts, NULL);
        if (fds[0].revents)
                return 1;
        return cc_interrupted() ? cc_fail(err, CC_CANCELED, "interrupted") : 0;
}

/* One question. 1: the guest runs; 0: ask again later; negative: it never will. */
static int ask(struct wait *w, struct cc_err *err)
{
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        int64_t left = (w->boot_deadline - cc_monotonic()) / CC_NSEC_PER_MSEC + 1;
        const char *state;
        int r;

        if (left <= 1 && w->last.class != CC_OK)
                return cc_err_copy(err, &w->last);
        r = ch_get_info(w->launch->run_dir, (int)(left < CH_API_MS ? left : CH_API_MS), &info,
                        &w->last);

        w->connected |= r != -CC_UNAVAILABLE;
        if (r == 0 && (w->bare || info.state == CH_RUNNING))
                return 1;
        if (r == 0) {
                state = json_string_value(json_object_get(info.body, "state"));
                r = cc_fail(&w->last, CC_STATE, "the guest does not run: its machine is %s",
                            info.state == CH_NO_VM ? "not created"
                            : state                ? state
                                                   : "in no known state");
                if (info.state == CH_NO_VM || info.state == CH_CREATED)
                        return 0;
                return cc_err_copy(err, &w->last);
        }
        /* A question changes nothing, so a failed one may be asked again; but an answer that is
         * none will not become one. */
        if (r == -CC_UNAVAILABLE || r == -CC_STATE || r == -CC_BUSY)
                return 0;
        if (r == -CC_IO && ++w->broken < BROKEN_MAX)
                return 0;
        return cc_err_copy(err, &w->last);
}

/* Whether the time is up, and for what. */
static int late(const struct wait *w, struct cc_err *err)
{
        int64_t now = cc_monotonic();

        if (!w->connected && now > w->socket_deadline)
                return cc_fail(err, CC_TIMEOUT, "no API socket within %lld ms",
                               (long long)w->wait_ms);
        return now > w->boot_deadline ? cc_err_copy(err, &w->last) : 0;
}

static int wait_running(struct wait *w, struct cc_err *err)
{
        for (;;) {
                struct cc_err why = CC_ERR_INIT;
                int r = ask(w, &why);

                if (r == 1)
                        return 0;
                if (r == 0)
                        r = late(w, &why);
                if (r == 0)
                        r = nap(w, &why);
                if (w->nap_us < (w->connected ? NAP_MAX_US : NAP_SOCKET_US))
                        w->nap_us *= 2;
                if (r == 0)
                        continue;
                /* What breaks a connection is mostly the end of the process. */
                if (r == 1 || (r == -CC_IO && cc_pidfd_wait(w->proc->pidfd, DEATH_MS) == 1))
                        return died(w->launch, err);
                (void)cc_err_copy(err, &why);
                return cc_wrap(err, "launch %s", w->launch->title);
        }
}

static int await(const struct hv_env *env, const struct hv_launch *l, const struct vm_proc *proc,
                 bool bare, struct cc_err *err)
{
        int64_t now = cc_monotonic();
        struct wait w = {
                .launch = l,
                .proc = proc,
                .bare = bare,
                .wait_ms = env->socket_wait_ms > 0 ? env->socket_wait_ms : SOCKET_WAIT_MS,
                .nap_us = NAP_US,
                .last = CC_ERR_INIT,
        };

        w.socket_deadline = now + w.wait_ms * CC_NSEC_PER_MSEC;
        w.boot_deadline = now + BOOT_FACTOR * w.wait_ms * CC_NSEC_PER_MSEC;
        return wait_running(&w, err);
}

int ch_process_start(const struct hv_env *env, const struct vm_spec *spec,
                     const struct cc_strv *argv, bool bare, const char *failpoint,
                     struct vm_proc *ret, struct cc_err *err)
{
        CC_CLEANUP(hv_abort) struct vm_proc proc = VM_PROC_INIT;
        struct hv_launch l = {
                .title = "cloud-hypervisor",
                .run_dir = spec->run_dir,
                .log_dir = spec->log_dir,
                .log_name = CH_LOG,
                .pid_name = CH_PID,
                .argv = (const char *const *)argv->v,
                .netns = spec->netns,
                .failpoint = failpoint,
        };
        int r;

        rotate_log(spec);
        r = hv_launch(&l, &proc, err);
        if (r == 0)
                r = await(env, &l, &proc, bare, err);
        if (r < 0) {
                hv_abort(&proc);
                (void)hv_remove_files(spec->run_dir, ch_runtime_files, NULL);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}
