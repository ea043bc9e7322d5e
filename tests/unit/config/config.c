/* Sources, precedence, formats and messages of the configuration (cli.md §2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "config/config.h"
#include "config/layout.h"

static char dir[] = "/tmp/cocoon-test-config-XXXXXX";

static int setup(void **state)
{
        (void)state;
        return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
        (void)state;
        return cc_rm_rf(dir, NULL);
}

/* A file `name` in the test's directory with this content. */
static char *file(const char *name, const char *text)
{
        char *path = cc_path_join(dir, name);

        assert_int_equal(cc_publish(path, text, strlen(text), 0600, NULL), 0);
        return path;
}

static void load(const char *path, struct config *c)
{
        struct cc_err err = CC_ERR_INIT;

        config_clear(c);
        if (config_load(path, NULL, 0, c, &err) < 0)
                fail_msg("%s", err.msg);
}

static void load_text(const char *name, const char *text, struct config *c)
{
        CC_FREE char *path = file(name, text);

        load(path, c);
}

static void refused(const char *name, const char *text, const char *part)
{
        CC_FREE char *path = file(name, text);
        CONFIG struct config c = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_true(config_load(path, NULL, 0, &c, &err) < 0);
        if (!strstr(err.msg, part))
                fail_msg("\"%s\" lacks \"%s\"", err.msg, part);
        assert_null(c.root_dir);
}

static void flag_refused(const char *key, const char *value, const char *message)
{
        CONFIG struct config c = { 0 };
        struct config_flag flag = { key, value };
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(config_load(NULL, &flag, 1, &c, &err), -CC_INVALID);
        assert_string_equal(err.msg, message);
}

static void defaults(void **state)
{
        CONFIG struct config c = { 0 };

        (void)state;
        load(NULL, &c);
        assert_string_equal(c.root_dir, "/var/lib/cocoon");
        assert_string_equal(c.run_dir, "/var/lib/cocoon/run");
        assert_string_equal(c.log_dir, "/var/log/cocoon");
        assert_string_equal(c.cni_conf_dir, "/etc/cni/net.d");
        assert_string_equal(c.cni_bin_dir, "/opt/cni/bin");
        assert_int_equal(c.cni_timeout_seconds, 120);
        assert_false(c.dns_given);
        assert_int_equal(c.dns_servers.len, 2);
        assert_string_equal(c.dns_servers.v[1], "1.1.1.1");
        assert_string_equal(c.log_level, "info");
        assert_int_equal(c.log_max_size, 500);
        assert_string_equal(c.hypervisor, "auto");
        assert_int_equal(c.stop_timeout_seconds, 30);
        assert_true(c.pool_size >= 1);
        assert_int_equal(c.pull_conns, 8);
        assert_int_equal(c.layer_max_size, INT64_C(8) << 30);
}

/* The environment name of every key follows from the key. */
static void environment_names(void **state)
{
        (void)state;
        for (size_t i = 0; i < config_keys_len; i++) {
                CC_FREE char *want = xasprintf("COCOON_%s", config_keys[i].key);

                for (char *p = want; *p; p++)
                        *p = *p == '.' ? '_' : (char)((*p >= 'a' && *p <= 'z') ? *p - 32 : *p);
                assert_string_equal(config_keys[i].env, want);
        }
}

static void precedence(void **state)
{
        CC_FREE char *path = file("p.yaml", "log_dir: /file\nrun_dir: /file\nroot_dir: /file\n");
        CONFIG struct config c = { 0 };
        struct config_flag flag = { "root_dir", "/flag" };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        setenv("COCOON_ROOT_DIR", "/env", 1);
        setenv("COCOON_RUN_DIR", "/env", 1);
        setenv("COCOON_LOG_DIR", "", 1); /* empty counts as unset */
        setenv("COCOON_SOCKET_WAIT_TIMEOUT_SECONDS", "9", 1);
        assert_int_equal(config_load(path, &flag, 1, &c, &err), 0);
        unsetenv("COCOON_ROOT_DIR");
        unsetenv("COCOON_RUN_DIR");
        unsetenv("COCOON_LOG_DIR");
        unsetenv("COCOON_SOCKET_WAIT_TIMEOUT_SECONDS");
        assert_string_equal(c.root_dir, "/flag");
        assert_string_equal(c.run_dir, "/env");
        assert_string_equal(c.log_dir, "/file");
        assert_int_equal(c.socket_wait_timeout_seconds, 9);
}

