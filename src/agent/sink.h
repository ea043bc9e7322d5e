/* Our own output while a session runs: never blocks the session, because who reads it may wait for
 * what only the session can bring. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

/* What may wait in a sink before its session stops reading. */
#define AGENT_SINK_MAX ((size_t)256 << 10)

enum agent_sink_way {
        AGENT_SINK_DROP,
        AGENT_SINK_BLOCKING, /* a file */
        AGENT_SINK_SOCKET,
        AGENT_SINK_OWN,  /* a pipe or terminal, opened once more so that its flags are ours */
        AGENT_SINK_PIPE, /* one that cannot be: little enough to fit, whenever it is writable */
};

struct agent_sink {
        int fd;
        enum agent_sink_way way;
        struct cc_buf pending;
        size_t at;
        struct cc_buf *keep; /* DROP: the first AGENT_SINK_KEEP bytes */
        bool gone;           /* nobody reads it any more */
};
#define AGENT_SINK_KEEP 4096

/* fd is borrowed; -1 drops what is written, but for the beginning if `keep` is not NULL. */
void agent_sink_open(struct agent_sink *s, int fd, struct cc_buf *keep);
void agent_sink_close(struct agent_sink *s);

/* Write what can be written now and keep the rest. A reader that is gone sets `gone`, which is no
 * failure. */
int agent_sink_write(struct agent_sink *s, const void *data, size_t n, struct cc_err *err);
int agent_sink_flush(struct agent_sink *s, struct cc_err *err);

static inline size_t agent_sink_pending(const struct agent_sink *s)
{
        return s->pending.len - s->at;
}
