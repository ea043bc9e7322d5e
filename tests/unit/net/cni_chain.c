/* The CNI exec protocol against fake plugins: no root, no network. */
#include "../unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "fake_cni.h"

#include "base/timeutil.h"
#include "net/cni_chain.h"
#include "net/cni_exec.h"

#define VM     "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define RESULT "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.1.0.2/24\"}]}"

struct fixture {
        char *dir;
        struct cni_runtime rt;
        struct conflist list;
        struct cni_attachment a;
};

static int setup(void **state)
{
        struct fixture *f = xcalloc(1, sizeof(*f));
        void *dir = NULL;

        if (scratch_setup(&dir) < 0)
                return -1;
        f->dir = dir;
        fake_install(f->dir, "one");
        fake_install(f->dir, "two");
        fake_does(f->dir, "one.ADD", "echo '" RESULT "'\n");
        fake_does(f->dir, "two.ADD", "echo '" RESULT "'\n");
        cc_strv_add(&f->rt.path, "/nonexistent");
        cc_strv_add(&f->rt.path, f->dir);
        f->rt.cache_dir = cc_path_join(f->dir, "cache");
        f->rt.timeout_ms = 60000;
        f->a = (struct cni_attachment){
                .vm_id = VM, .container = VM, .if_name = "eth0", .netns = "/run/netns/x", .args = ""
        };
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        void *dir = f->dir;

        cni_runtime_clear(&f->rt);
        conflist_clear(&f->list);
        (void)scratch_teardown(&dir);
        free(f);
        return 0;
}

static void use(struct fixture *f, const char *text)
{
        struct cc_err err = CC_ERR_INIT;

        conflist_clear(&f->list);
        assert_ok(conflist_parse(text, strlen(text), NULL, &f->list, &err));
}

static void use_both(struct fixture *f)
{
        use(f, "{\"name\":\"net\",\"cniVersion\":\"1.0.0\",\"plugins\":["
               "{\"type\":\"one\",\"odd\":{\"x\":[1]},\"capabilities\":{\"mac\":true,"
               "\"ips\":false}},{\"type\":\"two\",\"capabilities\":{\"ips\":true,\"dns\":true}}]}");
}

static int add(struct fixture *f, struct cc_err *err)
{
        CC_JSON json_t *result = NULL;

        return cni_add(&f->rt, &f->list, &f->a, &result, err);
}

/* The text of a failing ADD. */
static void refused(struct fixture *f, const char *script, const char *why)
{
        struct cc_err err = CC_ERR_INIT;

        fake_does(f->dir, "one.ADD", script);
        assert_true(add(f, &err) < 0);
        if (!strstr(err.msg, why) || strchr(err.msg, '\n'))
                fail_msg("\"%s\" is not in: %s", why, err.msg);
}

