/*
 * What only the double has: violations of good manners, versions, faults, a test's hand, and the
 * way from a snapshot to clones as cocoon goes it, in a mount namespace of their own.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"
#include "fc_kernel.h"
#include "fc_process.h"

enum { WAIT_MS = 20000 };

#define START   "{\"action_type\":\"InstanceStart\"}"
#define CAD     "{\"action_type\":\"SendCtrlAltDel\"}"
#define PAUSED  "{\"state\":\"Paused\"}"
#define RESUMED "{\"state\":\"Resumed\"}"
#define MACHINE "{\"vcpu_count\":1,\"mem_size_mib\":16}"
#define BOOT                                                                                       \
        "{\"kernel_image_path\":\"kernel\",\"boot_args\":\"console=ttyS0 cocoon.hostname=alpha\"}"
#define COW "{\"drive_id\":\"drive_0\",\"path_on_host\":\"cow.raw\",\"is_root_device\":false}"

/* ---- tools -------------------------------------------------------------------------------- */

static void set(const char *knob, const char *value)
{
        CC_FREE char *name = xasprintf("COCOON_DOUBLE_%s", knob);

        assert_int_equal(value ? setenv(name, value, 1) : unsetenv(name), 0);
}

static void write_text(const char *name, const char *data, size_t n)
{
        FILE *f = fopen(name, "we");

        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
}

static void disk(const char *name)
{
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 1 << 20), 0);
        close(fd);
}

static void copy(const char *from, const char *to)
{
        CC_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
        CC_CLOSE int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_copy_sparse(in, out, &err));
}

/* A scratch directory with a kernel and a disk, and the journal on. */
static int double_setup(void **state)
{
        CC_BUF struct cc_buf image = { 0 };

        if (scratch_setup(state) < 0 || chdir(*state) < 0)
                return -1;
        fc_kernel("good", &image);
        write_text("kernel", image.data, image.len);
        disk("cow.raw");
        set("JOURNAL", "journal");
        return 0;
}

static int double_teardown(void **state)
{
        static const char *const knobs[] = { "JOURNAL",      "VERSION",  "FAULTS",
                                             "CONTROL",      "SIGTERM",  "KEYBOARD",
                                             "POWER_BUTTON", "IO_URING", "TAP" };

        for (size_t i = 0; i < CC_ARRAY_LEN(knobs); i++)
                set(knobs[i], NULL);
        return chdir("/") < 0 ? -1 : scratch_teardown(state);
}

#define double_test(f) cmocka_unit_test_setup_teardown(f, double_setup, double_teardown)

/* How many lines of the journal have this event and, unless NULL, this text in them. */
static size_t journal_count(const char *event, const char *text)
{
        CC_FREE char *what = xasprintf("\"event\":\"%s\"", event);
        CC_FREE char *all = NULL;
        CC_STRV struct cc_strv lines = { 0 };
        const char *line;
        size_t len, n = 0;

        if (cc_read_file("journal", 1 << 20, &all, &len, NULL) < 0)
                return 0;
        cc_split(all, "\n", &lines);
        cc_strv_foreach (&lines, i, line)
                n += strstr(line, what) && (!text || strstr(line, text));
        return n;
}

static int ask(const struct fc *fc, const char *method, const char *path, const char *body)
{
        CC_BUF struct cc_buf reply = { 0 };

        return fc_request(fc, method, path, body, &reply);
}

/* Status and text of a fault. */
static void refused(const struct fc *fc, const char *method, const char *path, const char *body,
                    const char *text)
{
        CC_BUF struct cc_buf reply = { 0 };

        assert_int_equal(fc_request(fc, method, path, body, &reply), 400);
        if (!strstr(reply.data, text))
                fail_msg("%s %s: %s", method, path, reply.data);
}

/* Start, configure with one disk, boot. */
static void boot(struct fc *fc, const char *id)
{
        fc_start(fc, id, NULL);
        assert_int_equal(ask(fc, "PUT", "/machine-config", MACHINE), 204);
        assert_int_equal(ask(fc, "PUT", "/boot-source", BOOT), 204);
        assert_int_equal(ask(fc, "PUT", "/drives/drive_0", COW), 204);
        assert_int_equal(ask(fc, "PUT", "/actions", START), 204);
        assert_true(fc_console_wait(
                fc, "cocoon-tiny ready: hostname=alpha disks=1 net=none uptime=", WAIT_MS));
        fc_console_forget(fc);
}

