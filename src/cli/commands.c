/* The command table: commands.def as an array. See cmd.h. */
#include "cli/cmd.h"

#include <string.h>

#define CMD(name)    extern const struct cmd cmd_##name;
#define HIDDEN(name) extern const struct cmd cmd_##name;
#include "cli/commands.def"
#undef CMD
#undef HIDDEN

#define CMD(name)    &cmd_##name,
#define HIDDEN(name) &cmd_##name,
static const struct cmd *const commands[] = {
#include "cli/commands.def"
};
#undef CMD
#undef HIDDEN

static const struct cmd_group groups[] = {
        { "vm", "Create, run and look after virtual machines" },
        { "vm fs", "Share folders with a running VM" },
        { "vm device", "Pass PCI devices to a running VM" },
        { "vm disk", "Attach disk images to a running VM" },
        { "image", "Pull, import and remove images" },
        { "snapshot", "Save virtual machines, and move what was saved" },
        { "meta", "Back up the records, or take over those of an older installation" },
};

const struct cmd *cmd_at(size_t i)
{
        return i < CC_ARRAY_LEN(commands) ? commands[i] : NULL;
}

const struct cmd_group *cmd_group_at(size_t i)
{
        return i < CC_ARRAY_LEN(groups) ? &groups[i] : NULL;
}

const char *cmd_word(const struct cmd *cmd)
{
        const char *blank = strrchr(cmd->path, ' ');

        return blank ? blank + 1 : cmd->path;
}

/* All of a path but its last word is `group`. */
static bool is_below(const char *path, const char *group)
{
        const char *blank = strrchr(path, ' ');
        size_t len = blank ? (size_t)(blank - path) : 0;

        return strlen(group) == len && memcmp(path, group, len) == 0;
}

bool cmd_in_group(const struct cmd *cmd, const char *group)
{
        return is_below(cmd->path, group ? group : "");
}

const char *cmd_group_word(const struct cmd_group *group)
{
        const char *blank = strrchr(group->name, ' ');

        return blank ? blank + 1 : group->name;
}

bool cmd_group_in(const struct cmd_group *group, const char *parent)
{
        return is_below(group->name, parent ? parent : "");
}

const struct cmd *cmd_find(const char *group, const char *word)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(commands); i++)
                if (cmd_in_group(commands[i], group) &&
                    (cc_streq(cmd_word(commands[i]), word) ||
                     (commands[i]->alias && cc_streq(commands[i]->alias, word))))
                        return commands[i];
        return NULL;
}

const struct cmd_group *cmd_group_find(const char *parent, const char *word)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(groups); i++)
                if (cmd_group_in(&groups[i], parent) && cc_streq(cmd_group_word(&groups[i]), word))
                        return &groups[i];
        return NULL;
}
