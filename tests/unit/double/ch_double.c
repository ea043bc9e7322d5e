/*
 * What only the double can do: other releases, faults on command, a journal, guests that let
 * devices go or do not.
 */
#include "double.h"

/* ---- releases ----------------------------------------------------------------------------- */

static void test_releases(void **state)
{
        static const struct {
                const char *profile;
                int missing, unknown, duplicate, invalid;
        } rows[] = { { "51", 500, 500, 500, 500 },
                     { "53", 404, 500, 500, 500 },
                     { "next", 404, 404, 409, 400 } };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct vmm v;
                CC_JSON json_t *j = NULL;
                const json_t *disk;

                knob("PROFILE", rows[i].profile);
                v = boot();
                put("vm.remove-device", "{\"id\":\"x\"}", rows[i].unknown, NULL);
                put("vm.add-disk", "{\"path\":\"x\",\"id\":\"_disk0\"}", rows[i].duplicate, NULL);
                put("vm.add-disk", "{\"path\":\"x\",\"queue_size\":3}", rows[i].invalid, NULL);
                j = info();
                disk = json_array_get(json_object_get(json_object_get(j, "config"), "disks"), 0);
                /* Unset options are null, then left out; some members came later. */
                assert_int_equal(json_is_null(json_object_get(disk, "serial")), i == 0);
                assert_int_equal(json_object_get(disk, "lock_granularity") != NULL, i > 0);
                put("vm.delete", NULL, 204, "");
                get("vm.info", rows[i].missing, NULL);
                assert_int_equal(vmm_end(v, SIGTERM), 0);
                assert_int_equal(cc_exists("a.sock.lock"), i > 0);
        }
}

/* Up to v52 a second removal of a pending device is the end of the VMM. */
static void test_second_remove(void **state)
{
        struct vmm v;

        (void)state;
        knob("PROFILE", "51");
        knob("ACK", "never");
        v = boot();
        put("vm.add-disk", LAYER, 200, NULL);
        put("vm.remove-device", "{\"id\":\"dd\"}", 204, "");
        put("vm.remove-device", "{\"id\":\"dd\"}", 500,
            "[\"Error from API\",\"API response receive error\",\"receiving on a closed "
            "channel\"]");
        assert_int_equal(vmm_wait(v), 1);
        assert_true(cc_exists("a.sock"));
}