/* Type a line and see its answer. */
static void shell(struct fc *fc, const char *line, const char *answer)
{
        fc_console_forget(fc);
        fc_type(fc, line);
        if (!fc_console_wait(fc, answer, WAIT_MS))
                fail_msg("%s answered %s", line, fc->console.data);
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_well_mannered(void **state)
{
        struct fc fc;

        (void)state;
        boot(&fc, "vm");
        assert_int_equal(ask(&fc, "PUT", "/actions", CAD), 204);
        assert_int_equal(fc_wait(&fc, WAIT_MS), 0);
        assert_int_equal(journal_count("violation", NULL), 0);
        assert_int_equal(journal_count("process", NULL), 1);
        assert_int_equal(journal_count("exit", "\"status\":0"), 1);
        fc_end(&fc);
}

static void test_manners(void **state)
{
        static const char *const bare[] = { "--id", "a", "--api-sock", "nowhere/sock", NULL };
        CC_BUF struct cc_buf out = { 0 };
        struct fc fc;
        int fd = open("kernel", O_RDONLY);

        (void)state;
        assert_int_equal(dup2(fd, 40), 40);
        assert_int_equal(fc_run(bare, &out), 1);
        assert_int_equal(journal_count("violation", "descriptor 40 is inherited"), 1);
        assert_int_equal(journal_count("violation", "argument 1 is not --api-sock"), 1);
        assert_int_equal(journal_count("violation", "no log file"), 1);
        assert_int_equal(journal_count("violation", "not one terminal"), 1);
        assert_int_equal(journal_count("violation", "not a session leader"), 1);
        assert_int_equal(journal_count("violation", "not the name of the run directory"), 1);
        close(40);
        close(fd);
        fc_start(&fc, "vm", NULL);
        assert_int_equal(ask(&fc, "PUT", "/drives/r",
                             "{\"drive_id\":\"r\",\"path_on_host\":\"cow.raw\","
                             "\"is_root_device\":true}"),
                         204);
        assert_int_equal(journal_count("violation", "is the root device"), 1);
        refused(&fc, "PUT", "/mmds", "{}", "not modelled");
        assert_int_equal(journal_count("violation", "not for cocoon"), 1);
        fc_end(&fc);
}

/* Fields, methods and formats that older versions lack. */
static void test_versions(void **state)
{
        static const char *const format[] = { "--snapshot-version", NULL };
        static const struct {
                const char *version, *format;
                bool reporting, mtu, remove;
        } versions[] = {
                { "1.13.2", "v8.0.0", false, false, false },
                { "1.14.4", "v8.0.0", true, false, false },
                { "1.15.1", "v9.0.0", true, false, false },
                { "1.16.0", "v10.0.0", true, true, true },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(versions); i++) {
                CC_BUF struct cc_buf out = { 0 };
                CC_BUF struct cc_buf reply = { 0 };
                CC_FREE char *id = xasprintf("vm%zu", i);
                struct fc fc;

                set("VERSION", versions[i].version);
                set("TAP", "record");
                assert_int_equal(fc_run(format, &out), 0);
                assert_non_null(strstr(out.data, versions[i].format));
                fc_start(&fc, id, NULL);
                assert_int_equal(fc_request(&fc, "GET", "/version", NULL, &reply), 200);
                assert_non_null(strstr(reply.data, versions[i].version));
                assert_int_equal(ask(&fc, "PUT", "/balloon",
                                     "{\"amount_mib\":4,\"deflate_on_oom\":true,"
                                     "\"free_page_reporting\":true}"),
                                 versions[i].reporting ? 204 : 400);
                assert_int_equal(ask(&fc, "PUT", "/network-interfaces/eth0",
                                     "{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\","
                                     "\"mtu\":1400}"),
                                 versions[i].mtu ? 204 : 400);
                assert_int_equal(fc_request(&fc, "DELETE", "/drives/d", NULL, &reply), 400);
                assert_true(versions[i].remove ==
                            !strstr(reply.data, "Invalid HTTP Method: Unsupported HTTP method."));
                fc_end(&fc);
        }
}

/* A lost answer: what may be sent again, and what is found out. */
static void test_repeats(void **state)
{
        static const char faults[] = "{\"endpoint\":\"PUT /machine-config\",\"nth\":1,\"do\":"
                                     "\"drop-after\"}\n"
                                     "{\"endpoint\":\"PUT /actions/InstanceStart\",\"nth\":1,"
                                     "\"do\":\"drop-after\"}\n";
        struct fc fc;

        (void)state;
        write_text("faults", faults, strlen(faults));
        set("FAULTS", "faults");
        fc_start(&fc, "vm", NULL);
        assert_int_equal(ask(&fc, "PUT", "/machine-config", MACHINE), 0);
        assert_int_equal(ask(&fc, "PUT", "/machine-config", MACHINE), 204);
        assert_int_equal(journal_count("retry-violation", NULL), 0);
        assert_int_equal(ask(&fc, "PUT", "/boot-source", BOOT), 204);
        assert_int_equal(ask(&fc, "PUT", "/actions", START), 0);
        refused(&fc, "PUT", "/actions", START, "after starting the microVM");
        assert_int_equal(journal_count("retry-violation", "InstanceStart"), 1);
        fc_end(&fc);
}

/* A guest without keyboard driver takes no keys: four presses fill the controller. */
static void test_keys(void **state)
{
        struct fc fc;

        (void)state;
        set("KEYBOARD", "none");
        boot(&fc, "deaf");
        for (int i = 0; i < 4; i++)
                assert_int_equal(ask(&fc, "PUT", "/actions", CAD), 204);
        refused(&fc, "PUT", "/actions", CAD, "i8042 internal buffer full");
        fc_end(&fc);
        set("KEYBOARD", NULL);
        set("POWER_BUTTON", "ignore");
        boot(&fc, "stubborn");
        for (int i = 0; i < 6; i++)
                assert_int_equal(ask(&fc, "PUT", "/actions", CAD), 204);
        assert_int_equal(ask(&fc, "GET", "/", NULL), 200);
        /* A guest that powers off leaves its VMM idling. */
        fc_type(&fc, "poweroff\n");
        assert_int_equal(fc_wait(&fc, 200), -1);
        assert_int_equal(ask(&fc, "GET", "/", NULL), 200);
        fc_end(&fc);
}

static void test_sigterm(void **state)
{
        struct fc fc;

        (void)state;
        set("SIGTERM", "ignore");
        boot(&fc, "vm");
        assert_int_equal(kill(fc.pid, SIGTERM), 0);
        assert_int_equal(fc_wait(&fc, 200), -1);
        assert_int_equal(journal_count("signal", "Terminated"), 1);
        fc_end(&fc);
}

/* Output that nobody reads is lost; the guest goes on. */
static void test_full_console(void **state)
{
        struct fc fc;

        (void)state;
        boot(&fc, "vm");
        for (int i = 0; i < 400; i++)
                fc_type(&fc, "hostname\n");
        while (fc_console_wait(&fc, "never", 300))
                ;
        shell(&fc, "counter\n", "1\r\n");
        fc_end(&fc);
}

static void test_io_uring(void **state)
{
        struct fc fc;

        (void)state;
        set("IO_URING", "deny");
        fc_start(&fc, "vm", NULL);
        refused(&fc, "PUT", "/drives/d",
                "{\"drive_id\":\"d\",\"path_on_host\":\"cow.raw\",\"is_root_device\":false,"
                "\"io_engine\":\"Async\"}",
                "Error calling io_uring_setup: Operation not permitted (os error 1)");
        fc_end(&fc);
}

/* One line to the control socket, one back. */
static void control(const char *line, const char *expected)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "hand" };
        CC_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char answer[128] = "";

        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        assert_int_equal(send(fd, line, strlen(line), 0), strlen(line));
        assert_int_equal(send(fd, "\n", 1, 0), 1);
        assert_true(recv(fd, answer, sizeof(answer) - 1, 0) > 0);
        answer[strcspn(answer, "\n")] = '\0';
        assert_string_equal(answer, expected);
}

