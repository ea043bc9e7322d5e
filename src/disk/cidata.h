/*
 * The cloud-init seed of a VM (images.md §8, network.md §8): the texts of a NoCloud data source and
 * the volume that holds them. Everything in them comes from users or records, so every field is
 * checked here and every scalar quoted; the caller only says what the guest shall be.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct cidata_nic {
        const char *mac;
        const char *ip, *gateway; /* IPv4; ip NULL or "": DHCP; gateway NULL or "": none */
        int64_t prefix;
};

struct cidata_mount {
        const char *disk; /* the guest has it as /dev/disk/by-id/virtio-<disk> */
        const char *path;
};

/* All strings borrowed. */
struct cidata {
        const char *instance_id; /* another one makes cloud-init run again */
        const char *hostname;
        const char *user, *password; /* password NULL or "": no credentials are set */
        const struct cc_strv *dns;   /* may be NULL */
        const struct cidata_nic *nics;
        size_t n_nics;
        const struct cidata_mount *mounts;
        size_t n_mounts;
};

/* CC_INVALID, naming the field but not its content, when a value could mean something else to
 * cloud-init, systemd or fstab than what it says. */
int cidata_check(const struct cidata *c, struct cc_err *err);

/* Whether a mount point survives fstab; another is left to the user. */
bool cidata_can_mount(const char *path);

/* The files of the volume, for a seed that passed cidata_check(). Callers free. */
char *cidata_meta_data(const struct cidata *c);
char *cidata_user_data(const struct cidata *c);
char *cidata_network_config(const struct cidata *c); /* NULL without NICs */

/* Check, and publish the volume as `path` (0600, 1 MiB, FAT12 with the label CIDATA); a file that
 * is there is replaced in one step. */
int cidata_write(const struct cidata *c, const char *path, struct cc_err *err);