static void formats(void **state)
{
        CONFIG struct config c = { 0 };

        (void)state;
        load_text("a.json",
                  "{\"RootDir\": \"/j\\u0061\", \"unknown\": {\"x\": [[1]]}, \"pool_size\": 7,\n"
                  "\t\"log\": {\"Level\": \"warn\", \"usejson\": true}, \"fc_binary\": null}",
                  &c);
        assert_string_equal(c.root_dir, "/ja");
        assert_int_equal(c.pool_size, 7);
        assert_string_equal(c.log_level, "warn");
        assert_true(c.log_use_json);
        assert_string_equal(c.fc_binary, "firecracker");

        load_text("a.yml",
                  "# comment\nROOT_DIR: /y/./z//\nlog:\n  level: debug\n  max_size: 1\n"
                  "insecure_registries: [a:5000, b]\ndns: \"9.9.9.9; ::1\"\nlayer_max_size: 1.5G\n",
                  &c);
        assert_string_equal(c.root_dir, "/y/z");
        assert_string_equal(c.log_level, "debug");
        assert_int_equal(c.log_max_size, 1);
        assert_int_equal(c.insecure_registries.len, 2);
        assert_string_equal(c.insecure_registries.v[0], "a:5000");
        assert_string_equal(c.dns_servers.v[1], "::1");
        assert_true(c.dns_given);
        assert_int_equal(c.layer_max_size, INT64_C(3) << 29);

        load_text("a.toml",
                  "root_dir = \"/t\\\\x\" # c\r\nrun-x = 1979-05-27\nlog.max_age = 1_0\n"
                  "insecure_registries = [ \"a\", 'b', ]\n[ log ]\nlevel = "
                  "'error'\n[other]\nlevel=1\n",
                  &c);
        assert_string_equal(c.root_dir, "/t\\x");
        assert_string_equal(c.log_level, "error");
        assert_int_equal(c.log_max_age, 10);
        assert_int_equal(c.insecure_registries.len, 2);

        load_text("empty.yaml", "", &c);
        load_text("null.yaml", "~\n", &c);
        load_text("empty.toml", "", &c);
        assert_string_equal(c.root_dir, "/var/lib/cocoon");
}

static void broken_files(void **state)
{
        CONFIG struct config c = { 0 };
        CC_BUF struct cc_buf deep = { 0 };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(config_load("/nonexistent/c.yaml", NULL, 0, &c, &err), -CC_NOT_FOUND);
        assert_string_equal(err.msg,
                            "read config: open /nonexistent/c.yaml: No such file or directory");
        refused("a.ini", "x", "read config: ");
        refused("a.ini", "x", "unknown format (use .json, .yaml, .yml or .toml)");
        refused("b.json", "{\"a\":", "read config: ");
        refused("b.yaml", "a: b: c\n", "line 1");
        refused("b.yaml", "- a\n", "keys and values are expected");
        refused("b.yaml", "root_dir: &x /a\nrun_dir: *x\n", "run_dir: a plain value is expected");
        refused("b.yaml", "a: 1\n---\nb: 2\n", "more than one document");
        refused("b.yaml", "root_dir: \"/a\\0b\"\n", "NUL byte");
        refused("b.yaml", "dns: [[1]]\n", "dns: a plain value is expected");
        refused("b.yaml", "root_dir: {a: b}\n", "root_dir: a plain value is expected");
        refused("b.yaml", "log: {level: {a: b}}\n", "log.level: a plain value is expected");
        refused("b.yaml", "root_dir: \"\xff\"\n", "read config: ");
        refused("b.toml", "root_dir = /x\n", "line 1: a string, number");
        refused("b.toml", "root_dir = \"a\n", "must end on its line");
        refused("b.toml", "\n[[x]]\n", "line 2: arrays of tables");
        refused("b.toml", "a = \"\"\"x\"\"\"\n", "multi-line");
        refused("b.toml", "a = { b = 1 }\n", "line 1");
        refused("b.toml", "a = yes\n", "text must be quoted");
        refused("b.toml", "a = 1 2\n", "unexpected text");
        refused("b.toml", "a\n", "= is missing");
        refused("b.toml", "[a\n", "] is missing");
        refused("b.toml", "a = [1 2]\n", "a list must end on its line");
        refused("b.toml", "a = \"\\q\"\n", "unsupported escape");
        refused("b.toml", "a = \"\xff\"\n", "not UTF-8");
        cc_buf_str(&deep, "{\"a\":{\"b\":");
        for (int i = 0; i < 100000; i++)
                cc_buf_char(&deep, '[');
        refused("c.json", deep.data, "nested too deeply");
}

