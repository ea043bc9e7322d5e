/* Batches: every item once, failures collected, references resolved once, Ctrl-C stops scheduling.
 */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "base/interrupt.h"
#include "vm/internal.h"

static void make_config(const char *dir, struct config *c)
{
        *c = (struct config){
                .root_dir = xasprintf("%s/root", dir),
                .run_dir = xasprintf("%s/run", dir),
                .log_dir = xasprintf("%s/log", dir),
                .hypervisor = xstrdup("auto"),
                .pool_size = 4,
                .stop_timeout_seconds = 1,
                .socket_wait_timeout_seconds = 1,
                .terminate_grace_period_seconds = 1,
        };
}

static void free_config(struct config *c)
{
        free(c->root_dir);
        free(c->run_dir);
        free(c->log_dir);
        free(c->hypervisor);
}

struct counters {
        atomic_int calls;
        atomic_int now, peak;
        atomic_int per_item[64];
        int fail_every;
        bool signal_at_third;
};

static int visit(struct engine *e, const char *id, void *ctx, struct cc_err *err)
{
        struct counters *c = ctx;
        int now = atomic_fetch_add(&c->now, 1) + 1;
        int peak = atomic_load(&c->peak);
        int i = atoi(id);
        int call = atomic_fetch_add(&c->calls, 1) + 1;

        while (now > peak && !atomic_compare_exchange_weak(&c->peak, &peak, now))
                ;
        assert_non_null(e->meta);
        atomic_fetch_add(&c->per_item[i], 1);
        if (c->signal_at_third && call == 3)
                (void)raise(SIGTERM);
        usleep(5000);
        atomic_fetch_sub(&c->now, 1);
        if (c->fail_every && i % c->fail_every == 0)
                return cc_fail(err, CC_STATE, "broken");
        return 0;
}

static struct vm_batch_item *make_items(size_t n)
{
        struct vm_batch_item *items = xcalloc(n, sizeof(*items));

        for (size_t i = 0; i < n; i++)
                (void)snprintf(items[i].id, sizeof(items[i].id), "%zu", i);
        return items;
}

static void every_item_once(void **state)
{
        struct config c;
        struct counters k = { 0 };
        CC_FREE struct vm_batch_item *items = make_items(40);
        struct cc_err err = CC_ERR_INIT;

        make_config(*state, &c);
        assert_ok(vm_batch(&c, items, 40, visit, &k, &err));
        for (int i = 0; i < 40; i++)
                assert_int_equal(k.per_item[i], 1);
        assert_true(k.peak > 1);
        assert_true(k.peak <= 4);
        free_config(&c);
}

static void failures_do_not_stop_others(void **state)
{
        struct config c;
        struct counters k = { .fail_every = 10 };
        CC_FREE struct vm_batch_item *items = make_items(21);
        struct cc_err err = CC_ERR_INIT;

        make_config(*state, &c);
        assert_int_equal(vm_batch(&c, items, 21, visit, &k, &err), -CC_PARTIAL);
        assert_int_equal(k.calls, 21);
        assert_string_equal(err.msg, "item 0: broken\nitem 10: broken\nitem 20: broken");
        assert_int_equal(items[10].err.class, CC_STATE);
        assert_int_equal(items[11].err.class, CC_OK);
        free_config(&c);
}

static void one_failure_keeps_its_class(void **state)
{
        struct config c;
        struct counters k = { .fail_every = 1 };
        CC_FREE struct vm_batch_item *items = make_items(1);
        struct cc_err err = CC_ERR_INIT;

        make_config(*state, &c);
        assert_int_equal(vm_batch(&c, items, 1, visit, &k, &err), -CC_STATE);
        assert_string_equal(err.msg, "item 0: broken");
        free_config(&c);
}

/* In a child: the flag that a signal sets stays for the life of the process. */
static void a_signal_stops_scheduling(void **state)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct config c;
                struct counters k = { .signal_at_third = true };
                struct vm_batch_item *items = make_items(60);
                struct cc_err err = CC_ERR_INIT;
                int canceled = 0;

                cc_interrupt_setup();
                make_config(*state, &c);
                /* The store itself notices signals, so each item that began was opened before. */
                if (vm_batch(&c, items, 60, visit, &k, &err) != -CC_PARTIAL)
                        _exit(2);
                for (int i = 0; i < 60; i++)
                        canceled += items[i].err.class == CC_CANCELED;
                _exit(k.calls + canceled == 60 && k.calls <= 3 + 4 && canceled > 0 ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void insert_vm(struct engine *e, const char *name, char id[27])
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        cc_id_new(id);
        vm.id = xstrdup(id);
        vm.hypervisor = xstrdup("qemu");
        vm.config.name = xstrdup(name);
        vm_set_state(&vm, VM_CREATING);
        assert_ok(meta_begin(e->meta, META_RELAXED, &err));
        assert_ok(meta_vm_insert(e->meta, &vm, &err));
        assert_ok(meta_commit(e->meta, &err));
}

static void resolving(void **state)
{
        struct config c;
        ENGINE struct engine e = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_FREE struct vm_batch_item *items = NULL;
        size_t n = 0;
        char a[27];
        char b[27];

        make_config(*state, &c);
        assert_ok(engine_open(&c, &e, &err));
        insert_vm(&e, "web", a);
        insert_vm(&e, "db", b);
        {
                const char *refs[] = { "db", a, "web", b };

                assert_ok(vm_resolve_all(&e, refs, 4, &items, &n, &err));
                assert_int_equal(n, 2);
                assert_string_equal(items[0].id, b);
                assert_string_equal(items[1].id, a);
        }
        {
                const char *refs[] = { "db", "nobody" };
                struct vm_batch_item *none = NULL;

                assert_int_equal(vm_resolve_all(&e, refs, 2, &none, &n, &err), -CC_NOT_FOUND);
                assert_non_null(strstr(err.msg, "vm nobody: vm not found"));
                assert_null(none);
        }
        free_config(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(every_item_once),
                scratch_test(failures_do_not_stop_others),
                scratch_test(one_failure_keeps_its_class),
                scratch_test(a_signal_stops_scheduling),
                scratch_test(resolving),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
