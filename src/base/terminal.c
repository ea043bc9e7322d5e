/* Raw mode and the way back. See terminal.h. */
#include "base/terminal.h"

#include <errno.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static const int fatal_signals[CC_TERMINAL_SIGNALS] = { SIGHUP, SIGQUIT, SIGABRT, SIGSEGV,
                                                        SIGBUS, SIGFPE,  SIGILL };

static void restore_and_die(int sig)
{
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &saved);
        (void)signal(sig, SIG_DFL);
        (void)raise(sig);
}

int cc_terminal_raw(struct cc_terminal *t, struct cc_err *err)
{
        struct termios raw;
        struct sigaction sa = { .sa_handler = restore_and_die };

        if (tcgetattr(STDIN_FILENO, &saved) < 0)
                return cc_fail_errno(err, errno, "read terminal settings");
        for (size_t i = 0; i < CC_ARRAY_LEN(fatal_signals); i++)
                (void)sigaction(fatal_signals[i], &sa, &t->old[i]);
        t->raw = true;
        raw = saved;
        cfmakeraw(&raw);
        if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
                return cc_fail_errno(err, errno, "set terminal to raw mode");
        return 0;
}

void cc_terminal_restore(struct cc_terminal *t)
{
        sigset_t ttou;
        sigset_t old;

        if (!t->raw)
                return;
        /* Out of the foreground, changing the terminal would stop us: for ever, if a signal is what
         * ends us. */
        sigemptyset(&ttou);
        sigaddset(&ttou, SIGTTOU);
        (void)sigprocmask(SIG_BLOCK, &ttou, &old);
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        for (size_t i = 0; i < CC_ARRAY_LEN(fatal_signals); i++)
                (void)sigaction(fatal_signals[i], &t->old[i], NULL);
        t->raw = false;
}
