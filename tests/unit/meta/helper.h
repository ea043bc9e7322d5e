/* A store of its own for each test, and short ways to make records. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "meta/internal.h"

struct store {
        char root[64];
        char *run;
        struct meta *m;
        struct cc_err err;
};

static inline int store_open(struct store *s)
{
        struct meta_open_args args = { .root_dir = s->root, .run_dir = s->run };

        s->err = (struct cc_err)CC_ERR_INIT;
        return meta_open(&args, &s->m, &s->err);
}

static inline int store_root(void **state)
{
        struct store *s = xcalloc(1, sizeof(*s));

        snprintf(s->root, sizeof(s->root), "/tmp/cocoon-test-meta-XXXXXX");
        if (!mkdtemp(s->root))
                return -1;
        s->run = cc_path_join(s->root, "run");
        *state = s;
        return 0;
}

static inline int store_setup(void **state)
{
        if (store_root(state) < 0)
                return -1;
        return store_open(*state);
}

static inline void store_close(struct store *s)
{
        meta_close(s->m);
        s->m = NULL;
}

static inline int store_teardown(void **state)
{
        struct store *s = *state;

        store_close(s);
        cc_rm_rf(s->root, NULL);
        free(s->run);
        free(s);
        return 0;
}

/* Every file of the store passes SQLite's own checks. */
static inline void store_is_sound(struct store *s)
{
        sqlite3_stmt *st = NULL;

        assert_int_equal(meta_prepare(s->m,
                                      "SELECT group_concat(integrity_check) FROM "
                                      "pragma_integrity_check",
                                      &st, &s->err),
                         0);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        assert_string_equal(meta_text(st, 0), "ok");
        sqlite3_finalize(st);
        assert_int_equal(
                meta_prepare(s->m, "SELECT count(*) FROM pragma_foreign_key_check", &st, &s->err),
                0);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(st, 0), 0);
        sqlite3_finalize(st);
}

static inline int64_t store_count(struct store *s, const char *sql)
{
        sqlite3_stmt *st = NULL;
        int64_t n;

        if (meta_prepare(s->m, sql, &st, &s->err) < 0)
                fail_msg("%s", s->err.msg);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        n = sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
        return n;
}

/* A placeholder as `vm create` makes it. */
static inline void vm_init(struct vm_record *vm, const char *name)
{
        char id[CC_ID_LEN + 1];

        cc_id_new(id);
        vm->id = xstrdup(id);
        vm->hypervisor = xstrdup("qemu");
        vm->config.name = xstrdup0(name);
        vm->config.cpu = 1;
        vm->run_dir = xasprintf("/run/cocoon/qemu/%s", id);
        vm->log_dir = xasprintf("/var/log/cocoon/qemu/%s", id);
}

/* Run one write transaction around a call; the test fails unless all of it works. */
#define IN_TX(s, call)                                                                             \
        do {                                                                                       \
                (s)->err = (struct cc_err)CC_ERR_INIT;                                             \
                if (meta_begin((s)->m, META_DURABLE, &(s)->err) < 0 || (call) < 0 ||               \
                    meta_commit((s)->m, &(s)->err) < 0)                                            \
                        fail_msg("%s", (s)->err.msg);                                              \
        } while (0)

/* Insert a VM of this name; its ID goes to id. */
static inline void add_vm(struct store *s, const char *name, char id[CC_ID_LEN + 1])
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        vm_init(&vm, name);
        if (id && *id)
                cc_strset(&vm.id, id);
        IN_TX(s, meta_vm_insert(s->m, &vm, &s->err));
        if (id)
                memcpy(id, vm.id, CC_ID_LEN + 1);
}