static void test_add_del(void **state)
{
        struct fixture *f = *state;
        CC_JSON json_t *caps = json_loads("{\"mac\":\"02:00:00:00:00:01\",\"ips\":[\"10.1.0.2/24\"]"
                                          ",\"bandwidth\":1}",
                                          0, NULL);
        CC_JSON json_t *result = NULL;
        CC_JSON json_t *in = NULL;
        CC_JSON json_t *second = NULL;
        CC_JSON json_t *undo = NULL;
        CC_JSON json_t *first = NULL;
        CC_FREE char *file = xasprintf("%s/cache/net-" VM "-eth0", f->dir);
        CC_FREE char *path = NULL;
        CNI_CACHED struct cni_cached cached = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct stat st;

        use_both(f);
        (void)setenv("CNI_ARGS", "LEFT=OVER", 1);
        (void)setenv("CNI_SECRET", "LEFT=OVER", 1);
        f->a.caps = caps;
        f->a.args = "IgnoreUnknown=1;IP=10.1.0.2";
        fake_does(f->dir, "one.ADD", "echo '{\"dns\":{\"domain\":\"x\"}}'; echo noise >&2\n");
        assert_ok(cni_add(&f->rt, &f->list, &f->a, &result, &err));
        assert_log(f->dir, "one ADD eth0\ntwo ADD eth0\n");
        assert_string_equal(json_string_value(json_object_get(
                                    json_array_get(json_object_get(result, "ips"), 0), "address")),
                            "10.1.0.2/24");

        in = fake_input(f->dir, "one.ADD");
        second = json_loads("{\"type\":\"one\",\"odd\":{\"x\":[1]},\"name\":\"net\","
                            "\"cniVersion\":\"1.0.0\","
                            "\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:01\"}}",
                            0, NULL);
        assert_true(json_equal(in, second));
        json_decref(in);
        json_decref(second);
        in = fake_input(f->dir, "two.ADD");
        second = json_loads("{\"type\":\"two\",\"name\":\"net\",\"cniVersion\":\"1.0.0\","
                            "\"prevResult\":{\"dns\":{\"domain\":\"x\"},\"cniVersion\":\"1.0.0\"},"
                            "\"runtimeConfig\":{\"ips\":[\"10.1.0.2/24\"]}}",
                            0, NULL);
        assert_true(json_equal(in, second));
        assert_true(fake_env_has(f->dir, "one.ADD", "CNI_CONTAINERID=" VM));
        assert_true(fake_env_has(f->dir, "one.ADD", "CNI_NETNS=/run/netns/x"));
        assert_true(fake_env_has(f->dir, "one.ADD", "CNI_ARGS=IgnoreUnknown=1;IP=10.1.0.2"));
        assert_false(fake_env_has(f->dir, "one.ADD", "CNI_SECRET=LEFT=OVER"));
        assert_true(fake_env_has(f->dir, "one.ADD", "PWD=/"));
        path = xasprintf("CNI_PATH=/nonexistent:%s", f->dir);
        assert_true(fake_env_has(f->dir, "one.ADD", path));

        /* What is remembered suffices for the DEL. */
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_ok(cni_cache_load(f->rt.cache_dir, "net", VM, "eth0", &cached, &err));
        assert_string_equal(cached.args, f->a.args);
        assert_true(json_equal(cached.caps, caps));
        assert_true(json_equal(cached.result, result));
        assert_true(json_equal(cached.list.plugins, f->list.plugins));
        assert_ok(cni_del(&f->rt, &cached.list, &f->a, cached.result, &err));
        assert_log(f->dir, "two DEL eth0\none DEL eth0\n");
        undo = fake_input(f->dir, "one.DEL");
        assert_true(json_equal(json_object_get(undo, "prevResult"), result));
        first = fake_input(f->dir, "two.DEL");
        assert_true(json_equal(json_object_get(first, "prevResult"), result));
        assert_int_not_equal(access(file, F_OK), 0);
        assert_ok(cni_del(&f->rt, &cached.list, &f->a, NULL, &err)); /* again */
        (void)unsetenv("CNI_ARGS");
        (void)unsetenv("CNI_SECRET");
}

/* The plugins of old versions know nothing of results on DEL. */
static void test_old_del(void **state)
{
        struct fixture *f = *state;
        CC_JSON json_t *result = json_loads(RESULT, 0, NULL);
        CC_JSON json_t *in = NULL;
        struct cc_err err = CC_ERR_INIT;

        use(f, "{\"name\":\"net\",\"cniVersion\":\"0.3.1\",\"type\":\"one\"}");
        assert_ok(cni_del(&f->rt, &f->list, &f->a, result, &err));
        in = fake_input(f->dir, "one.DEL");
        assert_null(json_object_get(in, "prevResult"));
}

