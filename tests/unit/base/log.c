/* Log lines in both forms, levels, hostile text, rotation. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/json.h"
#include "base/str.h"
#include "unit.h"

/* What f() prints on stderr. Caller frees. */
static char *stderr_of(void (*f)(void))
{
        FILE *tmp = tmpfile();
        int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
        struct cc_buf b = { 0 };
        char chunk[4096];
        size_t n;

        assert_non_null(tmp);
        (void)dup2(fileno(tmp), STDERR_FILENO);
        f();
        (void)dup2(saved, STDERR_FILENO);
        close(saved);
        rewind(tmp);
        while ((n = fread(chunk, 1, sizeof(chunk), tmp)) > 0)
                cc_buf_add(&b, chunk, n);
        (void)fclose(tmp);
        return cc_buf_take(&b);
}

static void reset_log(const struct cc_log_config *c)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_log_setup(c, &err));
}

static void say_three(void)
{
        cc_debug("t", "hidden");
        cc_info("vm.start", "started %s", "vm1");
        cc_warn("gc", "old");
}

static void test_text(void **state)
{
        CC_FREE char *got = NULL;
        char day[40];
        struct tm tm;
        char *second;

        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO });
        got = stderr_of(say_three);
        second = strchr(got, '\n');
        assert_non_null(second);
        *second++ = '\0';
        assert_true(cc_endswith(got, " INF started vm1 func=vm.start"));
        assert_true(cc_endswith(second, " WRN old func=gc\n"));
        /* "02 Jan 06 15:04 MST", no colour into a file */
        assert_non_null(strptime(got, "%d %b %y %H:%M ", &tm));
        assert_true(strftime(day, sizeof(day), "%d %b %y %H:%M ", &tm) > 0);
        assert_true(cc_startswith(got, day));
        assert_null(strchr(got, '\033'));
}

static void say_evil(void)
{
        errno = 42;
        cc_warn("t", "%s", "a\nError: forged\033[2J\x7f");
        assert_int_equal(errno, 42);
}

static void test_text_is_one_line(void **state)
{
        CC_FREE char *got = NULL;

        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO });
        got = stderr_of(say_evil);
        assert_non_null(strstr(got, "WRN a Error: forged?[2J? func=t\n"));
        assert_int_equal(strcspn(got, "\n"), strlen(got) - 1);
}

static void say_bytes(void)
{
        cc_warn("t", "%s", "q\"b\\ \xe2\x82\xac \xff \xed\xa0\x80 \n");
}

static void test_json_line(void **state)
{
        CC_FREE char *got = NULL;
        CC_JSON json_t *j = NULL;
        struct cc_err err = CC_ERR_INIT;

        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO, .use_json = true });
        got = stderr_of(say_bytes);
        assert_ok(cc_json_parse(got, strlen(got), "log line", &j, &err));
        assert_string_equal(json_string_value(json_object_get(j, "level")), "warn");
        assert_string_equal(json_string_value(json_object_get(j, "func")), "t");
        assert_string_equal(
                json_string_value(json_object_get(j, "message")),
                "q\"b\\ \xe2\x82\xac \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \n");
        assert_non_null(json_object_get(j, "time"));
}

static void test_levels(void **state)
{
        enum cc_log_level level = CC_LOG_PANIC;
        CC_FREE char *got = NULL;

        assert_int_equal(cc_log_level_parse("WARN", &level), 0);
        assert_int_equal(level, CC_LOG_WARN);
        assert_int_equal(cc_log_level_parse("warning", &level), -CC_INVALID);
        assert_int_equal(cc_log_level_parse("", &level), -CC_INVALID);
        assert_int_equal(level, CC_LOG_WARN);
        reset_log(&(struct cc_log_config){ .level = CC_LOG_DISABLED });
        got = stderr_of(say_three);
        assert_string_equal(got, "");
        assert_false(cc_log_enabled(CC_LOG_PANIC));
}

static void test_file(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "c.log");
        CC_FREE char *got = NULL;
        CC_FREE char *text = NULL;
        CC_FREE char *bad = cc_path_join(*state, "none/c.log");
        struct cc_err err = CC_ERR_INIT;

        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO, .filename = path });
        got = stderr_of(say_three);
        assert_string_equal(got, "");
        assert_ok(cc_read_file(path, 10000, &text, NULL, &err));
        assert_non_null(strstr(text, "\"func\":\"vm.start\",\"message\":\"started vm1\"}\n"));
        assert_int_equal(cc_log_setup(&(struct cc_log_config){ .filename = bad }, &err),
                         -CC_NOT_FOUND);
        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO });
}

/* How many rotated files there are, and whether the stranger's is still one of the neighbours. */
static size_t rotated(const char *dir, bool *ret_stranger)
{
        CC_DIR DIR *d = opendir(dir);
        size_t n = 0;

        *ret_stranger = false;
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
                if (strcmp(e->d_name, "c.log-notes") == 0)
                        *ret_stranger = true;
                else if (cc_startswith(e->d_name, "c.log-"))
                        n++;
        }
        return n;
}

static void test_rotation(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "c.log");
        CC_FREE char *notes = cc_path_join(*state, "c.log-notes");
        CC_FREE char *big = xmalloc(1 << 16);
        struct cc_err err = CC_ERR_INIT;
        struct stat st;
        bool stranger;

        memset(big, 'x', 1 << 16);
        big[(1 << 16) - 1] = '\0';
        assert_ok(cc_publish(notes, "mine", 4, 0600, &err));
        reset_log(&(struct cc_log_config){
                .level = CC_LOG_INFO, .filename = path, .max_size = 1, .max_backups = 2 });
        for (int i = 0; i < 16 * 6; i++)
                cc_info("t", "%s", big);
        assert_int_equal(rotated(*state, &stranger), 2);
        assert_true(stranger);
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_size <= (1 << 20) + (1 << 17));
        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO });
}

static void *worker(void *arg)
{
        for (int i = 0; i < 2000; i++)
                cc_info("t", "%s", (const char *)arg);
        return NULL;
}

static void test_threads(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "c.log");
        char text[600];
        pthread_t t[4];
        bool stranger;
        size_t lines = 0;
        CC_DIR DIR *d = NULL;

        memset(text, 'y', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO, .filename = path, .max_size = 1 });
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&t[i], NULL, worker, text), 0);
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(pthread_join(t[i], NULL), 0);
        reset_log(&(struct cc_log_config){ .level = CC_LOG_INFO });
        assert_true(rotated(*state, &stranger) >= 4);
        d = opendir(*state);
        for (struct dirent *e; (e = readdir(d));) {
                CC_FREE char *f = cc_path_join(*state, e->d_name);
                CC_FREE char *all = NULL;
                struct cc_err err = CC_ERR_INIT;

                if (e->d_name[0] == '.')
                        continue;
                assert_ok(cc_read_file(f, 4 << 20, &all, NULL, &err));
                for (char *s = all; (s = strchr(s, '\n')); s++)
                        lines++;
        }
        assert_int_equal(lines, 8000); /* rotation lost none */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),      cmocka_unit_test(test_text_is_one_line),
                cmocka_unit_test(test_json_line), cmocka_unit_test(test_levels),
                scratch_test(test_file),          scratch_test(test_rotation),
                scratch_test(test_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
