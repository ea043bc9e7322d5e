/* What the command line says. */
#pragma once

#include <stddef.h>

#define OPTIONS_SOCKETS 8

struct options {
        unsigned port;    /* of vsock */
        const char *root; /* "" but in tests: where the guest's files are */
        /* Stand-ins for vsock and for serial ports; with any of them neither of the real ones is
         * touched. */
        const char *sockets[OPTIONS_SOCKETS];
        const char *serial_sockets[OPTIONS_SOCKETS];
        size_t n_sockets;
        size_t n_serial_sockets;
};

extern struct options options;
