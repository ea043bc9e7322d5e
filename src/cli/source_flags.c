/* Flags of clone and restore. See source_flags.h. */
#include "cli/source_flags.h"

#define AT(member) .offset = offsetof(struct source_flags, member)

/* In the order of enum hv_restore_mode. */
static const char *const modes[] = { "auto", "copy", "ondemand", "mmap", NULL };

const struct opt source_opts[] = {
        { .name = "from-dir",
          .type = OPT_STRING,
          AT(from_dir),
          .metavar = "DIR",
          .help = "a directory made by snapshot export --to-dir instead of a stored snapshot; "
                  "it is only read",
          .complete = COMPLETE_DIR },
        { .name = "restore-mode",
          .type = OPT_ENUM,
          AT(mode),
          .metavar = "MODE",
          .help = "how guest memory comes back: copy, ondemand or mmap; auto maps it where it can",
          .values = modes },
        { .name = "on-demand",
          .type = OPT_BOOL,
          AT(on_demand),
          .help = "same as --restore-mode ondemand",
          .flags = OPT_HIDDEN },
        { 0 },
};

int source_flags_parse(const struct source_flags *f, const char *snapshot, struct vm_source *ret,
                       enum hv_restore_mode *ret_mode, struct cc_err *err)
{
        *ret_mode = f->on_demand ? HV_RESTORE_ONDEMAND : HV_RESTORE_AUTO;
        for (int i = 0; modes[i]; i++)
                if (*f->mode && cc_streq(f->mode, modes[i]))
                        *ret_mode = (enum hv_restore_mode)i;
        if (*f->from_dir && snapshot)
                return cc_fail(err, CC_USAGE,
                               "--from-dir and positional SNAPSHOT are mutually exclusive");
        if (!*f->from_dir && !snapshot)
                return cc_fail(err, CC_USAGE, "snapshot is required (or use --from-dir)");
        *ret = (struct vm_source){ .snapshot = snapshot ? snapshot : "", .from_dir = f->from_dir };
        return 0;
}