static void test_control(void **state)
{
        struct fc fc;

        (void)state;
        set("CONTROL", "hand");
        boot(&fc, "off");
        control("poweroff", "ok");
        assert_int_equal(fc_wait(&fc, 100), -1);
        assert_int_equal(ask(&fc, "GET", "/", NULL), 200);
        control("nonsense", "error: unknown command nonsense");
        fc_end(&fc);
        boot(&fc, "again");
        control("print hello", "ok");
        assert_true(fc_console_wait(&fc, "hello", WAIT_MS));
        control("reboot", "ok");
        assert_int_equal(fc_wait(&fc, WAIT_MS), 0);
        fc_end(&fc);
}

static void starts_with(const char *file, const char *text)
{
        char head[16] = "";
        CC_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC);

        assert_true(read(fd, head, strlen(text)) >= 0);
        assert_string_equal(head, text);
}

/* Pause, snapshot into `dir`, and end. */
static void capture(struct fc *fc, const char *dir)
{
        CC_FREE char *body = xasprintf("{\"snapshot_path\":\"%s/vmstate\",\"mem_file_path\":"
                                       "\"%s/mem\"}",
                                       dir, dir);

        assert_int_equal(mkdir(dir, 0700), 0);
        assert_int_equal(ask(fc, "PATCH", "/vm", PAUSED), 204);
        assert_int_equal(ask(fc, "PUT", "/snapshot/create", body), 204);
        fc_end(fc);
}

