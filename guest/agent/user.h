/* Users and groups from the guest's own files: a static program cannot ask NSS. */
#pragma once

#include <sys/types.h>

#define USER_GROUPS 64

struct user {
        uid_t uid;
        gid_t gid;
        gid_t groups[USER_GROUPS];
        size_t n_groups;
        char name[64]; /* empty: a number that no line of /etc/passwd has */
        char home[256];
        char shell[256];
};

/* `text` is NAME or UID, optionally :GROUP or :GID. Returns NULL, or why not. */
const char *user_find(const char *text, struct user *ret);

/* Becomes the user, for good, and sets HOME, USER, LOGNAME and SHELL. Returns NULL, or why not. */
const char *user_become(const struct user *user);
