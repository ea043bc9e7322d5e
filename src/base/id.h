/* Random identities: VM and snapshot IDs, UUIDs, MAC addresses; and the grammar of names (cli.md
 * §3). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CC_ID_LEN  26
#define CC_ID8_LEN 8

/* n bytes from getrandom(2); aborts if the kernel cannot give them. */
void cc_random(void *buf, size_t n);

/* 26 characters of A-Z2-7 (130 random bits). */
void cc_id_new(char out[CC_ID_LEN + 1]);
bool cc_id_valid(const char *s);

/* Random version-4 UUID, lower case. */
void cc_uuid_new(char out[37]);

/* Random locally administered unicast MAC, lower case with colons. */
void cc_mac_new(char out[18]);

bool cc_vm_name_valid(const char *s);        /* ^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$ */
bool cc_snapshot_name_valid(const char *s);  /* ^[a-zA-Z0-9][a-zA-Z0-9._:/-]{0,254}$ */
bool cc_user_name_valid(const char *s);      /* ^[a-z_][a-z0-9_-]{0,31}$ */
bool cc_data_disk_name_valid(const char *s); /* ^[a-z][a-z0-9_-]{0,19}$, not cocoon-* */
