#include "serial.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

int fcd_serial_open(struct fcd_vm *vm)
{
        int flags;

        if (vm->serial_out) {
                if (vm->serial_fd >= 0 && vm->serial_fd != STDOUT_FILENO)
                        close(vm->serial_fd);
                vm->serial_fd =
                        open(vm->serial_out, O_RDWR | O_NONBLOCK | O_CREAT | O_CLOEXEC, 0666);
                return vm->serial_fd < 0 ? errno : 0;
        }
        vm->serial_fd = STDOUT_FILENO;
        flags = fcntl(STDOUT_FILENO, F_GETFL);
        if (flags >= 0)
                (void)fcntl(STDOUT_FILENO, F_SETFL, flags | O_NONBLOCK);
        return 0;
}

static void set_raw(bool raw)
{
        const tcflag_t flags = ICANON | ECHO | ISIG;
        struct termios t;

        if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &t) < 0)
                return;
        t.c_lflag = raw ? t.c_lflag & ~flags : t.c_lflag | flags;
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

static void on_input(void *arg, int fd, short revents)
{
        struct fcd_vm *vm = arg;
        char text[64]; /* as much as a UART's FIFO holds */
        ssize_t n = read(fd, text, sizeof(text));

        (void)revents;
        if (n > 0)
                dbl_guest_input(vm->guest, text, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                dbl_loop_unwatch(vm->loop, fd); /* the other side is gone, for good */
}

void fcd_serial_listen(struct fcd_vm *vm, bool on)
{
        struct stat st;

        /* /dev/null and files are no input. */
        if (vm->serial_out || fstat(STDIN_FILENO, &st) < 0 ||
            (!isatty(STDIN_FILENO) && !S_ISFIFO(st.st_mode)))
                return;
        if (on)
                dbl_loop_watch(vm->loop, STDIN_FILENO, POLLIN, on_input, vm);
        else
                dbl_loop_unwatch(vm->loop, STDIN_FILENO);
}

void fcd_serial_start(struct fcd_vm *vm)
{
        int flags = fcntl(STDIN_FILENO, F_GETFL);

        set_raw(true);
        if (flags >= 0)
                (void)fcntl(STDIN_FILENO, F_SETFL, flags | O_NONBLOCK);
        fcd_serial_listen(vm, true);
}

void fcd_serial_write(struct fcd_vm *vm, const char *data, size_t n)
{
        /* One byte more or less is lost here, as on the real line: nobody waits for a reader. */
        if (vm->serial_fd >= 0 && write(vm->serial_fd, data, n) < 0)
                return;
}

void fcd_serial_end(struct fcd_vm *vm)
{
        if (vm->state != FCD_NOT_STARTED)
                set_raw(false);
}
