#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In the child: only the end of the pipe stays open, or locks and sockets would outlive us. */
static _Noreturn void wait_for_end(int fd)
{
        char byte;

        (void)setsid();
        (void)signal(SIGTERM, SIG_DFL);
        if (dup2(fd, STDIN_FILENO) < 0)
                _exit(1);
        (void)syscall(SYS_close_range, 1U, ~0U, 0);
        while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
                ;
        _exit(0);
}

int ch_helper_start(void)
{
        int ends[2];
        pid_t pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -1;
        pid = fork();
        if (pid == 0) {
                close(ends[1]);
                wait_for_end(ends[0]);
        }
        close(ends[0]);
        if (pid > 0)
                return ends[1];
        close(ends[1]);
        return -1;
}