static int load(struct fc *fc, const char *dir)
{
        CC_FREE char *body = xasprintf("{\"snapshot_path\":\"%s/vmstate\",\"mem_backend\":"
                                       "{\"backend_type\":\"File\",\"backend_path\":\"%s/mem\"}}",
                                       dir, dir);

        return ask(fc, "PUT", "/snapshot/load", body);
}

/* Put one file over another's name, in a mount namespace that this test is alone in. */
static bool bind_over(const char *file, const char *name)
{
        return unshare(CLONE_NEWNS) == 0 && mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount(file, name, NULL, MS_BIND, NULL) == 0;
}

/* A snapshot names its disks: whoever loads it in a namespace of its own, with its own file bound
 * over that name, writes into its own file; and its own snapshot names that, once PATCH has. */
static void test_clone(void **state)
{
        struct fc fc;

        (void)state;
        set("CONTROL", "hand");
        boot(&fc, "vm");
        shell(&fc, "counter\n", "1\r\n");
        shell(&fc, "counter\n", "2\r\n");
        shell(&fc, "echo before > /etc/mark\n", "alpha:~# ");
        control("write-disks source", "ok");
        capture(&fc, "snap");
        copy("cow.raw", "clone.raw");
        if (!bind_over("clone.raw", "cow.raw"))
                skip_because("mount namespaces are refused here");
        fc_start(&fc, "clone", NULL);
        assert_int_equal(load(&fc, "snap"), 204);
        assert_int_equal(umount2("cow.raw", MNT_DETACH), 0);
        control("write-disks cloned", "ok");
        assert_int_equal(ask(&fc, "PATCH", "/drives/drive_0",
                             "{\"drive_id\":\"drive_0\",\"path_on_host\":\"clone.raw\"}"),
                         204);
        assert_int_equal(ask(&fc, "PATCH", "/vm", RESUMED), 204);
        shell(&fc, "counter\n", "3\r\n");
        shell(&fc, "cat /etc/mark\n", "before\r\n");
        capture(&fc, "snap2");
        starts_with("cow.raw", "source");
        starts_with("clone.raw", "cloned");
        assert_int_equal(rename("cow.raw", "gone"), 0);
        fc_start(&fc, "clone2", NULL);
        assert_int_equal(load(&fc, "snap2"), 204);
        assert_int_equal(ask(&fc, "PATCH", "/vm", RESUMED), 204);
        shell(&fc, "counter\n", "4\r\n");
        fc_end(&fc);
        assert_int_equal(journal_count("violation", NULL), 0);
}

/* Two machines on one disk, a snapshot into a file that others use, files of two snapshots mixed.
 */
static void test_snapshot_violations(void **state)
{
        struct fc fc, twin;

        (void)state;
        boot(&fc, "vm");
        capture(&fc, "one");
        boot(&fc, "vm2");
        assert_int_equal(ask(&fc, "PATCH", "/vm", PAUSED), 204);
        /* Loaded beside it without a disk of its own. */
        fc_start(&twin, "twin", NULL);
        assert_int_equal(load(&twin, "one"), 204);
        assert_int_equal(journal_count("violation", "cow.raw is in use by another one"), 1);
        fc_end(&twin);
        assert_int_equal(mkdir("two", 0700), 0);
        assert_int_equal(link("one/mem", "two/mem"), 0);
        assert_int_equal(ask(&fc, "PUT", "/snapshot/create",
                             "{\"snapshot_path\":\"two/vmstate\",\"mem_file_path\":\"two/mem\"}"),
                         204);
        assert_int_equal(journal_count("violation", "which has another name"), 1);
        fc_end(&fc);
        fc_start(&fc, "mixed", NULL);
        assert_int_equal(load(&fc, "one"), 204);
        assert_int_equal(journal_count("violation", "different snapshots"), 1);
        fc_end(&fc);
        set("VERSION", "1.15.1");
        fc_start(&fc, "older", NULL);
        assert_int_equal(load(&fc, "one"), 400);
        assert_int_equal(fc_wait(&fc, WAIT_MS), 1);
        fc_end(&fc);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                double_test(test_well_mannered),
                double_test(test_manners),
                double_test(test_versions),
                double_test(test_repeats),
                double_test(test_keys),
                double_test(test_sigterm),
                double_test(test_full_console),
                double_test(test_control),
                double_test(test_io_uring),
                double_test(test_clone),
                double_test(test_snapshot_violations),
        };

        if (!fc_is_double()) {
                print_message("1..0 # SKIP COCOON_FC names a real Firecracker\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
