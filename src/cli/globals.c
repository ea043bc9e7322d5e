/* Global flags: rows made from the configuration's key table. See globals.h. */
#include "cli/globals.h"

#include <string.h>

#include "base/alloc.h"

static const char *const error_formats[] = { "text", "json", NULL };
static const char *const progress_modes[] = { "auto", "plain", "none", NULL };

static const struct opt own[] = {
        { .name = "config",
          .type = OPT_STRING,
          .offset = offsetof(struct globals, config_file),
          .metavar = "FILE",
          .help = "configuration file (.json, .yaml or .toml); none is searched",
          .complete = COMPLETE_FILE },
        { .name = "error-format",
          .type = OPT_ENUM,
          .offset = offsetof(struct globals, error_format),
          .metavar = "FORMAT",
          .help = "how an error is printed: text or json (COCOON_ERROR_FORMAT)",
          .values = error_formats },
        { .name = "progress",
          .type = OPT_ENUM,
          .offset = offsetof(struct globals, progress),
          .fallback = "auto",
          .metavar = "MODE",
          .help = "auto (bars on a terminal), plain (lines) or none",
          .values = progress_modes },
        { .name = "lock-timeout",
          .type = OPT_DURATION,
          .offset = offsetof(struct globals, lock_timeout),
          .metavar = "DURATION",
          .help = "longest wait for another command's lock; 0 waits for ever" },
        { .name = "help",
          .letter = 'h',
          .type = OPT_BOOL,
          .offset = offsetof(struct globals, help),
          .help = "show this help" },
        { 0 },
};

static struct opt rows[GLOBALS_CONFIG_MAX + CC_ARRAY_LEN(own)];
static const char *row_keys[GLOBALS_CONFIG_MAX]; /* configuration key of rows[i] */
static const struct opt_group groups[] = { { rows, 0, "Global flags" }, { 0 } };

static const char *metavar_of(const char *flag)
{
        if (cc_endswith(flag, "-dir"))
                return "DIR";
        return cc_endswith(flag, "-level") ? "LEVEL" : "VALUE";
}

const struct opt_group *globals_opts(void)
{
        size_t n = 0;

        if (rows[0].name)
                return groups;
        for (size_t i = 0; i < config_keys_len && n < GLOBALS_CONFIG_MAX; i++) {
                const struct config_key *key = &config_keys[i];
                bool dir = key->flag && cc_endswith(key->flag, "-dir");

                if (!key->flag)
                        continue;
                row_keys[n] = key->key;
                rows[n] = (struct opt){
                        .name = key->flag,
                        .type = OPT_STRING,
                        .offset =
                                offsetof(struct globals, config_values) + n * sizeof(const char *),
                        .fallback = key->fallback,
                        .metavar = metavar_of(key->flag),
                        .help = key->help,
                        .complete = dir ? COMPLETE_DIR : COMPLETE_NONE,
                };
                n++;
        }
        memcpy(&rows[n], own, sizeof(own));
        return groups;
}

size_t globals_config_flags(const struct opt_set *set, struct config_flag *ret)
{
        const struct globals *g = set->target;
        size_t n = 0;

        for (size_t i = 0; i < GLOBALS_CONFIG_MAX && row_keys[i]; i++)
                if (set->given[i])
                        ret[n++] = (struct config_flag){ .key = row_keys[i],
                                                         .value = g->config_values[i] };
        return n;
}
