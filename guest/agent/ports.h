/* The guest's virtio-serial ports org.cocoon.agent.*. */
#pragma once

/* Opens those there are, now and whenever the kernel tells of new ones. */
void ports_open(void);