static void messages(void **state)
{
        CONFIG struct config c = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct config_flag level = { "log.level", "wran" };

        (void)state;
        flag_refused("root_dir", "", "config: root_dir must not be empty");
        flag_refused("run_dir", "", "config: run_dir must not be empty");
        flag_refused("log_dir", "", "config: log_dir must not be empty");
        flag_refused("root_dir", "/a\nb", "config: root_dir has a control character");
        flag_refused("root_dir", "/\xff", "parse config: root_dir: not valid UTF-8");
        flag_refused("stop_timeout_seconds", "0",
                     "config: stop_timeout_seconds must be > 0, got 0");
        flag_refused("dns", "8.8.8.8, x", "config: dns: invalid DNS server address \"x\"");
        flag_refused("pool_size", "many", "parse config: pool_size: invalid integer \"many\"");
        flag_refused("pool_size", "99999999999",
                     "parse config: pool_size: invalid integer \"99999999999\"");
        flag_refused("log.use_json", "maybe",
                     "parse config: log.use_json: invalid boolean \"maybe\"");
        flag_refused("layer_max_size", "-1", "parse config: layer_max_size: invalid size \"-1\"");
        flag_refused("layer_max_size", "0", "config: layer_max_size must be > 0, got 0");
        flag_refused("hypervisor", "xen",
                     "config: hypervisor must be one of auto, cloud-hypervisor, firecracker, qemu, "
                     "got \"xen\"");
        flag_refused("cgroup_cpus", "3-1", "config: cgroup_cpus: invalid CPU list \"3-1\"");
        flag_refused("cgroup_cpus", "1,", "config: cgroup_cpus: invalid CPU list \"1,\"");
        flag_refused("net_scope", "bt",
                     "config: net_scope must be two letters or digits other than bt and rm, got "
                     "\"bt\"");
        assert_int_equal(config_load(NULL, &level, 1, &c, &err), -CC_INVALID);
        assert_string_equal(err.hint, "did you mean \"warn\"?");
        setenv("COCOON_POOL_SIZE", "x", 1);
        assert_int_equal(config_load(NULL, NULL, 0, &c, &err), -CC_INVALID);
        unsetenv("COCOON_POOL_SIZE");
        assert_string_equal(err.msg, "parse config: COCOON_POOL_SIZE: invalid integer \"x\"");
}

static void resolved_values(void **state)
{
        CONFIG struct config c = { 0 };
        struct config_flag flags[] = {
                { "pool_size", "-3" },    { "socket_wait_timeout_seconds", "0" },
                { "pull_conns", "1000" }, { "terminate_grace_period_seconds", "-1" },
                { "root_dir", "rel/" },   { "cgroup_cpus", "0-3,8" },
                { "run_dir", "/" },       { "dns", "" },
        };
        CC_FREE char *cwd = getcwd(NULL, 0);
        CC_FREE char *want = cc_path_join(cwd, "rel");
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(config_load(NULL, flags, CC_ARRAY_LEN(flags), &c, &err), 0);
        assert_true(c.pool_size >= 1);
        assert_int_equal(c.socket_wait_timeout_seconds, 5);
        assert_int_equal(c.terminate_grace_period_seconds, 5);
        assert_int_equal(c.pull_conns, 64);
        assert_string_equal(c.root_dir, want);
        assert_string_equal(c.run_dir, "/");
        assert_int_equal(c.dns_servers.len, 0);
}

static void layout(void **state)
{
        CONFIG struct config c = { 0 };
        CC_FREE char *root = cc_path_join(dir, "r");
        CC_FREE char *log = cc_path_join(dir, "log");
        CC_FREE char *run = cc_path_join(dir, "r/run");
        CC_FREE char *meta = NULL;
        CC_FREE char *lock = NULL;
        CC_FREE char *blob = NULL;
        CC_FREE char *vm = NULL;
        CC_FREE char *vm_want = NULL;
        struct config_flag flags[] = { { "root_dir", root },
                                       { "run_dir", run },
                                       { "log_dir", log } };
        struct cc_err err = CC_ERR_INIT;
        struct stat st;

        (void)state;
        assert_int_equal(config_load(NULL, flags, 3, &c, &err), 0);
        assert_int_equal(layout_create(&c, &err), 0);
        assert_int_equal(layout_create(&c, &err), 0);
        meta = layout_meta_dir(&c);
        assert_int_equal(stat(meta, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        lock = layout_vm_lock(&c, "ID");
        blob = layout_oci_blob(&c, "ab");
        assert_true(cc_startswith(lock, root));
        assert_true(cc_endswith(lock, "/locks/vm/ID.lock"));
        assert_true(cc_endswith(blob, "/oci/blobs/ab.erofs"));
        vm = layout_vm_run_dir(&c, "qemu", "ID");
        vm_want = xasprintf("%s/qemu/ID", run);
        assert_string_equal(vm, vm_want);
        *strrchr(lock, '/') = '\0';
        assert_int_equal(stat(lock, &st), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(defaults),        cmocka_unit_test(environment_names),
                cmocka_unit_test(precedence),      cmocka_unit_test(formats),
                cmocka_unit_test(broken_files),    cmocka_unit_test(messages),
                cmocka_unit_test(resolved_values), cmocka_unit_test(layout),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
