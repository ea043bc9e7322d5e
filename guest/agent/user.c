/* Users and groups; user.h. */
#include "user.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELDS 7

/* Takes a line of `name:x:1:…` apart; returns the number of fields. */
static size_t split(char *line, char *field[FIELDS])
{
        size_t n = 0;

        line[strcspn(line, "\n")] = '\0';
        while (n < FIELDS) {
                field[n++] = line;
                line = strchr(line, ':');
                if (!line)
                        break;
                *line++ = '\0';
        }
        return n;
}

static bool number(const char *text, unsigned *ret)
{
        char *end;
        unsigned long v;

        if (*text < '0' || *text > '9')
                return false;
        errno = 0;
        v = strtoul(text, &end, 10);
        /* The highest number means "none" to the kernel. */
        if (*end || errno || v >= 0xffffffffUL)
                return false;
        *ret = (unsigned)v;
        return true;
}

static bool copy(char *to, size_t size, const char *from)
{
        if (strlen(from) >= size)
                return false;
        memcpy(to, from, strlen(from) + 1);
        return true;
}

/* The line of `name`, or of number `id` if that is what the name is. */
static bool find_passwd(const char *name, struct user *u)
{
        FILE *f = fopen("/etc/passwd", "re");
        char line[1024];
        char *field[FIELDS];
        unsigned id;
        unsigned uid;
        unsigned gid;
        bool numeric = number(name, &id);
        bool found = false;

        while (f && !found && fgets(line, sizeof(line), f)) {
                if (split(line, field) < FIELDS || !number(field[2], &uid) ||
                    !number(field[3], &gid) ||
                    !(strcmp(field[0], name) == 0 || (numeric && uid == id)))
                        continue;
                u->uid = uid;
                u->gid = gid;
                found = copy(u->name, sizeof(u->name), field[0]) &&
                        copy(u->home, sizeof(u->home), field[5]) &&
                        copy(u->shell, sizeof(u->shell), field[6]);
        }
        if (f)
                fclose(f);
        if (!found && numeric) {
                *u = (struct user){ .uid = id, .gid = id, .home = "/" };
                return true;
        }
        return found;
}

static bool listed(char *members, const char *name)
{
        char *save = NULL;

        for (char *m = strtok_r(members, ",", &save); m; m = strtok_r(NULL, ",", &save))
                if (strcmp(m, name) == 0)
                        return true;
        return false;
}

/* Calls for every group line; `group` non-NULL looks for that one, else for those `u` is in. */
static bool find_groups(const char *group, struct user *u)
{
        FILE *f = fopen("/etc/group", "re");
        static char line[16384]; /* members and all */
        char *field[FIELDS];
        unsigned gid;
        bool found = false;

        while (f && !found && fgets(line, sizeof(line), f)) {
                size_t n = split(line, field);

                if (n < 3 || !number(field[2], &gid))
                        continue;
                if (group) {
                        found = strcmp(field[0], group) == 0;
                        if (found)
                                u->gid = gid;
                } else if (n > 3 && gid != u->gid && u->name[0] && u->n_groups < USER_GROUPS &&
                           listed(field[3], u->name)) {
                        u->groups[u->n_groups++] = gid;
                }
        }
        if (f)
                fclose(f);
        return found;
}

const char *user_find(const char *text, struct user *ret)
{
        struct user u = { 0 };
        char name[64];
        const char *group = strchr(text, ':');
        size_t len = group ? (size_t)(group - text) : strlen(text);
        unsigned gid;

        if (len == 0 || len >= sizeof(name))
                return "no such user";
        memcpy(name, text, len);
        name[len] = '\0';
        if (!find_passwd(name, &u))
                return "no such user";
        if (group) {
                if (number(group + 1, &gid))
                        u.gid = gid;
                else if (!find_groups(group + 1, &u))
                        return "no such group";
        }
        u.groups[0] = u.gid;
        u.n_groups = 1;
        /* An explicit group is the only one, as for containers. */
        if (!group)
                find_groups(NULL, &u);
        *ret = u;
        return NULL;
}

const char *user_become(const struct user *user)
{
        if (setgroups(user->n_groups, user->groups) < 0 ||
            setresgid(user->gid, user->gid, user->gid) < 0 ||
            setresuid(user->uid, user->uid, user->uid) < 0)
                return strerror(errno);
        setenv("HOME", user->home, 1);
        if (user->name[0]) {
                setenv("USER", user->name, 1);
                setenv("LOGNAME", user->name, 1);
        }
        if (user->shell[0])
                setenv("SHELL", user->shell, 1);
        return NULL;
}
