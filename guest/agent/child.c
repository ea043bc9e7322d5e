/* Starting a session's process; child.h. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "transfer.h"
#include "user.h"

extern char **environ;

static const struct {
        const char *name;
        int signo;
} signals[] = {
        { "HUP", SIGHUP },       { "INT", SIGINT },   { "QUIT", SIGQUIT },   { "ILL", SIGILL },
        { "TRAP", SIGTRAP },     { "ABRT", SIGABRT }, { "BUS", SIGBUS },     { "FPE", SIGFPE },
        { "KILL", SIGKILL },     { "USR1", SIGUSR1 }, { "SEGV", SIGSEGV },   { "USR2", SIGUSR2 },
        { "PIPE", SIGPIPE },     { "ALRM", SIGALRM }, { "TERM", SIGTERM },   { "CHLD", SIGCHLD },
        { "CONT", SIGCONT },     { "STOP", SIGSTOP }, { "TSTP", SIGTSTP },   { "TTIN", SIGTTIN },
        { "TTOU", SIGTTOU },     { "URG", SIGURG },   { "XCPU", SIGXCPU },   { "XFSZ", SIGXFSZ },
        { "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "WINCH", SIGWINCH }, { "IO", SIGIO },
        { "PWR", SIGPWR },       { "SYS", SIGSYS },
};

int signal_by_name(const char *name)
{
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
                if (strcmp(name, signals[i].name) == 0)
                        return signals[i].signo;
        return 0;
}

const char *signal_name(int signo)
{
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
                if (signals[i].signo == signo)
                        return signals[i].name;
        return NULL;
}

void child_signal(const struct child *child, int signo)
{
        /* A child that has not come to make its group yet. */
        if (kill(-child->pid, signo) < 0 && errno == ESRCH)
                kill(child->pid, signo);
}

void child_kill(const struct child *child)
{
        child_signal(child, child->copies ? SIGTERM : SIGKILL);
}

void child_fail(int report, const char *format, ...)
{
        char line[PATH_MAX + 256] = "E ";
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(line + 2, sizeof(line) - 3, format, ap);
        va_end(ap);
        if (n > (int)sizeof(line) - 4)
                n = (int)sizeof(line) - 4;
        n = n < 0 ? 2 : n + 2;
        line[n++] = '\n';
        /* Shorter than a pipe holds, and the pipe is empty but for an S line. */
        while (write(report, line, (size_t)n) < 0 && errno == EINTR)
                ;
        _exit(127);
}

static struct rlimit customary;

void child_raise_limits(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &customary) < 0)
                return;
        limit = customary;
        limit.rlim_cur = limit.rlim_max;
        /* As before, if it cannot be. */
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                customary.rlim_max = 0;
}

/* The three streams, the report, and both ends of each while the fork is under way. */
struct plumbing {
        int in[2], out[2], err[2], report[2];
};

static void close_pair(int pair[2])
{
        for (int i = 0; i < 2; i++) {
                if (pair[i] >= 0)
                        close(pair[i]);
                pair[i] = -1;
        }
}

static void close_all(struct plumbing *p)
{
        close_pair(p->in);
        close_pair(p->out);
        close_pair(p->err);
        close_pair(p->report);
}

