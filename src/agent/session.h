/* The engine of a session, whatever its first frame: for the files of this folder. */
#pragma once

#include "agent/agent.h"
#include "agent/sink.h"
#include "base/terminal.h"

struct agent_session {
        struct agent_conn *conn;
        struct cc_buf out; /* to the agent; starts with the first frame */
        size_t out_at;
        struct agent_sink sinks[2];
        int fd_in;    /* -1: none, or at its end */
        bool in_done; /* the end was sent */
        bool want_raw, started, ended;
        bool deaf; /* the agent takes no more */
        int winch; /* signalfd, with a terminal */
        struct cc_terminal terminal;
        char *chunk;
        struct agent_result result;
};

/* Without input, output dropped: whoever uses it fills in what it has. */
void agent_session_init(struct agent_session *s, struct agent_conn *c);
void agent_session_clear(struct agent_session *s); /* also the cleanup function */
#define AGENT_SESSION CC_CLEANUP(agent_session_clear)

/* Standard input is a terminal: raw mode, its size is passed on. */
int agent_session_terminal(struct agent_session *s, struct cc_err *err);

int agent_session_run(struct agent_session *s, int64_t timeout_ms, struct agent_result *ret,
                      struct cc_err *err);
