/*
 * Is a process the VMM of this VM (cloud-hypervisor.md §1.4)? Ours is what has `--api-socket` and
 * our socket's path as whole words at the beginning of its command line, where the launcher puts
 * them: a tool that merely mentions the path (curl, strace, an editor) has not.
 *
 * The pid file answers almost always. When it does not and the run directory says that a VMM may
 * live all the same (its socket is there, or its lock is held), /proc is searched. There a VMM with
 * a PTY console shows up twice: its helper process has the same command line.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "hv/ch/ch.h"

/* Forked, but nothing executed since (linux/sched.h of the kernel, not exported). */
#define PF_FORKNOEXEC 0x40

/* Binary, an interpreter in front of it, the flag and the longest socket path. */
#define HEAD_MAX (2 * 4096 + 256)

static bool command_line_is_ours(pid_t pid, const char *socket)
{
        char path[40];
        char head[HEAD_MAX];
        CC_CLOSE int fd = -1;
        ssize_t n;
        const char *word = head;
        const char *end;
        bool flag = false;

        (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, head, sizeof(head));
        if (n <= 0)
                return false;
        end = head + n;
        /* Words 1 and 2, or 2 and 3 behind an interpreter. */
        for (int i = 0; i < 4 && word < end; i++) {
                const char *nul = memchr(word, '\0', (size_t)(end - word));

                if (!nul)
                        return false;
                if (flag && i >= 2)
                        return strcmp(word, socket) == 0;
                flag = i >= 1 && strcmp(word, "--api-socket") == 0;
                word = nul + 1;
        }
        return false;
}

/*
 * True for a VMM's PTY helper, a fork that never executed anything; a VMM was executed. The kernel
 * says so itself: field 9 of stat holds the task's flags. (Its parent does not tell: it outlives a
 * VMM that was killed by a moment, adopted by another. Nor do its descriptors while it starts.)
 */
static bool is_fork(pid_t pid)
{
        CC_FREE char *path = xasprintf("/proc/%d/stat", (int)pid);
        CC_FREE char *text = NULL;
        const char *p;

        if (cc_read_file(path, 4096, &text, NULL, NULL) < 0)
                return true; /* gone */
        /* pid (comm) state ppid pgrp session tty_nr tpgid flags; comm may hold anything. */
        p = strrchr(text, ')');
        for (int field = 3; p && field <= 9; field++)
                p = strchr(p + 1, ' ');
        return !p || strtoul(p, NULL, 10) & PF_FORKNOEXEC;
}

static int open_verified(pid_t pid, const char *socket, uint64_t starttime, struct vm_proc *ret)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;

        proc.pid = pid;
        /* The pidfd first: what is looked at afterwards is what it refers to, or it has died. */
        if (cc_proc_open(pid, starttime, NULL, &proc.pidfd) < 0 ||
            !command_line_is_ours(pid, socket) || is_fork(pid) ||
            cc_proc_starttime(pid, &proc.starttime) < 0)
                return -CC_NOT_FOUND;
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}

/* Somebody holds the lock that a VMM takes beside its socket. */
static bool lock_held(const char *run_dir)
{
        CC_FREE char *path = cc_path_join(run_dir, CH_API_LOCK);
        CC_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int search(const char *socket, uint64_t starttime, struct vm_proc *ret)
{
        CC_DIR DIR *dir = opendir("/proc");
        const struct dirent *e;

        if (!dir)
                return -CC_IO;
        for (errno = 0; (e = readdir(dir)); errno = 0) {
                pid_t pid = isdigit((unsigned char)e->d_name[0])
                                    ? (pid_t)strtol(e->d_name, NULL, 10)
                                    : 0;

                if (pid > 0 && command_line_is_ours(pid, socket) &&
                    open_verified(pid, socket, starttime, ret) == 0)
                        return 0;
        }
        return errno ? -CC_IO : -CC_NOT_FOUND;
}

int ch_find(const char *run_dir, const char *log_dir, uint64_t starttime, struct vm_proc *ret)
{
        CC_FREE char *pid_file = cc_path_join(run_dir, CH_PID);
        CC_FREE char *socket = cc_path_join(run_dir, CH_API_SOCK);
        pid_t pid;

        (void)log_dir;
        if (cc_pid_file_read(pid_file, &pid) == 0 &&
            open_verified(pid, socket, starttime, ret) == 0)
                return 0;
        if (!cc_exists(socket) && !lock_held(run_dir))
                return -CC_NOT_FOUND;
        return search(socket, starttime, ret);
}
