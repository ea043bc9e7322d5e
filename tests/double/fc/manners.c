#include "manners.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"

enum { FDS_SEEN = 64 };

static unsigned long inode_of(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 ? st.st_ino : 0;
}

void fcd_heritage_read(struct fcd_heritage *h)
{
        sigset_t blocked;
        struct sigaction sa;

        *h = (struct fcd_heritage){ 0 };
        for (int fd = 0; fd < FDS_SEEN; fd++) {
                if (fcntl(fd, F_GETFD) >= 0)
                        h->fds |= 1UL << fd;
        }
        (void)sigprocmask(SIG_SETMASK, NULL, &blocked);
        for (int sig = 1; sig < SIGRTMIN; sig++) {
                if (sigismember(&blocked, sig) == 1)
                        h->blocked |= 1UL << (sig - 1);
                if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN)
                        h->ignored |= 1UL << (sig - 1);
        }
}

/* The other end of our own console may stay open in us: it is then alive as long as we are. */
static bool is_own_master(int fd)
{
        const char *slave = ttyname(STDIN_FILENO);
        CC_FREE char *want = NULL;
        unsigned pty;

        if (!slave || ioctl(fd, TIOCGPTN, &pty) < 0)
                return false;
        want = xasprintf("/dev/pts/%u", pty);
        return cc_streq(slave, want);
}

void fcd_heritage_note(struct fcd_vm *vm, const struct fcd_heritage *h)
{
        CC_CLOSE int tty = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
        json_t *fields;

        fields = json_pack("{s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I}", "mntns",
                           (json_int_t)inode_of("/proc/self/ns/mnt"), "sid", (json_int_t)getsid(0),
                           "pgid", (json_int_t)getpgid(0), "fds", (json_int_t)h->fds, "tty",
                           tty >= 0, "blocked", (json_int_t)h->blocked, "ignored",
                           (json_int_t)h->ignored, "euid", (json_int_t)geteuid());
        dbl_journal_add(vm->journal, "process", fields);
        for (int fd = 3; fd < FDS_SEEN; fd++) {
                if (h->fds >> fd & 1 && !is_own_master(fd))
                        fcd_violation(vm, "descriptor %d is inherited", fd);
        }
        if (h->blocked || h->ignored)
                fcd_violation(vm, "signals are blocked or ignored");
}

static void check_order(struct fcd_vm *vm, int argc, char **argv)
{
        static const char *const order[] = { "--api-sock", "--log-path", "--level", "--id" };

        for (size_t i = 0; i < CC_ARRAY_LEN(order); i++) {
                size_t at = 1 + 2 * i;

                if (at >= (size_t)argc || strcmp(argv[at], order[i]) != 0) {
                        fcd_violation(vm, "argument %zu is not %s", at, order[i]);
                        return;
                }
        }
}

static void check_log(struct fcd_vm *vm, const char *path)
{
        struct stat st;

        if (!path)
                fcd_violation(vm, "no log file");
        else if (stat(path, &st) < 0)
                fcd_violation(vm, "log %s does not exist: older versions do not create it", path);
        else if (st.st_size > 0)
                fcd_violation(vm, "log %s is not empty: it would be overwritten", path);
}

static void check_streams(struct fcd_vm *vm)
{
        struct stat in;
        struct stat out;

        if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || fstat(STDIN_FILENO, &in) < 0 ||
            fstat(STDOUT_FILENO, &out) < 0 || in.st_rdev != out.st_rdev)
                fcd_violation(vm, "stdin and stdout are not one terminal");
        if (isatty(STDERR_FILENO))
                fcd_violation(vm, "stderr is a terminal: messages would mix with the console");
}

static void check_session(struct fcd_vm *vm)
{
        CC_CLOSE int tty = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);

        if (getsid(0) != getpid())
                fcd_violation(vm, "not a session leader");
        if (tty >= 0)
                fcd_violation(vm, "the console is the controlling terminal");
}

void fcd_check_manners(struct fcd_vm *vm, int argc, char **argv, const struct fcd_args *args)
{
        const char *slash = strrchr(args->api_sock, '/');
        CC_FREE char *dir =
                slash ? xstrndup(args->api_sock, (size_t)(slash - args->api_sock)) : xstrdup(".");

        check_order(vm, argc, argv);
        check_log(vm, args->log_path);
        check_streams(vm);
        check_session(vm);
        if (!cc_streq(args->level, "Warning"))
                fcd_violation(vm, "log level is not Warning");
        if (!cc_streq(cc_basename(dir), args->id))
                fcd_violation(vm, "--id %s is not the name of the run directory %s", args->id, dir);
}
