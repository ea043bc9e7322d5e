/*
 * The command line of cloud-hypervisor: what is refused, in which words, with which status, and
 * what a boot that fails leaves. On the double and on the real program.
 */
#include "support.h"

struct outcome {
        int status;
        char *out, *err;
};

static void outcome_free(struct outcome *o)
{
        free(o->out);
        free(o->err);
}

/* Log lines carry times: what the program itself says starts behind them. */
static char *words_of(const char *text)
{
        CC_STRV struct cc_strv lines = { 0 };
        CC_BUF struct cc_buf out = { 0 };
        const char *line;
        bool in_trace = false;

        cc_split(text, "\n", &lines);
        cc_strv_foreach (&lines, i, line) {
                /* A build with debug messages prints a backtrace behind its fatal error. */
                in_trace |= cc_startswith(line, "Stack backtrace");
                in_trace &= !cc_startswith(line, "Error:");
                if (!in_trace && !cc_startswith(line, "cloud-hypervisor: "))
                        cc_buf_printf(&out, "%s%s", out.len ? "|" : "", line);
        }
        return cc_buf_take(&out);
}

static struct outcome run(const struct cc_strv *words)
{
        CC_FREE const char **argv = xcalloc(words->len + 2, sizeof(*argv));
        struct cc_run_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct outcome o;
        const char *word;

        argv[0] = program();
        cc_strv_foreach (words, i, word) {
                argv[i + 1] = word;
        }
        assert_ok(cc_run(argv, NULL, 0, 1 << 20, 10000, &r, &err));
        o = (struct outcome){ .status = r.status,
                              .out = words_of(r.out.data ? r.out.data : ""),
                              .err = words_of(r.err.data ? r.err.data : "") };
        cc_run_result_free(&r);
        return o;
}

static void must_say(const char *args, int status, const char *words)
{
        CC_STRV struct cc_strv argv = { 0 };
        CC_CLEANUP(outcome_free) struct outcome o = { 0 };
        char cwd[512];

        cc_split(args, " ", &argv);
        /* cc_run() starts its programs in "/". */
        assert_non_null(getcwd(cwd, sizeof(cwd)));
        o = run(&argv);
        if (o.status != status || !cc_streq(o.err, words))
                fail_msg("%s: %d %s\nwanted %d %s", args, o.status, o.err, status, words);
}

/* Below "Error: …chain of errors:", numbered. */
static void must_fail(const char *args, const char *chain)
{
        CC_STRV struct cc_strv causes = { 0 };
        CC_BUF struct cc_buf want = { 0 };
        const char *cause;

        cc_split(chain, "|", &causes);
        cc_buf_str(&want, "Error: Cloud Hypervisor exited with the following chain of errors:");
        cc_strv_foreach (&causes, i, cause) {
                cc_buf_printf(&want, "|%zu: %s", i, cause);
        }
        must_say(args, 1, want.data);
}

static void test_version(void **state)
{
        CC_STRV struct cc_strv argv = { 0 };
        CC_CLEANUP(outcome_free) struct outcome o = { 0 };

        (void)state;
        cc_strv_add(&argv, "--version");
        o = run(&argv);
        assert_int_equal(o.status, 0);
        assert_true(cc_startswith(o.out, "cloud-hypervisor v5"));
        assert_non_null(strstr(o.out, "|Migration Protocol Versions: 0"));
}

static void test_usage(void **state)
{
        static const char end[] =
                "|Usage: cloud-hypervisor [OPTIONS]|For more information, try '--help'.";
        static const struct {
                const char *args, *words;
                bool usage;
        } rows[] = {
                { "--foo", "error: unexpected argument '--foo' found", true },
                { "stray", "error: unexpected argument 'stray' found", true },
                { "--kernel k --watchdog x", "error: unexpected argument 'x' found", true },
                { "--cpus boot=1 --cpus boot=2 --kernel k",
                  "error: the argument '--cpus <cpus>' cannot be used multiple times", true },
                { "--kernel k --watchdog --watchdog",
                  "error: the argument '--watchdog' cannot be used multiple times", true },
                { "--cpus",
                  "error: a value is required for '--cpus <cpus>' but none was supplied|For more "
                  "information, try '--help'.",
                  false },
                { "--disk path=x",
                  "error: the following required arguments were not provided:|<--firmware "
                  "<firmware>|--kernel <kernel>>|Usage: cloud-hypervisor --disk <disk>... "
                  "<--firmware <firmware>|--kernel <kernel>>|For more information, try '--help'.",
                  false },
                { "--seccomp maybe --kernel k",
                  "error: invalid value 'maybe' for '--seccomp <seccomp>'|[possible values: true, "
                  "false, log, errno]|For more information, try '--help'.",
                  false },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *words = xasprintf("%s%s", rows[i].words, rows[i].usage ? end : "");

                must_say(rows[i].args, 2, words);
        }
}

