/*
 * A double of a VMM for unit tests: a link to the program in a directory of the test's own, its
 * knobs beside it, and questions to its journal. See tests/double/common.
 */
#pragma once

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/timeutil.h"
#include "unit.h"

struct double_vmm {
        char *dir, *binary, *env_path, *faults, *journal;
        struct cc_buf env;
};

/* Where the build puts `path` (tests/double/...); NULL when it is not there. Caller frees. */
static inline char *double_program(const char *path)
{
        const char *build = getenv("COCOON_BUILD_ROOT");
        char *program = cc_path_join(build ? build : ".", path);

        if (access(program, X_OK) == 0)
                return program;
        free(program);
        return NULL;
}

static inline void double_write(const char *path, const char *text)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, text, strlen(text), 0600, &err));
}

/* KEY=VALUE for every process started from now on. */
static inline void double_set(struct double_vmm *d, const char *key, const char *value)
{
        cc_buf_printf(&d->env, "COCOON_DOUBLE_%s=%s\n", key, value);
        double_write(d->env_path, d->env.data);
}

static inline void double_init(struct double_vmm *d, const char *dir, const char *program)
{
        CC_FREE char *real = realpath(program, NULL);

        *d = (struct double_vmm){ .dir = xstrdup(dir) };
        d->binary = cc_path_join(dir, cc_basename(program));
        d->env_path = cc_path_join(dir, "double.env");
        d->faults = cc_path_join(dir, "faults");
        d->journal = cc_path_join(dir, "journal");
        assert_int_equal(symlink(real, d->binary), 0);
        double_set(d, "FAULTS", d->faults);
        double_set(d, "JOURNAL", d->journal);
}

static inline void double_clear(struct double_vmm *d)
{
        free(d->dir);
        free(d->binary);
        free(d->env_path);
        free(d->faults);
        free(d->journal);
        cc_buf_free(&d->env);
}

/* One fault line, in place of all earlier ones ("": none). Effective at once. */
static inline void double_fault(struct double_vmm *d, const char *line)
{
        CC_FREE char *text = xasprintf("%s\n", line);

        double_write(d->faults, *line ? text : "");
}

/* Calls fn for every line of the journal. */
static inline void double_journal(struct double_vmm *d, void (*fn)(void *ctx, const json_t *event),
                                  void *ctx)
{
        CC_FREE char *text = NULL;
        char *line;
        char *save = NULL;

        if (cc_read_file(d->journal, 1 << 24, &text, NULL, NULL) < 0)
                return;
        for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                struct cc_err err = CC_ERR_INIT;
                CC_JSON json_t *j = NULL;

                assert_ok(cc_json_parse(line, strlen(line), "journal", &j, &err));
                fn(ctx, j);
        }
}

/* "request vm.shutdown", "signal 15", "exit"...: the events in their order, one a line. vm.info and
 * vmm.ping are left out, as questions change nothing. */
static inline void double_add_event(void *ctx, const json_t *e)
{
        const char *event = json_string_value(json_object_get(e, "event"));
        const char *endpoint = json_string_value(json_object_get(e, "endpoint"));
        struct cc_buf *out = ctx;

        if (cc_streq(event, "request")) {
                if (cc_streq(endpoint, "vm.info") || cc_streq(endpoint, "vmm.ping"))
                        return;
                cc_buf_printf(out, "%s%s\n", endpoint, json_object_get(e, "body") ? " body" : "");
        } else if (cc_streq(event, "retry-violation")) {
                cc_buf_str(out, "retry-violation\n");
        } else if (cc_streq(event, "signal")) {
                cc_buf_str(out, "signal\n");
        }
}

static inline char *double_events(struct double_vmm *d)
{
        CC_BUF struct cc_buf out = { 0 };

        double_journal(d, double_add_event, &out);
        return cc_buf_take(&out);
}

/* Empties the journal; the process that has it open goes on behind that. */
static inline void double_forget(struct double_vmm *d)
{
        assert_true(truncate(d->journal, 0) == 0 || errno == ENOENT);
}
