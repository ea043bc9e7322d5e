/*
 * What the relay tests share: a fake VMM (a sleeping child), clients of console.sock, exact reads.
 * The relay is the test program itself under the hidden verb.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "console/console.h"

#define WAIT_MS 5000

struct fixture {
        char *dir, *serial, *console, *log, *lock;
        int listener; /* the VMM's serial socket */
        int guest;    /* the VMM's end of the console */
        pid_t vmm;
        int pidfd;
        pid_t relay;
};

static inline int unix_socket(const char *path, bool server)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(strlen(path) < sizeof(addr.sun_path));
        memcpy(addr.sun_path, path, strlen(path));
        assert_true(fd >= 0);
        if (server) {
                assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
                assert_int_equal(listen(fd, 4), 0);
        } else if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

static inline pid_t lock_pid(const struct fixture *f)
{
        CC_FREE char *text = NULL;

        for (int i = 0; i < 200; i++) {
                free(TAKE_PTR(text));
                assert_int_equal(cc_read_file(f->lock, 256, &text, NULL, NULL), 0);
                if (strstr(text, "console-relay\n"))
                        return (pid_t)atoi(text);
                usleep(10000);
        }
        fail_msg("the relay never wrote its pid: %s", text);
        return -1;
}

static inline void start_vmm(struct fixture *f)
{
        f->vmm = fork();
        if (f->vmm == 0) {
                for (;;)
                        pause();
        }
        f->pidfd = (int)syscall(SYS_pidfd_open, f->vmm, 0u);
        assert_true(f->pidfd >= 0);
}

static inline void kill_vmm(struct fixture *f)
{
        if (f->vmm > 0) {
                (void)kill(f->vmm, SIGKILL);
                (void)waitpid(f->vmm, NULL, 0);
                close(f->pidfd);
                f->vmm = 0;
        }
}

/* The relay is init's child, not ours: its pid is free (or a zombie nobody can see) once it is
 * gone; the lock tells without that race. */
static inline bool relay_gone(struct fixture *f)
{
        for (int i = 0; i < WAIT_MS / 10; i++) {
                int fd = -1;

                if (cc_lock_try(f->lock, CC_LOCK_EXCLUSIVE, "test", &fd, NULL) == 0) {
                        close(fd);
                        return true;
                }
                usleep(10000);
        }
        return false;
}

static inline void put(int fd, const void *data, size_t n)
{
        assert_int_equal(cc_write_all(fd, data, n, NULL), 0);
}

/* Read exactly n bytes, or fail after WAIT_MS. */
static inline void get(int fd, void *data, size_t n)
{
        for (size_t done = 0; done < n;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                ssize_t k;

                if (poll(&p, 1, WAIT_MS) != 1)
                        fail_msg("only %zu of %zu bytes came", done, n);
                k = read(fd, (char *)data + done, n - done);
                assert_true(k > 0);
                done += (size_t)k;
        }
}

static inline void expect(int fd, const char *text)
{
        char buf[256];

        get(fd, buf, strlen(text));
        assert_memory_equal(buf, text, strlen(text));
}

static inline void expect_silence(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        assert_int_equal(poll(&p, 1, 100), 0);
}

static inline int count_fds(pid_t pid)
{
        char path[64];
        CC_DIR DIR *d = NULL;
        int n = 0;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        d = opendir(path);
        assert_non_null(d);
        while (readdir(d))
                n++;
        return n - 2;
}
