/*
 * The host's side of a double's vsock device: the text handshake of hybrid vsock, in front of a
 * real agent that listens on a unix socket. Knob: AGENT, the path of that socket; without it, or
 * when nobody listens there, a connection ends as it does with a guest that has no listener.
 */
#pragma once

#include "loop.h"
#include "settings.h"

/* Serve what is listened on at `fd` from now on; the descriptor stays the caller's, who ends the
 * watch before closing it. */
void dbl_vsock_serve(struct dbl_loop *loop, const struct dbl_settings *settings, int fd);
