/* The shared launch helper. See launch.h. */
#include "hv/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == HV_SOCKET_PATH_MAX + 1,
               "sun_path differs");

/* Enough for a VMM's dying words; the rest of a long log is not read. */
#define LOG_TAIL 4096

int hv_socket_path_check(const char *run_dir, const char *name, struct cc_err *err)
{
        size_t n = strlen(run_dir) + 1 + strlen(name);

        if (n <= HV_SOCKET_PATH_MAX)
                return 0;
        (void)cc_fail(err, CC_INVALID, "socket path %s/%s is %zu bytes long, at most %d fit",
                      run_dir, name, n, HV_SOCKET_PATH_MAX);
        cc_hint(err, "use a shorter run directory");
        return -CC_INVALID;
}

int hv_listen_unix(const char *run_dir, const char *name, int *ret, struct cc_err *err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        CC_FREE char *path = cc_path_join(run_dir, name);
        CC_CLOSE int fd = -1;
        int r = hv_socket_path_check(run_dir, name, err);

        if (r < 0)
                return r;
        memcpy(addr.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        /* Linux gives the file the mode of the unbound socket: it is never wider than this, not
         * even for the moment between bind and a chmod. */
        if (fchmod(fd, 0600) < 0)
                return cc_fail_errno(err, errno, "set mode of %s", path);
        r = cc_unlink(path, err);
        if (r < 0)
                return r;
        if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
                return cc_fail_errno(err, errno, "bind %s", path);
        if (listen(fd, 16) < 0) {
                int e = errno;

                (void)unlink(path);
                return cc_fail_errno(err, e, "listen on %s", path);
        }
        *ret = TAKE_FD(fd);
        return 0;
}

int hv_connect_unix(const char *run_dir, const char *name, int *ret, struct cc_err *err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        CC_FREE char *path = cc_path_join(run_dir, name);
        CC_CLOSE int fd = -1;
        int r = hv_socket_path_check(run_dir, name, err);

        if (r < 0)
                return r;
        memcpy(addr.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
                return cc_fail_errno(err, errno, "connect to %s", path);
        *ret = TAKE_FD(fd);
        return 0;
}

int hv_guest_memory(int64_t size, bool huge, int *ret, struct cc_err *err)
{
        unsigned flags = MFD_CLOEXEC | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
        CC_CLOSE int fd = memfd_create("cocoon-ram", flags);

        if (fd < 0)
                return cc_fail_errno(err, errno, "create guest memory");
        if (ftruncate(fd, size) < 0)
                return cc_fail_errno(err, errno, "size guest memory");
        *ret = TAKE_FD(fd);
        return 0;
}

int hv_write_file(const char *dir, const char *name, const char *text, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(dir, name);
        CC_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", path);
        return cc_write_all(fd, text, strlen(text), err);
}

static int write_cmdline(const struct hv_launch *l, struct cc_err *err)
{
        CC_BUF struct cc_buf text = { 0 };

        for (size_t i = 0; l->argv[i]; i++) {
                if (i)
                        cc_buf_char(&text, ' ');
                cc_buf_str(&text, l->argv[i]);
        }
        cc_buf_char(&text, '\n');
        return hv_write_file(l->run_dir, "cmdline", text.data, err);
}

int hv_launch(const struct hv_launch *l, struct vm_proc *ret, struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *log_path = cc_path_join(l->log_dir, l->log_name);
        CC_FREE char *pid_path = cc_path_join(l->run_dir, l->pid_name);
        CC_FREE char *cmdline_path = cc_path_join(l->run_dir, "cmdline");
        CC_CLOSE int log_fd = -1;
        int r;

        /* O_APPEND, so that rotation by truncation keeps working under the running VMM. */
        log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
                      0640);
        if (log_fd < 0)
                return cc_fail_errno(err, errno, "open log %s", log_path);
        r = write_cmdline(l, err);
        if (r == 0) {
                struct cc_spawn spawn = {
                        .argv = l->argv,
                        .env = cc_lasting_env,
                        .fd_in = l->tty ? *l->tty : -1,
                        .fd_out = l->tty ? *l->tty : log_fd,
                        .fd_err = log_fd,
                        .fds = l->fds,
                        .n_fds = l->n_fds,
                        .new_session = true,
                        .pid_file = pid_path,
                        .netns = l->netns,
                        .binds = l->binds,
                        .n_binds = l->n_binds,
                        .file_mask = 0077,
                };

                r = cc_spawn(&spawn, &proc.pid, &proc.pidfd, err);
        }
        if (r < 0) {
                (void)unlink(cmdline_path);
                return cc_wrap(err, "launch %s", l->title);
        }
        /* A process that is a zombie already keeps 0; the driver's first step notices its death. */
        (void)cc_proc_starttime(proc.pid, &proc.starttime);
        r = cc_failpoint(l->failpoint ? l->failpoint : "start.T3", err);
        if (r < 0) {
                hv_abort(&proc);
                return r;
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}

/* The last line of s that holds more than blanks, cut in place; "" if there is none. */
static char *last_line(char *s)
{
        size_t n = strlen(s);
        char *nl;

        while (n && strchr(" \t\r\n", s[n - 1]))
                s[--n] = '\0';
        nl = strrchr(s, '\n');
        return nl ? nl + 1 : s;
}

char *hv_last_words(const char *log_dir, const char *name)
{
        CC_FREE char *path = cc_path_join(log_dir, name);
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        char tail[LOG_TAIL + 1];
        struct stat st;
        ssize_t n = 0;
        char *line;

        if (fd >= 0 && fstat(fd, &st) == 0)
                n = pread(fd, tail, LOG_TAIL, st.st_size > LOG_TAIL ? st.st_size - LOG_TAIL : 0);
        tail[n > 0 ? n : 0] = '\0';
        line = last_line(tail);
        for (char *c = line; *c; c++)
                if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
                        *c = '?';
        return xstrdup(line);
}

int hv_launch_died(const struct hv_launch *l, struct cc_err *err)
{
        CC_FREE char *line = hv_last_words(l->log_dir, l->log_name);

        return cc_fail(err, CC_UNAVAILABLE, "launch %s: %s", l->title,
                       *line ? line : "the process ended without a message");
}

void hv_abort(struct vm_proc *proc)
{
        if (proc->pidfd < 0)
                return;
        cc_uninterruptible_begin();
        (void)cc_pidfd_signal(proc->pidfd, SIGKILL, NULL);
        (void)cc_pidfd_wait(proc->pidfd, 5000);
        cc_uninterruptible_end();
        cc_reap(proc->pid);
        vm_proc_clear(proc);
}

int hv_remove_files(const char *dir, const char *const *names, struct cc_err *err)
{
        int first = 0;

        for (; *names; names++) {
                CC_FREE char *path = cc_path_join(dir, *names);
                int r = cc_unlink(path, first ? NULL : err);

                if (r < 0 && !first)
                        first = r;
        }
        return first;
}