/* Behind "--kernel k --console off ". */
static void test_configuration(void **state)
{
        static const struct {
                const char *args, *chain;
        } rows[] = {
                { "--cpus boot=1,foo=2", "Error parsing --cpus|unknown option: foo" },
                { "--cpus boot=x", "Error parsing --cpus|unable to convert x for boot" },
                { "--cpus boot", "Error parsing --cpus|invalid syntax: boot" },
                { "--cpus boot=1,max=99999999999",
                  "Error parsing --cpus|unable to convert 99999999999 for max" },
                { "--cpus boot=[1", "Error parsing --cpus|invalid syntax: boot=[1" },
                { "--cpus boot=\"1", "Error parsing --cpus|invalid syntax: boot=\"1" },
                { "--cpus boot=1,kvm_hyperv=maybe",
                  "Error parsing --cpus|unable to convert maybe for kvm_hyperv" },
                { "--cpus boot=2,max=1",
                  "Error validating configuration|Max CPUs (1) lower than boot CPUs (2)" },
                { "--memory size=x", "Error parsing --memory|unable to convert x for size" },
                { "--memory size=128M,shared=on,mergeable=on",
                  "Error validating configuration|Invalid to set both 'mergeable' and 'shared' for "
                  "memory" },
                { "--memory size=128M,hugepage_size=3M",
                  "Error validating configuration|Huge page size specified but huge pages not "
                  "enabled" },
                { "--disk path=cow.raw,image_type=bogus",
                  "Error parsing --disk|unable to convert bogus for image_type" },
                { "--disk path=cow.raw,bogus=1", "Error parsing --disk|unknown option: bogus" },
                { "--disk path=cow.raw,image_type=raw,num_queues=2",
                  "Error validating configuration|Queue count (2) must not exceed boot vCPUs (1)" },
                { "--disk path=cow.raw,image_type=raw,queue_size=3",
                  "Error validating configuration|Queue size must be a power of 2 no greater than "
                  "32768: 3" },
                { "--disk path=cow.raw,image_type=raw,queue_size=2",
                  "Error validating configuration|Block queue size must be greater than 2: 2" },
                { "--disk path=cow.raw,image_type=raw,serial=123456789012345678901",
                  "Error validating configuration|Block device serial length (21) exceeds maximum "
                  "allowed length (20)" },
                { "--disk path=cow.raw,image_type=raw,id=__x",
                  "Error validating configuration|Identifier __x is not invalid" },
                { "--disk path=cow.raw,id=a path=layer.raw,id=a",
                  "Error validating configuration|Identifier a is not unique" },
                { "--disk path=cow.raw,image_type=raw,queue_affinity=[0@[0],1@[1]",
                  "Error parsing --disk|invalid syntax: "
                  "path=cow.raw,image_type=raw,queue_affinity=[0@[0],1@[1]" },
                { "--disk path=cow.raw,image_type=raw,queue_affinity=0@0",
                  "Error parsing --disk|unable to convert 0@0 for queue_affinity" },
                { "--net mac=zz", "Error parsing --net|unable to convert zz for mac" },
                { "--net num_queues=1",
                  "Error validating configuration|Number of queues (1) to virtio_net should be "
                  "higher than 2" },
                { "--net num_queues=4",
                  "Error validating configuration|Queue count (4) must not exceed boot vCPUs (1)" },
                { "--net tap=x,offload_csum=off",
                  "Error validating configuration|\"offload_tso\" and \"offload_ufo\" depend on "
                  "\"offload_csum\"" },
                { "--serial socket=",
                  "Error validating configuration|Path missing when using socket console mode" },
                { "--serial bogus", "Error parsing --serial|unknown option: bogus" },
                { "--vsock cid=2,socket=v",
                  "Error validating configuration|2 is a special VSOCK CID" },
                { "--vsock cid=3", "Error parsing --vsock: socket missing" },
                { "--vsock socket=v", "Error parsing --vsock: cid missing" },
                { "--balloon size=512M",
                  "Error validating configuration|Balloon size (536870912) greater than RAM "
                  "(536870912)" },
                { "--balloon foo=1", "Error parsing --balloon|unknown option: foo" },
                { "--fs tag=a,socket=b",
                  "Error validating configuration|Using vhost-user requires using shared memory or "
                  "huge pages" },
                { "--firmware k",
                  "Error validating configuration|Payload configuration is not bootable|Specifying "
                  "a kernel is not supported when a firmware is provided" },
        };
        char cwd[512];

        (void)state;
        assert_non_null(getcwd(cwd, sizeof(cwd)));
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *args = xasprintf("--kernel %s/k --console off %s", cwd, rows[i].args);
                CC_FREE char *chain = xasprintf("Error parsing config|%s", rows[i].chain);

                must_fail(args, chain);
        }
}