static void test_errors(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        use(f, "{\"name\":\"net\",\"cniVersion\":\"1.0.0\",\"type\":\"one\"}");
#define AT "cni add " VM "/eth0: plugin type=\"one\" failed (add): "
        refused(f, "echo '{\"code\":999,\"msg\":\"no room\",\"details\":\"at all\"}'; exit 1",
                AT "no room; at all");
        refused(f, "printf %s '{\"code\":7,\"msg\":\"two\\nlines\"}'; exit 1", AT "two lines");
        refused(f, "echo '{\"code\":100}'; exit 1", AT "error code 100 without a message");
        refused(f, "echo 'Segmentation fault'; exit 139", AT "Segmentation fault");
        refused(f, "echo oops >&2; exit 1", AT "oops");
        refused(f, "exit 3", AT "failed with no error message");
        refused(f, "kill -9 $$", AT "failed with no error message");
        refused(f, "echo '{\"ips\":'", AT "it printed no valid result: {\"ips\":");
        refused(f, "echo '[]'", AT "it printed no valid result: []");
        refused(f, "exit 0", AT "it printed no result");
        refused(f, "head -c 2000000 /dev/zero", "printed more than 1048576 bytes");
        refused(f, "head -c 2000000 /dev/zero >&2", "printed more than 1048576 bytes");
        refused(f, "head -c 100000 /dev/zero | tr '\\0' x; exit 1", AT "xxxxxxxx");

        fake_does(f->dir, "one.ADD", "echo null");
        assert_ok(add(f, &err));

        /* Not installed: said before anything is run. */
        use(f, "{\"name\":\"net\",\"plugins\":[{\"type\":\"one\"},{\"type\":\"absent\"}]}");
        assert_int_equal(cni_check(&f->rt, &f->list, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "plugin type=\"absent\": no such plugin in /nonexistent:"));
        assert_non_null(strstr(err.hint, "cni_bin_dir"));
        err = (struct cc_err)CC_ERR_INIT;
        use(f, "{\"name\":\"net\",\"type\":\"one\",\"ipam\":{\"type\":\"host-locl\"}}");
        assert_int_equal(cni_check(&f->rt, &f->list, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "plugin type=\"host-locl\""));
        err = (struct cc_err)CC_ERR_INIT;
        assert_int_equal(add(f, &err), 0); /* what it is for is the plugin's affair */
}

/* A failing plugin ends the chain; a failing DEL keeps what is needed to repeat it. */
static void test_stops(void **state)
{
        struct fixture *f = *state;
        CNI_CACHED struct cni_cached cached = { 0 };
        struct cc_err err = CC_ERR_INIT;

        use_both(f);
        fake_does(f->dir, "one.ADD", "exit 1");
        assert_true(add(f, &err) < 0);
        assert_log(f->dir, "one ADD eth0\n");
        /* Even then the list is remembered. */
        assert_ok(cni_cache_load(f->rt.cache_dir, "net", VM, "eth0", &cached, &err));
        assert_null(cached.result);
        /* And what the plugins before the failing one made. */
        fake_does(f->dir, "one.ADD", "echo '" RESULT "'\n");
        fake_does(f->dir, "two.ADD", "exit 1");
        assert_true(add(f, &err) < 0);
        cni_cached_clear(&cached);
        assert_ok(cni_cache_load(f->rt.cache_dir, "net", VM, "eth0", &cached, &err));
        assert_non_null(json_object_get(cached.result, "ips"));
        free(fake_log(f->dir));

        fake_does(f->dir, "two.DEL", "echo '{\"code\":999,\"msg\":\"busy\"}'; exit 1");
        err = (struct cc_err)CC_ERR_INIT;
        assert_true(cni_del(&f->rt, &f->list, &f->a, NULL, &err) < 0);
        assert_string_equal(err.msg, "cni del " VM "/eth0: plugin type=\"two\" failed (del): busy");
        assert_log(f->dir, "two DEL eth0\n");
        /* Nothing of that container is what a DEL wants. */
        fake_does(f->dir, "two.DEL", "echo '{\"code\":3,\"msg\":\"unknown\"}'; exit 1");
        assert_ok(cni_del(&f->rt, &f->list, &f->a, NULL, &err));
        assert_log(f->dir, "two DEL eth0\none DEL eth0\n");
}