static bool unblock(int fd)
{
        return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

static bool make_pipes(struct plumbing *p)
{
        return pipe2(p->in, O_CLOEXEC) == 0 && pipe2(p->out, O_CLOEXEC) == 0 &&
               pipe2(p->err, O_CLOEXEC) == 0 && unblock(p->in[1]) && unblock(p->out[0]) &&
               unblock(p->err[0]);
}

/* The child's end is in[0]; ours out[0] to read and in[1], a second descriptor of it, to write. */
static bool make_terminal(const struct frame *f, struct plumbing *p)
{
        struct winsize size = {
                .ws_row = f->rows > 0 && f->rows <= USHRT_MAX ? (unsigned short)f->rows : 24,
                .ws_col = f->cols > 0 && f->cols <= USHRT_MAX ? (unsigned short)f->cols : 80
        };
        char name[32];
        unsigned number;
        int unlocked = 0;

        p->out[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
        if (p->out[0] < 0 || ioctl(p->out[0], TIOCSPTLCK, &unlocked) < 0 ||
            ioctl(p->out[0], TIOCGPTN, &number) < 0 || ioctl(p->out[0], TIOCSWINSZ, &size) < 0)
                return false;
        p->in[1] = fcntl(p->out[0], F_DUPFD_CLOEXEC, 3);
        snprintf(name, sizeof(name), "/dev/pts/%u", number);
        p->in[0] = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        return p->in[1] >= 0 && p->in[0] >= 0;
}

/* What a signal did to the agent must not happen to its children. */
static void reset_signals(void)
{
        sigset_t none;

        for (int i = 1; i < NSIG; i++)
                signal(i, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A copying child never execs: close-on-exec would leave it others' pipes, which then never end. */
static void close_others(int from)
{
#ifdef SYS_close_range
        if (syscall(SYS_close_range, (unsigned)from, ~0U, 0) == 0)
                return;
#endif
        for (int fd = from; fd < 65536; fd++)
                close(fd);
}

/* As execvp, but with the agent's own PATH, without the current directory and without a shell for
 * what is no program. */
static _Noreturn void execute(char **argv, const char *path, int report)
{
        int saved = 0;

        if (strchr(argv[0], '/')) {
                execve(argv[0], argv, environ);
                child_fail(report, "exec: start %s: %s", argv[0], strerror(errno));
        }
        for (const char *dir = path; dir;) {
                const char *end = strchrnul(dir, ':');
                char file[PATH_MAX];

                if (end > dir && argv[0][0] &&
                    snprintf(file, sizeof(file), "%.*s/%s", (int)(end - dir), dir, argv[0]) <
                            (int)sizeof(file)) {
                        execve(file, argv, environ);
                        if (errno != ENOENT && errno != ENOTDIR)
                                saved = errno;
                }
                dir = *end ? end + 1 : NULL;
        }
        child_fail(report, "exec: start %s: %s", argv[0],
                   saved ? strerror(saved) : "executable file not found in $PATH");
}

static _Noreturn void run_command(const struct frame *f, int report)
{
        const char *path = getenv("PATH");
        char **argv = calloc(f->argv.count + 1, sizeof(*argv));
        char *next = f->argv.data;
        struct user user;
        const char *why;

        /* The session has refused an empty command. */
        if (!argv || f->argv.count == 0)
                abort();
        for (size_t i = 0; i < f->argv.count; i++, next += strlen(next) + 1)
                argv[i] = next;
        if (f->user.data) {
                why = user_find(f->user.data, &user);
                if (!why)
                        why = user_become(&user);
                if (why)
                        child_fail(report, "exec: user %s: %s", f->user.data, why);
        }
        if (f->tty && f->term.data)
                setenv("TERM", f->term.data, 1);
        next = f->env.data;
        for (size_t i = 0; i < f->env.count; i++, next += strlen(next) + 1)
                putenv(next);
        if (f->cwd.data && chdir(f->cwd.data) < 0)
                child_fail(report, "exec: chdir %s: %s", f->cwd.data, strerror(errno));
        execute(argv, path, report);
}

static _Noreturn void child_main(const struct frame *f, struct plumbing *p, bool copies)
{
        int report = p->report[1];

        prctl(PR_SET_PDEATHSIG, copies ? SIGTERM : SIGKILL);
        reset_signals();
        if (customary.rlim_max)
                setrlimit(RLIMIT_NOFILE, &customary);
        if (f->tty) {
                setsid();
                ioctl(p->in[0], TIOCSCTTY, 0);
        } else {
                setpgid(0, 0);
        }
        if (dup2(p->in[0], STDIN_FILENO) < 0 ||
            dup2(f->tty ? p->in[0] : p->out[1], STDOUT_FILENO) < 0 ||
            dup2(f->tty ? p->in[0] : p->err[1], STDERR_FILENO) < 0)
                child_fail(report, "exec: dup2: %s", strerror(errno));
        if (!copies)
                run_command(f, report);
        if (dup2(report, 3) < 0)
                child_fail(report, "dup2: %s", strerror(errno));
        close_others(4);
        if (f->type == FRAME_PUT)
                transfer_put(f, 3);
        transfer_get(f, 3);
}

int child_start(const struct frame *f, struct child *ret)
{
        struct plumbing p = { { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };
        bool copies = f->type != FRAME_EXEC;
        bool tty = !copies && f->tty;
        bool made = tty ? make_terminal(f, &p) : make_pipes(&p);
        pid_t pid = -1;
        int error;

        if (made && pipe2(p.report, O_CLOEXEC) == 0 && unblock(p.report[0]))
                pid = fork();
        if (pid < 0) {
                error = errno;
                close_all(&p);
                return -error;
        }
        if (pid == 0)
                child_main(f, &p, copies);
        /* Whoever comes first: the group must be there before it is signalled. */
        if (!tty)
                setpgid(pid, pid);
        *ret = (struct child){ .pid = pid,
                               .in = p.in[1],
                               .out = p.out[0],
                               .err = p.err[0],
                               .report = p.report[0],
                               .tty = tty,
                               .copies = copies };
        p.in[1] = p.out[0] = p.err[0] = p.report[0] = -1;
        close_all(&p);
        return 0;
}