/* What is found out when the VM is made; %s is the scratch directory. */
static void test_boot(void **state)
{
        static const struct {
                const char *args, *chain;
        } rows[] = {
                { "--kernel %1$s/nope",
                  "Cannot open kernel file|No such file or directory (os error 2)" },
                { "--kernel %1$s/junk",
                  "Cannot load the kernel into memory|Kernel Loader: failed to load bzImage kernel "
                  "image: Kernel Loader: Invalid bzImage|Kernel Loader: Invalid bzImage" },
                { "--kernel %1$s/k --initramfs %1$s/nope",
                  "Cannot open initramfs file|No such file or directory (os error 2)" },
                { "--firmware %1$s/nope",
                  "Error manipulating firmware file|No such file or directory (os error 2)" },
                { "--kernel %1$s/k --disk path=%1$s/nope,image_type=raw",
                  "Error from device manager|Cannot open disk path|I/O error (path=%1$s/nope "
                  "op=open)|No such file or directory (os error 2)" },
                { "--kernel %1$s/k --disk path=%1$s,image_type=raw",
                  "Error from device manager|Cannot open disk path|I/O error (path=%1$s "
                  "op=open)|Is a directory (os error 21)" },
                { "--kernel %1$s/k --disk image_type=raw",
                  "Error from device manager|No disk path was specified when one was expected" },
                { "--kernel %1$s/k --disk path=%1$s/cow.raw,image_type=qcow2",
                  "Error from device manager|Disk image type does not match expected type: "
                  "specified = qcow2, detected = raw" },
                { "--kernel %1$s/k --disk path=%1$s/cow.raw,image_type=raw "
                  "path=%1$s/cow.raw,image_type=raw",
                  "Error locking disk images: Another instance likely holds a lock|Cannot lock "
                  "images of all block devices|Failed to get Write lock for disk image: "
                  "%1$s/cow.raw|The file is already locked" },
                { "--kernel %1$s/k --rng src=%1$s/nope",
                  "Error from device manager|Cannot create virtio-rng device|No such file or "
                  "directory (os error 2)" },
                { "--kernel %1$s/k --vsock cid=3,socket=%1$s/nope/v",
                  "Error from device manager|Cannot create virtio-vsock backend|Error binding to "
                  "the host-side Unix socket|No such file or directory (os error 2)" },
                { "--kernel %1$s/k --net tap=abcdefghijklmnop",
                  "Error from device manager|Cannot create virtio-net device|Failed to open "
                  "taps|Open tap device failed|Interface name too long (max length is 15): "
                  "abcdefghijklmnop" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                CC_FREE char *flags = xasprintf(rows[i].args, (char *)*state);
                CC_FREE char *causes = xasprintf(rows[i].chain, (char *)*state);
#pragma GCC diagnostic pop
                CC_FREE char *args = xasprintf("--memory size=64M --console off %s", flags);
                CC_FREE char *chain =
                        xasprintf("Error booting VM|The VM could not boot|%s", causes);

                must_fail(args, chain);
        }
        must_fail("--kernel k --console socket=x",
                  "Error creating VM|The VM could not be created|Error creating console "
                  "devices|No socket option support for console device");
}

static void test_api_socket(void **state)
{
        CC_FREE char *missing = xasprintf("--api-socket %s/nope/a.sock", (char *)*state);
        CC_FREE char *taken = xasprintf("--api-socket %s/a.sock", (char *)*state);
        CC_FREE char *in_use =
                xasprintf("Failed to start the VMM thread|API socket \"%s/a.sock\" is "
                          "already in use by another running instance",
                          (char *)*state);
        struct vmm v;

        must_fail(missing, "Failed to start the VMM thread|Error creation API server's "
                           "socket|No such file or directory (os error 2)");
        v = vmm_start("");
        must_fail(taken, in_use);
        /* A crash leaves the socket, and its lock file, to the next instance. */
        assert_int_equal(vmm_end(v, SIGKILL), 128 + SIGKILL);
        assert_true(cc_exists("a.sock"));
        v = vmm_start("");
        assert_int_equal(vmm_end(v, SIGINT), 0);
        assert_false(cc_exists("a.sock"));
        assert_true(cc_exists("a.sock.lock"));
}

static void test_restore_argument(void **state)
{
        (void)state;
        must_fail("--restore foo=1",
                  "Error parsing restore|Error parsing --restore|unknown option: foo");
        must_fail("--restore prefault=on",
                  "Error parsing restore|Error parsing --restore: source_url missing");
        must_fail(
                "--restore source_url=file:///nope",
                "Error restoring VM|The VM could not be restored|Cannot restore VM|Failed to send "
                "migratable component snapshot|Destination is not a directory: \"/nope\"");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                vmm_test(test_version), vmm_test(test_usage),      vmm_test(test_configuration),
                vmm_test(test_boot),    vmm_test(test_api_socket), vmm_test(test_restore_argument),
        };

        no_knobs();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