static void test_hang(void **state)
{
        struct fixture *f = *state;
        CC_FREE char *pid = NULL;
        int64_t start = cc_monotonic();
        struct cc_err err = CC_ERR_INIT;

        use(f, "{\"name\":\"net\",\"cniVersion\":\"1.0.0\",\"type\":\"one\"}");
        f->rt.timeout_ms = 3000; /* time enough to start the child on a busy machine */
        /* With a child of its own, which must not survive either. */
        fake_does(f->dir, "one.ADD", "sleep 300 & echo $! >\"$FAKE_CNI/child\"; wait");
        assert_int_equal(add(f, &err), -CC_TIMEOUT);
        assert_non_null(strstr(err.msg, "plugin type=\"one\" failed (add): "));
        assert_true(cc_monotonic() - start < 30 * CC_NSEC_PER_SEC);
        pid = fake_read(f->dir, "child");
        assert_true(atoi(pid) > 1);
        for (int i = 0; i < 500 && kill(atoi(pid), 0) == 0; i++) {
                CC_FREE char *stat = xasprintf("/proc/%d/stat", atoi(pid));
                CC_FREE char *text = NULL;
                struct timespec pause = { .tv_nsec = 10 * CC_NSEC_PER_MSEC };

                if (cc_read_file(stat, 4096, &text, NULL, NULL) < 0 || strstr(text, ") Z "))
                        break;
                assert_true(i < 499);
                (void)nanosleep(&pause, NULL);
        }

        /* A deadline that has passed runs nothing. */
        f->rt.deadline = cc_monotonic() - 1;
        (void)unlink("log");
        err = (struct cc_err)CC_ERR_INIT;
        assert_int_equal(add(f, &err), -CC_TIMEOUT);
}

static void test_try_again(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        use(f, "{\"name\":\"net\",\"cniVersion\":\"1.0.0\",\"type\":\"one\"}");
        fake_does(f->dir, "one.ADD",
                  "if [ -e \"$FAKE_CNI/again\" ]; then echo '" RESULT "'; else\n"
                  "touch \"$FAKE_CNI/again\"; echo '{\"code\":11,\"msg\":\"later\"}'; exit 1; fi");
        assert_ok(add(f, &err));
        assert_log(f->dir, "one ADD eth0\none ADD eth0\n");
        refused(f, "echo '{\"code\":11,\"msg\":\"later\"}'; exit 1", AT "later");
        assert_log(f->dir, "one ADD eth0\none ADD eth0\none ADD eth0\none ADD eth0\n");
}

#define OLDER_ONLY                                                                                 \
        "case $(cat \"$me.in\") in *'\"cniVersion\":\"1.1.0\"'*)"                                  \
        " echo '{\"code\":1,\"msg\":\"incompatible CNI versions\"}'; exit 1;; esac\n"
#define SUPPORTS(versions) "echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[" versions "]}'"

/* A list that is newer than its plugins is spoken in what they all know. */
static void test_versions(void **state)
{
        struct fixture *f = *state;
        CC_JSON json_t *in = NULL;
        CC_JSON json_t *result = NULL;
        CNI_CACHED struct cni_cached cached = { 0 };
        struct cc_err err = CC_ERR_INIT;

        use(f, "{\"name\":\"net\",\"cniVersion\":\"1.1.0\",\"plugins\":[{\"type\":\"one\"},"
               "{\"type\":\"two\"}]}");
        fake_does(f->dir, "one.VERSION", SUPPORTS("\"0.4.0\",\"1.0.0\",\"1.1.0\""));
        fake_does(f->dir, "two.VERSION", SUPPORTS("\"0.3.1\",\"0.4.0\",\"garbage\",\"9.0.0\""));
        fake_does(f->dir, "two.ADD", OLDER_ONLY "echo '" RESULT "'\n");
        fake_does(f->dir, "two.DEL", OLDER_ONLY);
        assert_ok(cni_add(&f->rt, &f->list, &f->a, &result, &err));
        /* The first plugin had done its part, so it is undone. */
        assert_log(f->dir, "one ADD eth0\ntwo ADD eth0\none VERSION eth0\ntwo VERSION eth0\n"
                           "two DEL eth0\none DEL eth0\none ADD eth0\ntwo ADD eth0\n");
        in = fake_input(f->dir, "two.ADD");
        assert_string_equal(json_string_value(json_object_get(in, "cniVersion")), "0.4.0");
        assert_string_equal(
                json_string_value(json_object_get(json_object_get(in, "prevResult"), "cniVersion")),
                "0.4.0");
        assert_ok(cni_cache_load(f->rt.cache_dir, "net", VM, "eth0", &cached, &err));
        assert_string_equal(cached.list.version, "0.4.0");

        /* Asked once; the next interface knows. */
        f->a.if_name = "eth1";
        assert_ok(add(f, &err));
        assert_log(f->dir, "one ADD eth1\ntwo ADD eth1\n");
        f->a.if_name = "eth0";

        /* DEL without a memory finds out by itself. */
        json_decref(f->rt.versions);
        f->rt.versions = NULL;
        assert_ok(cni_del(&f->rt, &f->list, &f->a, NULL, &err));
        assert_log(f->dir, "two DEL eth0\none VERSION eth0\ntwo VERSION eth0\ntwo DEL eth0\n"
                           "one DEL eth0\n");

        /* Nothing in common: the plugin's own words. */
        json_decref(f->rt.versions);
        f->rt.versions = NULL;
        fake_does(f->dir, "one.VERSION", SUPPORTS("\"1.1.0\""));
        assert_true(add(f, &err) < 0);
        assert_non_null(strstr(err.msg, "plugin type=\"two\" failed (add): incompatible CNI"));
}

