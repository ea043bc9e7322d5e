/* What the two halves of the relay share: the descriptors that the relay process finds at its start
 * (relay_start.c passes them, relay.c uses them). */
#pragma once

enum {
        RELAY_FD_LISTEN = 3, /* console.sock, listening, nonblocking */
        RELAY_FD_SOURCE,     /* the VMM's console, nonblocking */
        RELAY_FD_VMM,        /* pidfd of the VMM */
        RELAY_FD_LOCK,       /* flock held for the relay's life */
};
