#include "helper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In the child: all but standard error and our end of the pipe is closed before we say that we are
 * there, or locks and sockets would outlive the VMM. */
static _Noreturn void wait_for_end(int fd)
{
        struct pollfd p = { .fd = STDIN_FILENO };
        sigset_t none;

        if (dup2(fd, STDIN_FILENO) < 0)
                _exit(1);
        close(STDOUT_FILENO);
        (void)syscall(SYS_close_range, 3U, ~0U, 0);
        (void)setsid();
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (write(STDIN_FILENO, "\n", 1) == 1)
                /* An error is all that ever happens to this end: nobody reads any more. */
                while (poll(&p, 1, -1) <= 0)
                        ;
        _exit(0);
}

int ch_helper_start(void)
{
        int ends[2];
        pid_t pid;
        char ready;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -1;
        pid = fork();
        if (pid == 0)
                wait_for_end(ends[1]);
        close(ends[1]);
        if (pid > 0 && read(ends[0], &ready, 1) == 1)
                return ends[0];
        close(ends[0]);
        return -1;
}
