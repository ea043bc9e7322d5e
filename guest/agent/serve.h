/* The agent's doors: vsock, virtio-serial ports (ports.h), and unix sockets in their place. */
#pragma once

/* Until a signal ends it. Returns the exit status. */
int serve(void);