/* A plugin that is just being installed. */
static void test_text_busy(void **state)
{
        struct fixture *f = *state;
        CC_FREE char *path = cc_path_join(f->dir, "one");
        struct cc_err err = CC_ERR_INIT;
        int ready[2];
        pid_t pid;
        char c;

        use(f, "{\"name\":\"net\",\"cniVersion\":\"1.0.0\",\"type\":\"one\"}");
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                struct timespec pause = { .tv_nsec = 500 * CC_NSEC_PER_MSEC };
                int fd = open(path, O_WRONLY | O_CLOEXEC);

                (void)!write(ready[1], "x", 1);
                (void)nanosleep(&pause, NULL);
                close(fd);
                _exit(0);
        }
        assert_true(pid > 0);
        assert_int_equal(read(ready[0], &c, 1), 1);
        assert_ok(add(f, &err));
        assert_log(f->dir, "one ADD eth0\n");
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(ready[0]);
        close(ready[1]);
}

static void test_path(void **state)
{
        CC_STRV struct cc_strv dirs = { 0 };
        CC_FREE char *all = NULL;

        (void)state;
        cni_plugin_path("/a:/usr/lib/cni", &dirs);
        all = cc_strv_join(&dirs, ":");
        assert_string_equal(all, "/a:/usr/lib/cni:/opt/cni/bin:/usr/libexec/cni");
}

/* A damaged memory is an error to its reader and passed over by a walk. */
static void test_cache(void **state)
{
        static const char *const bad[] = {
                "",
                "{}",
                "[]",
                "{\"kind\":\"cniCacheV1\"}",
                "{\"kind\":\"cniCacheV1\",\"ifName\":\"../x\",\"containerId\":\"" VM "\"}",
                "{\"kind\":\"cniCacheV1\",\"ifName\":\"eth0\",\"config\":\"****\"}",
                "{\"kind\":\"cniCacheV1\",\"ifName\":\"eth0\",\"config\":\"e30=\"}",
        };
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(mkdir(f->rt.cache_dir, 0700), 0);
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                struct cni_cached c = { 0 };

                fake_write(f->rt.cache_dir, "net-" VM "-eth0", bad[i], 0600);
                assert_int_equal(cni_cache_load(f->rt.cache_dir, "net", VM, "eth0", &c, &err),
                                 -CC_INVALID);
                assert_null(c.list.name);
                assert_ok(cni_cache_each(f->rt.cache_dir, NULL, NULL, NULL, &err));
        }
        assert_ok(cni_cache_each("/nonexistent", NULL, NULL, NULL, &err));
        assert_ok(cni_cache_drop(f->rt.cache_dir, "net", VM, "eth0", &err));
        assert_int_equal(
                cni_cache_load(f->rt.cache_dir, "net", VM, "eth0", &(struct cni_cached){ 0 }, &err),
                -CC_NOT_FOUND);
}

#define fixture_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                fixture_test(test_add_del),  fixture_test(test_old_del),
                fixture_test(test_errors),   fixture_test(test_stops),
                fixture_test(test_hang),     fixture_test(test_try_again),
                fixture_test(test_versions), fixture_test(test_text_busy),
                cmocka_unit_test(test_path), fixture_test(test_cache),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
