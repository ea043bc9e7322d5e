/* The context of one run: preparation and the helpers every command shares. See cli.h. */
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/log.h"
#include "base/timeutil.h"

void cli_clear(struct cli *cli)
{
        opt_set_clear(&cli->set);
        opt_set_clear(&cli->global_set);
        free(cli->opts);
        free(cli->args);
        config_clear(&cli->config);
        for (size_t i = 0; i < cli->n_items; i++) {
                free(cli->items[i].id);
                free(cli->items[i].error);
        }
        free(cli->items);
        memset(cli, 0, sizeof(*cli));
}

static int load_config(struct cli *cli, struct cc_err *err)
{
        struct config_flag flags[GLOBALS_CONFIG_MAX];
        size_t n = globals_config_flags(&cli->global_set, flags);
        struct cc_log_config log = { 0 };
        int r = config_load(cli->globals.config_file[0] ? cli->globals.config_file : NULL, flags, n,
                            &cli->config, err);

        if (r < 0)
                return r;
        if (cc_log_level_parse(cli->config.log_level, &log.level) < 0)
                log.level = CC_LOG_ERROR; /* cli.md §2: an unknown level means error */
        log.use_json = cli->config.log_use_json;
        log.filename = cli->config.log_filename;
        log.max_size = cli->config.log_max_size;
        log.max_age = cli->config.log_max_age;
        log.max_backups = cli->config.log_max_backups;
        return cc_log_setup(&log, err);
}

int cli_prepare(struct cli *cli, struct cc_err *err)
{
        int r = 0;

        if (!(cli->cmd->flags & CMD_NO_CONFIG))
                r = load_config(cli, err);
        if (r == 0)
                r = opt_check_required(&cli->set, err);
        if (r == 0)
                r = opt_check_exclusive(&cli->set, cli->cmd->excludes, err);
        if (r == 0)
                r = opt_finish(&cli->global_set, err);
        if (r == 0)
                r = opt_finish(&cli->set, err);
        if (r == 0 && cli->globals.lock_timeout < 0)
                r = cc_fail(err, CC_USAGE, "--lock-timeout must not be negative");
        return r;
}

int cli_engine(struct cli *cli, struct engine *ret, struct cc_err *err)
{
        int r = engine_open(&cli->config, ret, err);
        int64_t timeout = cli->globals.lock_timeout;

        if (r < 0)
                return r;
        /* Rounded up: a timeout under a millisecond must not become "for ever". */
        ret->lock_timeout_ms = timeout / CC_NSEC_PER_MSEC + (timeout % CC_NSEC_PER_MSEC != 0);
        return 0;
}

void cli_success(const struct cli *cli, const char *tag, const char *fmt, ...)
{
        CC_FREE char *text = NULL;
        va_list ap;

        if (cli->quiet_log)
                return;
        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                abort();
        va_end(ap);
        cc_info(tag, "%s", text);
}

void cli_item_add(struct cli *cli, const char *id, const char *error)
{
        cli->items = xreallocarray(cli->items, cli->n_items + 1, sizeof(*cli->items));
        cli->items[cli->n_items++] =
                (struct cli_item){ .id = xstrdup(id), .error = xstrdup(error) };
}

int cli_vm_get(struct cli *cli, struct engine *e, const char *ref, struct vm_record *ret,
               struct cc_err *err)
{
        char id[CC_ID_LEN + 1];
        int r = meta_begin(e->meta, META_READ, err);

        if (r < 0)
                return r;
        r = meta_vm_resolve(e->meta, ref, id, err);
        if (r == 0)
                r = meta_vm_get(e->meta, id, ret, err);
        meta_rollback(e->meta);
        if (r == 0)
                vm_present(&cli->config, ret);
        return r;
}