static void test_strict(void **state)
{
        struct vmm v = vmm_start("");

        (void)state;
        put("vm.create", "{\"payload\":{\"kernel\":\"k\"},\"watchdgo\":true}", 400,
            "[\"Failed to deserialize JSON\",\"unknown field `watchdgo` in VmConfig\"]");
        assert_int_equal(vmm_end(v, SIGTERM), 0);
        knob("LENIENT", "1");
        v = vmm_start("");
        put("vm.create", "{\"payload\":{\"kernel\":\"k\"},\"watchdgo\":true}", 204, "");
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* ---- faults and journal ------------------------------------------------------------------- */

static void test_faults(void **state)
{
        struct vmm v;
        int64_t start;
        int fd;

        (void)state;
        knob("FAULTS", "faults");
        knob("JOURNAL", "journal");
        write_text("faults",
                   "{\"endpoint\":\"vm.pause\",\"nth\":1,\"do\":\"drop-before\"}\n"
                   "{\"endpoint\":\"vm.pause\",\"nth\":2,\"do\":\"drop-after\"}\n"
                   "{\"endpoint\":\"vm.resume\",\"nth\":1,\"do\":\"reply\",\"status\":429,\"body\":"
                   "[\"busy\"]}\n"
                   "{\"endpoint\":\"vm.resume\",\"nth\":2,\"do\":\"delay\",\"ms\":300}\n"
                   "{\"endpoint\":\"vm.nmi\",\"do\":\"raw\",\"body\":\"garbage\"}\n"
                   "{\"endpoint\":\"vm.counters\",\"do\":\"cut\",\"bytes\":20}\n");
        v = boot();
        put("vm.pause", NULL, 0, NULL);
        expect_state("Running");
        put("vm.pause", NULL, 0, NULL);
        expect_state("Paused");
        put("vm.resume", NULL, 429, "[\"busy\"]");
        expect_state("Paused");
        start = cc_monotonic();
        put("vm.resume", NULL, 204, "");
        assert_true(cc_monotonic() - start >= 300 * CC_NSEC_PER_MSEC);
        for (int i = 0; i < 2; i++) {
                CC_FREE char *said = NULL;

                fd = dial("a.sock");
                send_request(fd, i ? "GET" : "PUT", i ? "vm.counters" : "vm.nmi", NULL);
                said = hear(fd, "<EOF>");
                assert_string_equal(said, i ? "HTTP/1.1 500 \r\nServe<EOF>" : "garbage<EOF>");
                close(fd);
        }
        /* The same request once more, after its answer was lost. */
        put("vm.pause", NULL, 204, "");
        {
                CC_JSON json_t *lost = journal("journal", "retry-violation");

                assert_int_equal(json_array_size(lost), 1);
                assert_string_equal(
                        json_string_value(json_object_get(json_array_get(lost, 0), "endpoint")),
                        "vm.pause");
        }
        write_text("faults", "{\"endpoint\":\"vm.resume\",\"do\":\"crash\"}\n");
        put("vm.resume", NULL, 0, NULL);
        assert_int_equal(vmm_wait(v), 128 + SIGKILL);
        assert_true(cc_exists("a.sock"));
}

/* A server that is held up neither answers nor accepts, and its guest goes on. */
static void test_hang(void **state)
{
        struct vmm v;
        int fd;
        CC_FREE char *said = NULL;

        (void)state;
        knob("FAULTS", "faults");
        v = boot();
        {
                CC_FREE char *pty = pty_path();

                write_text("faults", "{\"endpoint\":\"vm.info\",\"do\":\"hang\"}\n");
                fd = dial("a.sock");
                send_request(fd, "GET", "vm.info", NULL);
                said = hear(fd, NULL);
                assert_string_equal(said, "");
                close(fd);
                fd = open(pty, O_RDWR | O_NOCTTY | O_CLOEXEC);
                assert_int_equal(write(fd, "hostname\r", 9), 9);
                free(said);
                said = hear(fd, "web\r\n");
                assert_non_null(strstr(said, "web\r\n"));
                close(fd);
        }
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

static void test_journal(void **state)
{
        struct vmm v;
        CC_JSON json_t *starts = NULL, *requests = NULL, *signals = NULL, *ends = NULL;
        const json_t *start, *request;
        struct stat st;

        (void)state;
        knob("JOURNAL", "journal");
        v = boot();
        assert_int_equal(vmm_end(v, SIGTERM), 0);
        starts = journal("journal", "start");
        requests = journal("journal", "request");
        signals = journal("journal", "signal");
        ends = journal("journal", "exit");
        assert_int_equal(json_array_size(starts), 1);
        start = json_array_get(starts, 0);
        assert_int_equal(json_integer_value(json_object_get(start, "pid")), v.pid);
        assert_int_equal(stat("/proc/self/ns/net", &st), 0);
        assert_true(json_integer_value(json_object_get(start, "netns")) == (json_int_t)st.st_ino);
        assert_string_equal(json_string_value(json_array_get(json_object_get(start, "argv"), 2)),
                            "a.sock");
        request = json_array_get(requests, 0);
        assert_string_equal(json_string_value(json_object_get(request, "endpoint")), "vm.create");
        assert_true(json_is_object(json_object_get(request, "body")));
        assert_null(json_object_get(json_array_get(requests, 1), "body"));
        assert_string_equal(
                json_string_value(json_object_get(json_array_get(signals, 0), "signal")), "TERM");
        assert_int_equal(json_integer_value(json_object_get(json_array_get(ends, 0), "status")), 0);
}

/* Knobs beside the link a test makes, for programs that are started with a clean environment. */
static void test_knob_file(void **state)
{
        const char *before = getenv("COCOON_TEST_CH");
        CC_FREE char *own = xasprintf("%s/cloud-hypervisor", (char *)*state);
        CC_FREE char *saved = xstrdup(before);
        struct vmm v;

        write_text("double.env", "COCOON_DOUBLE_JOURNAL=journal\nCOCOON_DOUBLE_PROFILE=51\n");
        assert_int_equal(symlink(program(), own), 0);
        setenv("COCOON_TEST_CH", own, 1);
        v = vmm_start("");
        get("vm.info", 500, NULL);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
        setenv("COCOON_TEST_CH", saved, 1);
        assert_true(cc_exists("journal"));
}

/* ---- process ------------------------------------------------------------------------------ */

static void test_signal_ignored(void **state)
{
        struct vmm v;

        (void)state;
        knob("SIGTERM", "ignore");
        v = boot();
        kill(v.pid, SIGTERM);
        usleep(100000);
        expect_state("Running");
        assert_int_equal(vmm_end(v, SIGKILL), 128 + SIGKILL);
}

/* Until vm.info is answered with that status. */
static void wait_info(int status)
{
        for (int i = 0; i < 1000; i++) {
                ANSWER struct answer a = ask("GET", "vm.info", NULL);

                if (a.status == status)
                        return;
                usleep(10000);
        }
        fail_msg("vm.info is never %d", status);
}

/* The API is there before the VM of the command line. */
static void test_slow_start(void **state)
{
        struct vmm v;

        (void)state;
        knob("START_MS", "1500");
        v = vmm_start("--kernel k --console off");
        get("vm.info", 404, NULL);
        wait_info(200);
        expect_state("Running");
        assert_int_equal(vmm_end(v, SIGTERM), 0);
        v = vmm_start("--kernel nope --console off");
        get("vm.info", 404, NULL);
        assert_int_equal(vmm_wait(v), 1);
}

/* ---- devices ------------------------------------------------------------------------------ */

static void send_control(const char *command, const char *answer)
{
        int fd = dial("control");
        CC_FREE char *line = xasprintf("%s\n", command);
        CC_FREE char *said = NULL;

        assert_true(fd >= 0);
        assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
        said = hear(fd, "\n");
        assert_true(cc_startswith(said, answer));
        close(fd);
}

static void test_ack(void **state)
{
        struct vmm v;

        (void)state;
        knob("ACK", "ms:1000");
        v = boot();
        put("vm.add-disk", LAYER, 200, NULL);
        /* A guest that stands still lets nothing go. */
        put("vm.pause", NULL, 204, "");
        put("vm.remove-device", "{\"id\":\"dd\"}", 204, "");
        usleep(1500000);
        assert_true(in_tree("dd"));
        put("vm.resume", NULL, 204, "");
        assert_true(in_tree("dd"));
        for (int i = 0; in_tree("dd"); i++) {
                assert_true(i < 1000);
                usleep(10000);
        }
        put("vm.add-disk", LAYER, 200, NULL);
        assert_int_equal(vmm_end(v, SIGTERM), 0);

        knob("ACK", "command");
        knob("CONTROL", "control");
        v = boot();
        put("vm.add-disk", LAYER, 200, NULL);
        send_control("ack dd", "error: ");
        put("vm.remove-device", "{\"id\":\"dd\"}", 204, "");
        assert_true(in_tree("dd"));
        send_control("ack dd", "ok");
        assert_false(in_tree("dd"));
        send_control("nonsense", "error: ");
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

static void test_pending_pause(void **state)
{
        struct vmm v;

        (void)state;
        knob("ACK", "never");
        knob("PENDING_PAUSE", "die");
        v = boot();
        put("vm.add-disk", LAYER, 200, NULL);
        put("vm.remove-device", "{\"id\":\"dd\"}", 204, "");
        put("vm.pause", NULL, 500, NULL);
        assert_int_equal(vmm_wait(v), 1);
}

/* ---- guest -------------------------------------------------------------------------------- */

static void test_guest(void **state)
{
        struct vmm v;
        CC_FREE char *first = NULL;
        CC_FREE char *second = NULL;
        CC_JSON json_t *j = NULL;

        (void)state;
        knob("CONTROL", "control");
        v = boot();
        guest_says("", "cocoon-tiny ready: hostname=web disks=2 net=10.0.0.7 uptime=0.");
        guest_says("echo 'a  b' c; nproc", "a  b c\r\n2\r\n");
        guest_says("nosuch", "sh: nosuch: not found");
        guest_says("cat /proc/cmdline", "cocoon.hostname=web");
        guest_says("echo kept >/root/f; echo gone >/dev/shm/f; sync", "web:~# ");
        guest_says("counter", "1\r\n");
        first = pty_path();
        /* Another PTY, another life; the disk is the same. */
        send_control("reboot", "ok");
        second = pty_path();
        assert_string_not_equal(first, second);
        guest_says("cat /root/f /dev/shm/f", "kept\r\ncat: can't open '/dev/shm/f'");
        guest_says("counter", "1\r\n");
        j = info();
        assert_int_equal(json_integer_value(json_object_get(j, "memory_actual_size")), 50331648);
        send_control("balloon 0", "ok");
        guest_says("reboot", "");
        expect_state("Running");
        put("vm.power-button", NULL, 204, "");
        assert_int_equal(vmm_wait(v), 0);
        assert_false(cc_exists("a.sock"));
}

static void test_power_button(void **state)
{
        struct vmm v;

        (void)state;
        knob("POWER_BUTTON", "ignore");
        v = boot();
        put("vm.power-button", NULL, 204, "");
        usleep(100000);
        expect_state("Running");
        assert_int_equal(vmm_end(v, SIGTERM), 0);

        knob("POWER_BUTTON", "exit-after:1000");
        knob("BOOT_MS", "1500");
        v = boot();
        /* Nobody listens before the guest is up. */
        put("vm.power-button", NULL, 204, "");
        guest_says("", "cocoon-tiny ready");
        usleep(1500000);
        expect_state("Running");
        put("vm.power-button", NULL, 204, "");
        expect_state("Running");
        assert_int_equal(vmm_wait(v), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                double_test(test_releases),      double_test(test_second_remove),
                double_test(test_strict),        double_test(test_faults),
                double_test(test_hang),          double_test(test_journal),
                double_test(test_knob_file),     double_test(test_signal_ignored),
                double_test(test_slow_start),    double_test(test_ack),
                double_test(test_pending_pause), double_test(test_guest),
                double_test(test_power_button),

        };

        no_knobs();
        return doubles_only(tests);
}
