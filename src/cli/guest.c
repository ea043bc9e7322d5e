/* Running a command in a guest. See guest.h. */
#include "cli/guest.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/timeutil.h"

#define EXIT_TIMEOUT 124 /* as timeout(1) */

static int check_env(const struct cc_strv *env, struct cc_err *err)
{
        const char *item;

        cc_strv_foreach (env, i, item) {
                const char *eq = strchr(item, '=');

                if (!eq || eq == item)
                        return cc_fail(err, CC_USAGE, "--env must be KEY=VALUE, got \"%s\"", item);
                if (!cc_utf8_valid(item, strlen(item)))
                        return cc_fail(err, CC_USAGE, "--env %.*s is not valid UTF-8",
                                       (int)(eq - item), item);
        }
        return 0;
}

int guest_flags_check(const struct guest_flags *f, struct cc_err *err)
{
        if (f->timeout < 0 || f->connect_timeout < 0)
                return cc_fail(err, CC_USAGE, "--%s must not be negative",
                               f->timeout < 0 ? "timeout" : "connect-timeout");
        if (f->tty && !isatty(STDIN_FILENO))
                return cc_fail(err, CC_STATE, "exec: stdin is not a terminal");
        return check_env(&f->env, err);
}

int guest_dial(const struct vm_agent *agent, const struct guest_flags *f, bool greet,
               struct agent_conn *ret, struct cc_err *err)
{
        struct agent_dial how = { .greet = greet };

        how.connect_ms = f && f->connect_timeout ? f->connect_timeout / CC_NSEC_PER_MSEC
                                                 : vm_agent_patience(&agent->vm);
        if (f && f->timeout)
                how.queue_ms = f->timeout / CC_NSEC_PER_MSEC + 1;
        return agent_dial(&agent->peer, &how, ret, err);
}

int guest_signal_code(void)
{
        return 128 + cc_interrupt_signal();
}

static int session(struct cli *cli, const struct vm_record *vm, const struct guest_flags *f,
                   char *const *argv, struct cc_err *err)
{
        VM_AGENT struct vm_agent agent = { 0 };
        AGENT_CONN struct agent_conn conn = AGENT_CONN_INIT;
        struct agent_result result = { 0 };
        bool in = f->interactive || f->tty;
        struct agent_exec x = {
                .argv = (const char *const *)argv,
                .env = (const char *const *)f->env.v,
                .user = cc_isempty(f->user) ? NULL : f->user,
                .cwd = cc_isempty(f->workdir) ? NULL : f->workdir,
                .tty = f->tty,
                .term = getenv("TERM"),
                .fd_in = in ? STDIN_FILENO : -1,
                .fd_out = STDOUT_FILENO,
                .fd_err = STDERR_FILENO,
                .timeout_ms = f->timeout ? f->timeout / CC_NSEC_PER_MSEC + 1 : 0,
        };
        int r = vm_agent_find(&cli->config, vm, &agent, err);

        if (r == 0)
                r = guest_dial(&agent, f, in || x.user || x.cwd, &conn, err);
        if (r == 0)
                r = agent_exec(&conn, &x, &result, err);
        if (r == 0)
                cli->exit_code = result.code;
        return r;
}

int guest_run(struct cli *cli, const struct vm_record *vm, const struct guest_flags *f,
              char *const *argv, size_t n, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r;

        for (size_t i = 0; i < n; i++)
                if (!cc_utf8_valid(argv[i], strlen(argv[i])))
                        return cc_fail(err, CC_USAGE, "exec: argument %zu is not valid UTF-8",
                                       i + 1);
        r = session(cli, vm, f, argv, &why);
        if (r == 0)
                return 0;
        if (r == -CC_CANCELED && cc_interrupt_signal()) {
                cli->exit_code = guest_signal_code();
                return 0;
        }
        cli->exit_code = r == -CC_TIMEOUT ? EXIT_TIMEOUT : EXIT_AGENT;
        (void)cc_err_copy(err, &why);
        return cc_wrap(err, "exec");
}

#define AT(member) .offset = offsetof(struct guest_flags, member)

const struct opt guest_opts[] = {
        { .name = "interactive",
          .letter = 'i',
          .type = OPT_BOOL,
          AT(interactive),
          .help = "pass standard input on; without it the command reads an empty one" },
        { .name = "tty",
          .letter = 't',
          .type = OPT_BOOL,
          AT(tty),
          .help = "run the command on a terminal of its own, and pass this one's keys and size "
                  "on" },
        { .name = "env",
          .letter = 'e',
          .type = OPT_STRINGS,
          AT(env),
          .metavar = "KEY=VALUE",
          .help = "set an environment variable; may be repeated" },
        { .name = "user",
          .type = OPT_STRING,
          AT(user),
          .metavar = "USER",
          .help = "run as this user of the guest, by name or UID:GID; root if absent" },
        { .name = "workdir",
          .type = OPT_STRING,
          AT(workdir),
          .metavar = "DIR",
          .help = "run in this directory of the guest" },
        { .name = "timeout",
          .type = OPT_DURATION,
          AT(timeout),
          .metavar = "DURATION",
          .help = "end the command after this time (exit code 124); 0 never" },
        { .name = "connect-timeout",
          .type = OPT_DURATION,
          AT(connect_timeout),
          .metavar = "DURATION",
          .help = "how long to try an agent that does not answer; 10s for a VM that just started, "
                  "else 2s, if absent" },
        { 0 },
};
