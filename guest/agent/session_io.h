/* Inside a session: moving bytes (session_io.c), and what frames do (session.c). */
#pragma once

#include "frame.h"
#include "session.h"

/* What session_io.c calls. */
void session_frame(struct session *s, struct frame *frame);
void session_input_eof(struct session *s);
void session_hangup(struct session *s);
void session_protocol_error(struct session *s, const char *why);

/* Takes the next step that the command's state allows; whether there was one. */
bool session_finish(struct session *s);

/* Moves whatever can move. The session may be gone afterwards. */
void session_pump(struct session *s);

/* Closes the command's standard input, once what is pending is written. */
void session_close_stdin(struct session *s);

/* Whether the other side is gone altogether and not only done with sending: the two look alike to
 * poll on vsock, but sending nothing tells. */
bool session_peer_gone(const struct session *s);
