/* Commands in a guest, for the verbs that run them: exec, run IMAGE -- CMD, cp (cli.md §7). */
#pragma once

#include "cli/cli.h"
#include "vm/agent.h"

/* Exit status when cocoon or the agent failed, not the command. */
#define EXIT_AGENT 125

/* Flags of a session. */
struct guest_flags {
        bool interactive, tty;
        struct cc_strv env;
        const char *user, *workdir;
        int64_t timeout, connect_timeout; /* ns; 0: none, as is fit */
};
extern const struct opt guest_opts[];

/* Everything that can be refused without looking at a VM. */
int guest_flags_check(const struct guest_flags *f, struct cc_err *err);

/*
 * Run argv (n words) in the guest of `vm` with our standard streams. Sets cli->exit_code: the
 * command's own, 130 or 143 after a signal, 141 when our reader is gone, all of them success here;
 * and 124 (timeout) or EXIT_AGENT with an error "exec: …".
 */
int guest_run(struct cli *cli, const struct vm_record *vm, const struct guest_flags *f,
              char *const *argv, size_t n, struct cc_err *err);

/* Connect to the agent of a VM; `f` NULL: no flags. */
int guest_dial(const struct vm_agent *agent, const struct guest_flags *f, bool greet,
               struct agent_conn *ret, struct cc_err *err);

/* The exit code of a verb that a signal ended. */
int guest_signal_code(void);
