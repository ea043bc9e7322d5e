/* Lists: formats, sorting and filters, over the VM list's own description. */
#include "cli/list.h"

#include <fcntl.h>
#include <string.h>

#include "cli/vm_list.h"
#include "unit.h"

static struct vm_record vms[3];

static int setup(void **state)
{
        static const char *const names[] = { "web-1", "web-2", "db" };
        static const char *const states[] = { "running", VM_STATE_STALE, "stopped" };
        static const int64_t memory[] = { 9, 100, 20 };

        for (size_t i = 0; i < 3; i++) {
                vms[i].id = xasprintf("ID%zu", i);
                vms[i].config.name = xstrdup(names[i]);
                vms[i].config.memory = memory[i] << 20;
                vms[i].config.image = xstrdup(i == 2 ? "postgres:16" : "debian:12");
                vms[i].state = xstrdup(states[i]);
                vms[i].hypervisor = xstrdup("qemu");
                vms[i].config.network = xstrdup("user");
                vms[i].config.labels = json_object();
        }
        json_object_set_new(vms[0].config.labels, "tier", json_string("front"));
        json_object_set_new(vms[2].config.labels, "tier", json_string("back"));
        return 0;
}

static int teardown(void **state)
{
        for (size_t i = 0; i < 3; i++)
                vm_record_clear(&vms[i]);
        return 0;
}

/* What stdout got for these flags. */
static char *print(const struct list_flags *flags)
{
        const void *items[3] = { &vms[0], &vms[1], &vms[2] };
        CC_FILE FILE *file = tmpfile();
        int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        char text[4096];
        size_t n;

        assert_non_null(file);
        (void)fflush(stdout);
        assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
        list_print(&vm_list_type, flags, items, 3);
        (void)fflush(stdout);
        assert_true(dup2(saved, STDOUT_FILENO) >= 0);
        close(saved);
        rewind(file);
        n = fread(text, 1, sizeof(text), file);
        return xstrndup(text, n);
}

static void expect(const char *format, const char *sort, const char *const *filters,
                   const char *want)
{
        struct list_flags flags = { .format = format, .sort = sort };
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *got = NULL;

        for (; filters && *filters; filters++)
                cc_strv_add(&flags.filter, *filters);
        assert_ok(list_check(&vm_list_type, &flags, &err));
        got = print(&flags);
        assert_string_equal(got, want);
        cc_strv_free(&flags.filter);
}

#define FILTERS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_filters(void **state)
{
        expect("id", "", NULL, "ID0\nID1\nID2\n");
        expect("id", "", FILTERS("state=running"), "ID0\n");
        expect("id", "", FILTERS("state=stale"), "ID1\n");
        expect("id", "", FILTERS("state=stopped"), "ID2\n");
        expect("id", "", FILTERS("state=running", "state=stopped"), "ID0\nID2\n");
        expect("id", "", FILTERS("name=web-*"), "ID0\nID1\n");
        expect("id", "", FILTERS("name=web-*", "state=running"), "ID0\n");
        expect("id", "", FILTERS("image=debian*"), "ID0\nID1\n");
        expect("id", "", FILTERS("label=tier"), "ID0\nID2\n");
        expect("id", "", FILTERS("label=tier=back"), "ID2\n");
        expect("id", "", FILTERS("label=tie"), "");
        expect("id", "", FILTERS("hypervisor=qemu", "network=user"), "ID0\nID1\nID2\n");
        expect("id", "", FILTERS("network=other"), "");
}

static void test_formats(void **state)
{
        expect("name,memory", "memory", NULL, "web-1\t9437184\ndb\t20971520\nweb-2\t104857600\n");
        expect("name, ip", "-name", NULL, "web-2\t\nweb-1\t\ndb\t\n");
        expect("table", "", FILTERS("name=none"), "No VMs found.\n");
        expect("json", "", FILTERS("name=none"), "[]\n");
        expect("jsonl", "", FILTERS("name=none"), "");
}

static void test_quiet_and_header(void **state)
{
        struct list_flags quiet = { .format = "table", .sort = "", .quiet = true };
        struct list_flags bare = { .format = "table", .sort = "name", .no_header = true };
        CC_FREE char *ids = print(&quiet);
        CC_FREE char *table = print(&bare);

        assert_string_equal(ids, "ID0\nID1\nID2\n");
        assert_memory_equal(table, "ID2  db     stopped          0  20MiB   0B  -", 44);
}

static void test_errors(void **state)
{
        static const struct {
                const char *format, *sort, *filter, *message, *hint;
        } table[] = {
                { "x", "", NULL, "--format \"x\" is invalid: want \"table\" or \"json\"",
                  "jsonl and lists of fields such as id,name are also possible" },
                { "", "", NULL, "--format \"\" is invalid: want \"table\" or \"json\"",
                  "jsonl and lists of fields such as id,name are also possible" },
                { "id,nam", "", NULL,
                  "--format: unknown field \"nam\": want one of id, name, state, cpu, memory, "
                  "storage, ip, image, created, started, hypervisor, network, mac, pid",
                  "" },
                { "table", "", "state", "--filter: \"state\" is not key=value", "" },
                { "table", "", "x=y",
                  "--filter: unknown key \"x\": want \"state\", \"name\", \"image\", "
                  "\"hypervisor\", \"network\" or \"label\"",
                  "" },
                { "table", "", "state=runing",
                  "--filter: unknown state \"runing\": want \"creating\", \"created\", "
                  "\"running\", \"stopped\", \"error\", \"stale\" or \"stopped (stale)\"",
                  "did you mean state=running?" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(table); i++) {
                struct list_flags flags = { .format = table[i].format, .sort = table[i].sort };
                struct cc_err err = CC_ERR_INIT;

                if (table[i].filter)
                        cc_strv_add(&flags.filter, table[i].filter);
                assert_int_equal(list_check(&vm_list_type, &flags, &err), -CC_USAGE);
                assert_string_equal(err.msg, table[i].message);
                assert_string_equal(err.hint, table[i].hint);
                cc_strv_free(&flags.filter);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
                cmocka_unit_test_setup_teardown(test_formats, setup, teardown),
                cmocka_unit_test_setup_teardown(test_quiet_and_header, setup, teardown),
                cmocka_unit_test(test_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
