/*
 * Snapshots of Cloud Hypervisor machines, against the double: what is asked of the VMM and in which
 * order, what a configuration becomes in its new place, and what is refused.
 */
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "ch_fixture.h"

#define MAC_OLD "02:00:00:00:00:01"
#define MAC_NEW "02:00:00:00:00:02"

static bool have_taps;

static bool make_tap(const char *name)
{
        CC_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

        memcpy(ifr.ifr_name, name, strlen(name) + 1);
        return fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0 && ioctl(fd, TUNSETPERSIST, 1) == 0;
}

/* The whole program in a network of its own, with the TAPs of a source and of a clone. */
static int enter_network(void **state)
{
        (void)state;
        have_taps = unshare(CLONE_NEWNET) == 0 && make_tap("tapold") && make_tap("tapnew");
        return 0;
}

/* A snapshot, and the machine that it shall become. */
struct saved {
        struct fixture *f;
        char *dir;
        struct cc_strv disks;
        struct hv_nic nic;
        struct hv_snapshot snap;
        json_t *sidecar;
        /* the new place */
        char *run2, *log2, *disk2_path, *cidata;
        struct hv_disk disks2[2];
        struct hv_nic nic2;
        struct vm_spec spec2;
        struct hv_load how;
};

static void saved_clear(struct saved *s)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;

        if (s->run2 && ch_find(s->run2, s->log2, 0, &proc) == 0)
                hv_abort(&proc);
        cc_strv_free(&s->disks);
        json_decref(s->sidecar);
        free(s->dir);
        free(s->run2);
        free(s->log2);
        free(s->disk2_path);
        free(s->cidata);
}
#define SAVED CC_CLEANUP(saved_clear)

static void launch_with_nic(struct fixture *f, struct saved *s)
{
        if (!have_taps)
                skip_because("cannot make TAP devices here");
        s->f = f;
        s->nic = (struct hv_nic){ .tap = "tapold", .mac = MAC_OLD, .num_queues = 2 };
        f->spec.nics = &s->nic;
        f->spec.n_nics = 1;
        launch(f);
        double_forget(&f->vmm);
}

static void describe_snapshot(struct saved *s)
{
        struct fixture *f = s->f;

        s->snap = (struct hv_snapshot){
                .dir = s->dir,
                .cpu = f->spec.cpu,
                .memory = f->spec.memory,
                .disks = f->spec.disks,
                .n_disks = f->spec.n_disks,
                .n_nics = f->spec.n_nics,
        };
}

/* Save the running machine of `f`; it is paused afterwards. */
static void save(struct fixture *f, struct saved *s)
{
        struct cc_err err = CC_ERR_INIT;

        s->f = f;
        s->dir = cc_path_join(f->dir, "snapshot");
        assert_int_equal(mkdir(s->dir, 0700), 0);
        assert_ok(drv->can_capture(&f->env, f->run, &err));
        assert_ok(drv->pause(&f->env, f->run, &err));
        assert_ok(drv->capture(&f->env, f->run, &f->proc, s->dir, &s->disks, &err));
        s->sidecar = json_object();
        assert_ok(drv->sidecar(&f->env, f->run, s->sidecar, &err));
        describe_snapshot(s);
}

/* Another VM's directories, disk and NIC, with the snapshot's files in its run dir. The source is
 * gone. */
static void new_place(struct saved *s)
{
        struct fixture *f = s->f;
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int from = -1;
        CC_CLOSE int to = -1;

        assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
        vm_proc_clear(&f->proc);
        s->run2 = cc_path_join(f->dir, "run2");
        s->log2 = cc_path_join(f->dir, "log2");
        s->disk2_path = cc_path_join(s->run2, "cow.raw");
        s->cidata = cc_path_join(s->run2, "cidata.img");
        assert_int_equal(rename(s->dir, s->run2), 0);
        assert_int_equal(mkdir(s->log2, 0700), 0);
        from = open(f->disk_path, O_RDONLY | O_CLOEXEC);
        to = open(s->disk2_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_ok(cc_copy_sparse(from, to, &err));
        double_write(s->cidata, "a seed");
        assert_int_equal(truncate(s->cidata, 1 << 20), 0);
        s->disks2[0] = f->disk;
        s->disks2[0].path = s->disk2_path;
        s->disks2[1] = (struct hv_disk){
                .path = s->cidata, .format = "raw", .ro = true, .role = "cidata"
        };
        s->nic2 = (struct hv_nic){ .tap = "tapnew", .mac = MAC_NEW, .num_queues = 2 };
        s->spec2 = f->spec;
        s->spec2.run_dir = s->run2;
        s->spec2.log_dir = s->log2;
        s->spec2.disks = s->disks2;
        if (f->spec.n_nics)
                s->spec2.nics = &s->nic2;
        s->snap.dir = s->run2;
        s->how = (struct hv_load){ .snap = &s->snap, .clone = true };
        double_forget(&f->vmm);
}

static void save_and_move(struct fixture *f, struct saved *s)
{
        save(f, s);
        new_place(s);
}

/* "disks/0/path" of an object; NULL when it is not there. Borrowed. */
static json_t *at(json_t *j, const char *pointer)
{
        CC_STRV struct cc_strv parts = { 0 };
        const char *part;

        cc_split(pointer, "/", &parts);
        cc_strv_foreach (&parts, i, part)
                j = json_is_array(j) ? json_array_get(j, strtoul(part, NULL, 10))
                                     : json_object_get(j, part);
        return j;
}

static json_t *read_config(const char *dir)
{
        struct cc_err err = CC_ERR_INIT;
        json_t *config = NULL;

        assert_ok(ch_read_config(dir, &config, &err));
        return config;
}

static void write_config(const char *dir, const json_t *config)
{
        CC_FREE char *path = cc_path_join(dir, "config.json");
        CC_FREE char *text = cc_json_pretty(config);

        double_write(path, text);
}

static const char *str_at(json_t *config, const char *pointer)
{
        const char *s = json_string_value(at(config, pointer));

        return s ? s : "(nothing)";
}

static void state_is(struct fixture *f, const char *run, enum hv_state want)
{
        struct cc_err err = CC_ERR_INIT;
        enum hv_state hv = HV_BROKEN;

        assert_ok(drv->state(&f->env, run, &hv, &err));
        assert_int_equal(hv, want);
}

/* ---- the ways through ---- */

static void test_save(void **state)
{
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_STRV struct cc_strv macs = { 0 };
        CC_FREE char *config = NULL;
        struct stat st;

        launch_with_nic(f, &s);
        save(f, &s);
        events_are(f, "vm.pause\nvm.snapshot body\n");
        assert_int_equal(s.disks.len, 1);
        assert_string_equal(s.disks.v[0], f->disk_path);
        assert_string_equal(json_string_value(json_object_get(s.sidecar, "ch_version")), "53.0.0");
        config = cc_path_join(s.dir, "config.json");
        assert_int_equal(stat(config, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0640);
        state_is(f, f->run, HV_PAUSED);
        assert_ok(drv->resume(&f->env, f->run, &err));
        state_is(f, f->run, HV_RUNNING);
        assert_ok(drv->preflight(&f->env, &s.snap, s.sidecar, &macs, &err));
        assert_int_equal(macs.len, 1);
        assert_string_equal(macs.v[0], MAC_OLD);
        /* Nothing is overwritten: a second capture needs a directory of its own. */
        assert_ok(drv->pause(&f->env, f->run, &err));
        assert_true(drv->capture(&f->env, f->run, &f->proc, s.dir, &s.disks, &err) < 0);
}

static void test_clone(void **state)
{
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CH_INFO struct ch_info info = { .state = CH_UNKNOWN };
        CC_JSON json_t *config = NULL;
        CC_FREE char *memory = NULL;
        CC_FREE char *tap = NULL;
        struct cc_err err = CC_ERR_INIT;

        launch_with_nic(f, &s);
        save_and_move(f, &s);
        s.spec2.cmdline = "console=hvc0 cocoon.hostname=clone";
        s.spec2.disk_queue_size = 128;
        assert_ok(drv->load(&f->env, &s.spec2, &s.how, &proc, &err));
        state_is(f, s.run2, HV_PAUSED);
        config = read_config(s.run2);
        tap = xasprintf("rm%.8s-0", f->id);
        assert_string_equal(str_at(config, "disks/0/path"), s.disk2_path);
        assert_int_equal(json_integer_value(at(config, "disks/0/queue_size")), 128);
        assert_string_equal(str_at(config, "payload/cmdline"), s.spec2.cmdline);
        assert_string_equal(str_at(config, "console/mode"), "Pty");
        assert_null(at(config, "console/file"));
        assert_int_equal(strcasecmp(str_at(config, "net/0/tap"), tap), 0);
        assert_string_equal(str_at(config, "net/0/mac"), MAC_OLD);
        /* The copy of the guest's memory has done its work. */
        memory = cc_path_join(s.run2, "memory-ranges");
        assert_false(cc_exists(memory));

        assert_ok(drv->rewire(&f->env, &s.spec2, &s.how, &proc, &err));
        assert_ok(drv->resume(&f->env, s.run2, &err));
        events_are(f, "vm.restore body\nvm.remove-device body\nvm.add-net body\nvm.resume\n");
        assert_ok(ch_get_info(s.run2, 5000, &info, &err));
        assert_int_equal(info.state, CH_RUNNING);
        assert_int_equal(json_array_size(at(info.body, "config/net")), 1);
        assert_string_equal(str_at(info.body, "config/net/0/mac"), MAC_NEW);
        assert_string_equal(str_at(info.body, "config/net/0/tap"), "tapnew");
        assert_string_equal(str_at(info.body, "config/net/0/id"), "cocoon-net-020000000002");
        assert_ok(drv->stop(&f->env, s.run2, &proc, 0, &err));
}

/* The same VM in the same place: its NIC stays, and nothing is swapped. */
static void test_restore(void **state)
{
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_JSON json_t *config = NULL;

        launch_with_nic(f, &s);
        save_and_move(f, &s);
        s.nic2 = s.nic;
        s.how.clone = false;
        assert_ok(drv->load(&f->env, &s.spec2, &s.how, &proc, &err));
        assert_ok(drv->rewire(&f->env, &s.spec2, &s.how, &proc, &err));
        assert_ok(drv->resume(&f->env, s.run2, &err));
        events_are(f, "vm.restore body\nvm.resume\n");
        config = read_config(s.run2);
        assert_string_equal(str_at(config, "net/0/tap"), "tapold");
        state_is(f, s.run2, HV_RUNNING);
        assert_ok(drv->stop(&f->env, s.run2, &proc, 0, &err));
}

/* A machine without NICs gets one; a disk that the snapshot has not is plugged in. */
static void test_clone_with_more(void **state)
{
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;

        if (!have_taps)
                skip_because("cannot make TAP devices here");
        launch(f);
        save_and_move(f, &s);
        s.spec2.nics = &s.nic2;
        s.spec2.n_nics = 1;
        s.spec2.n_disks = 2;
        assert_ok(drv->load(&f->env, &s.spec2, &s.how, &proc, &err));
        assert_ok(drv->rewire(&f->env, &s.spec2, &s.how, &proc, &err));
        assert_ok(drv->resume(&f->env, s.run2, &err));
        events_are(f, "vm.restore body\nvm.add-net body\nvm.add-disk body\nvm.resume\n");
        assert_ok(drv->stop(&f->env, s.run2, &proc, 0, &err));
}

/* ---- calls are sent once (acceptance 11) ---- */

static void test_lost_replies(void **state)
{
        static const struct {
                const char *endpoint, *events;
        } rows[] = {
                { "vm.snapshot", "vm.pause\nvm.snapshot body\n" },
                { "vm.restore", "vm.restore body\n" },
                { "vm.remove-device", "vm.restore body\nvm.remove-device body\n" },
                { "vm.add-net", "vm.restore body\nvm.remove-device body\nvm.add-net body\n" },
                { "vm.add-disk",
                  "vm.restore body\nvm.remove-device body\nvm.add-net body\nvm.add-disk body\n" },
        };
        static const char *const faults[] = { "drop-before", "drop-after" };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows) * 2; i++) {
                void *own = NULL;
                struct fixture *f;
                struct cc_err err = CC_ERR_INIT;
                CC_FREE char *fault = xasprintf("{\"endpoint\":\"%s\",\"do\":\"%s\"}",
                                                rows[i / 2].endpoint, faults[i % 2]);
                int r;

                (void)fixture(state);
                assert_int_equal(setup(&own), 0);
                f = own;
                {
                        SAVED struct saved s = { 0 };
                        VM_PROC struct vm_proc proc = VM_PROC_INIT;

                        launch_with_nic(f, &s);
                        if (i / 2 == 0) {
                                s.dir = cc_path_join(f->dir, "snapshot");
                                assert_int_equal(mkdir(s.dir, 0700), 0);
                                double_fault(&f->vmm, fault);
                                assert_ok(drv->pause(&f->env, f->run, &err));
                                r = drv->capture(&f->env, f->run, &f->proc, s.dir, &s.disks, &err);
                        } else {
                                save_and_move(f, &s);
                                s.spec2.n_disks = 2;
                                double_fault(&f->vmm, fault);
                                r = drv->load(&f->env, &s.spec2, &s.how, &proc, &err);
                                if (r == 0)
                                        r = drv->rewire(&f->env, &s.spec2, &s.how, &proc, &err);
                        }
                        if (r != -CC_IO)
                                fail_msg("%s %s: %d %s", rows[i / 2].endpoint, faults[i % 2], r,
                                         err.msg);
                        events_are(f, rows[i / 2].events);
                        if (proc.pidfd >= 0)
                                hv_abort(&proc);
                }
                assert_int_equal(teardown(&own), 0);
        }
}

/* ---- memory modes ---- */

static void restored_with(void *ctx, const json_t *e)
{
        const char *endpoint = json_string_value(json_object_get(e, "endpoint"));
        const char *mode;

        if (!cc_streq(json_string_value(json_object_get(e, "event")), "request") ||
            !cc_streq(endpoint, "vm.restore"))
                return;
        mode = json_string_value(
                json_object_get(json_object_get(e, "body"), "memory_restore_mode"));
        cc_buf_printf(ctx, "%s\n", mode ? mode : "-");
}

static void restore_in(void **state, const char *profile, enum hv_restore_mode mode,
                       const char *want, bool keeps_memory)
{
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_BUF struct cc_buf got = { 0 };
        CC_FREE char *memory = NULL;
        struct cc_err err = CC_ERR_INIT;

        double_set(&f->vmm, "PROFILE", profile);
        launch(f);
        save_and_move(f, &s);
        s.how.mode = mode;
        assert_ok(drv->load(&f->env, &s.spec2, &s.how, &proc, &err));
        double_journal(&f->vmm, restored_with, &got);
        assert_string_equal(got.data, want);
        memory = cc_path_join(s.run2, "memory-ranges");
        assert_int_equal(cc_exists(memory), keeps_memory);
        assert_ok(drv->resume(&f->env, s.run2, &err));
        assert_ok(drv->stop(&f->env, s.run2, &proc, 0, &err));
}

static void test_mode_auto(void **state)
{
        restore_in(state, "53", HV_RESTORE_AUTO, "-\n", false);
}

static void test_mode_ondemand(void **state)
{
        restore_in(state, "53", HV_RESTORE_ONDEMAND, "OnDemand\n", true);
}

/* Refused while the request is read, so nothing has happened: asked again without. */
static void test_mode_unknown(void **state)
{
        restore_in(state, "53", HV_RESTORE_MMAP, "CopyOnWrite\n-\n", false);
}

/* It would ignore the member, and copy. */
static void test_mode_old(void **state)
{
        restore_in(state, "51", HV_RESTORE_ONDEMAND, "-\n", false);
}

/* ---- refusals ---- */

static void info_is(struct fixture *f, const char *config, const char *tree)
{
        CC_FREE char *fault = xasprintf("{\"endpoint\":\"vm.info\",\"do\":\"reply\",\"status\":200,"
                                        "\"body\":{\"state\":\"Running\",\"config\":{%s},"
                                        "\"device_tree\":{%s}}}",
                                        config, tree);

        double_fault(&f->vmm, fault);
}

static void test_can_capture(void **state)
{
        struct fixture *f = fixture(state);
        HV_ATTACHMENTS struct hv_attachments attached = { 0 };
        struct cc_err err = CC_ERR_INIT;

        launch(f);
        info_is(f,
                "\"fs\":[{\"id\":\"cocoon-fs-x\",\"tag\":\"x\"}],\"devices\":[{\"id\":\"gpu\"}],"
                "\"disks\":[{\"id\":\"_disk0\"},{\"id\":\"cocoon-disk-d\"}]",
                "");
        assert_ok(drv->attachments(&f->env, f->run, &attached, &err));
        assert_int_equal(attached.n, 3);
        assert_string_equal(attached.v[0].id, "cocoon-fs-x");
        assert_string_equal(attached.v[1].id, "gpu");
        assert_string_equal(attached.v[2].id, "cocoon-disk-d");
        info_is(f, "\"net\":[{\"id\":\"a\"}],\"vsock\":{\"id\":\"_vsock1\"},\"fs\":null",
                "\"a\":{},\"_vsock1\":{},\"__rng\":{},\"_virtio-pci-a\":{},\"_virtio-pci-b\":{}");
        assert_ok(drv->can_capture(&f->env, f->run, &err));
        info_is(f, "\"net\":[{\"id\":\"a\"}]", "\"a\":{},\"b\":{},\"_virtio-pci-b\":{}");
        assert_int_equal(drv->can_capture(&f->env, f->run, &err), -CC_STATE);
        assert_non_null(strstr(err.msg, "has not let go of removed device b"));
}

/* The guest keeps a removed NIC: no capture until it lets go. */
static void test_pending_eject(void **state)
{
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_JSON json_t *body = json_pack("{s:s}", "id", "cocoon-net-020000000001");

        double_set(&f->vmm, "ACK", "never");
        launch_with_nic(f, &s);
        assert_ok(drv->can_capture(&f->env, f->run, &err));
        assert_ok(ch_put(f->run, "vm.remove-device", body, 5000, NULL, &err));
        assert_int_equal(drv->can_capture(&f->env, f->run, &err), -CC_STATE);
        assert_non_null(strstr(err.msg, "cocoon-net-020000000001"));
}

static int judge(const struct saved *s, struct cc_err *err)
{
        return drv->preflight(&s->f->env, &s->snap, s->sidecar, NULL, err);
}

static void test_tampered(void **state)
{
        static const struct {
                const char *parent, *key, *value, *says;
        } rows[] = {
                { "cpus", "boot_vcpus", "2", "cpus.boot_vcpus is not 1" },
                { "cpus", "boot_vcpus", "\"1\"", "cpus.boot_vcpus is not 1" },
                { "memory", "size", "1", "memory.size is not" },
                { "memory", "shared", "true", "memory.shared" },
                { "memory", "zones", "[{\"file\":\"/etc/shadow\"}]", "memory has \"zones\"" },
                { "", "disks", "[]", "0 disks" },
                { "", "disks", "null", "0 disks" },
                { "disks/0", "path", "\"/etc/shadow\"", "disk 0 is not that of the sidecar" },
                { "disks/0", "readonly", "true", "disk 0 is not that of the sidecar" },
                { "disks/0", "serial", "\"other\"", "serial \"other\"" },
                { "disks/0", "image_type", "\"Qcow2\"", "image type Qcow2" },
                { "disks/0", "image_type", "null", "image type (none)" },
                { "disks/0", "backing_files", "true", "image type Raw" },
                { "disks/0", "num_queues", "1000000000", "number of queues" },
                { "disks/0", "num_queues", "-1", "number of queues" },
                { "disks/0", "vhost_socket", "\"/x\"", "a disk has \"vhost_socket\"" },
                { "", "net", "[]", "0 NICs" },
                { "net/0", "mac", "\"zz\"", "NIC 0 has no MAC" },
                { "net/0", "mac", "\"02:00:00:00:00:0\"", "NIC 0 has no MAC" },
                { "net/0", "fds", "[3]", "a NIC has \"fds\"" },
                { "", "fs", "[{\"tag\":\"x\"}]", "the machine has \"fs\"" },
                { "", "devices", "[{}]", "the machine has \"devices\"" },
                { "", "tpm", "{\"socket\":\"/x\"}", "the machine has \"tpm\"" },
                { "rng", "src", "\"/etc/shadow\"", "rng.src" },
                { "", "debug_console", "{\"mode\":\"File\",\"file\":\"/etc/passwd\"}",
                  "debug_console.mode is File" },
                { "payload", "igvm", "\"/x\"", "payload has \"igvm\"" },
        };
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_JSON json_t *good = NULL;

        launch_with_nic(f, &s);
        save(f, &s);
        good = read_config(s.dir);
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_JSON json_t *config = json_deep_copy(good);
                json_t *parent = at(config, rows[i].parent);
                json_t *value = json_loads(rows[i].value, JSON_DECODE_ANY, NULL);
                struct cc_err why = CC_ERR_INIT;

                assert_true(json_is_object(parent));
                assert_int_equal(json_object_set_new(parent, rows[i].key, value), 0);
                write_config(s.dir, config);
                if (judge(&s, &why) != -CC_INVALID || !strstr(why.msg, rows[i].says))
                        fail_msg("%s/%s = %s: \"%s\"", rows[i].parent, rows[i].key, rows[i].value,
                                 why.msg);
        }
        write_config(s.dir, good);
        assert_ok(judge(&s, &err));
}

static void test_incomplete(void **state)
{
        static const char *const names[] = { "config.json", "state.json", "memory-ranges" };
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        struct cc_err err = CC_ERR_INIT;

        launch(f);
        save(f, &s);
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                CC_FREE char *path = cc_path_join(s.dir, names[i]);
                CC_FREE char *away = cc_path_join(f->dir, "away");
                CC_FREE char *text = NULL;
                struct stat st;

                assert_int_equal(rename(path, away), 0);
                assert_int_equal(judge(&s, &err), -CC_CORRUPT);
                /* Not through a link either. */
                assert_int_equal(symlink(away, path), 0);
                assert_true(judge(&s, &err) < 0);
                assert_int_equal(unlink(path), 0);
                assert_int_equal(rename(away, path), 0);
                assert_ok(judge(&s, &err));
                /* Cut off, and whole again. */
                assert_int_equal(stat(path, &st), 0);
                if (i < 2)
                        assert_ok(cc_read_file(path, 1 << 24, &text, NULL, &err));
                assert_int_equal(truncate(path, st.st_size - 2), 0);
                assert_true(judge(&s, &err) < 0);
                print_message("%s\n", err.msg);
                if (text)
                        double_write(path, text);
                else
                        assert_int_equal(truncate(path, st.st_size), 0);
                assert_ok(judge(&s, &err));
        }
}

/* A restore that the VMM refuses leaves no VMM, and the staged files for the next try. */
static void test_restore_refused(void **state)
{
        struct fixture *f = fixture(state);
        SAVED struct saved s = { 0 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *memory = NULL;

        launch(f);
        save_and_move(f, &s);
        double_fault(&f->vmm, "{\"endpoint\":\"vm.restore\",\"do\":\"reply\",\"status\":500,"
                              "\"body\":[\"Error from API\",\"not that one\"]}");
        assert_int_equal(drv->load(&f->env, &s.spec2, &s.how, &proc, &err), -CC_STATE);
        assert_non_null(strstr(err.msg, "vm.restore: Error from API: not that one"));
        assert_int_equal(proc.pidfd, -1);
        assert_int_equal(ch_find(s.run2, s.log2, 0, &found), -CC_NOT_FOUND);
        memory = cc_path_join(s.run2, "memory-ranges");
        assert_true(cc_exists(memory));
        for (size_t i = 0; drv->runtime_files[i]; i++) {
                CC_FREE char *path = cc_path_join(s.run2, drv->runtime_files[i]);

                assert_false(cc_exists(path));
        }
        /* And the next try works. */
        double_fault(&f->vmm, "");
        assert_ok(drv->load(&f->env, &s.spec2, &s.how, &proc, &err));
        assert_ok(drv->stop(&f->env, s.run2, &proc, 0, &err));
}

static void test_classify(void **state)
{
        (void)state;
        assert_int_equal(drv->classify("config.json"), HV_FILE_STATE);
        assert_int_equal(drv->classify("state.json"), HV_FILE_STATE);
        assert_int_equal(drv->classify("memory-ranges"), HV_FILE_MEMORY);
        assert_int_equal(drv->classify("memory-range-0"), HV_FILE_MEMORY);
        assert_int_equal(drv->classify("cow.raw"), HV_FILE_FOREIGN);
        assert_int_equal(drv->classify("cocoon.json"), HV_FILE_FOREIGN);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test(test_save),
                test(test_clone),
                test(test_restore),
                test(test_clone_with_more),
                test(test_lost_replies),
                test(test_mode_auto),
                test(test_mode_ondemand),
                test(test_mode_unknown),
                test(test_mode_old),
                test(test_can_capture),
                test(test_pending_eject),
                test(test_tampered),
                test(test_incomplete),
                test(test_restore_refused),
                cmocka_unit_test(test_classify),
        };

        return cmocka_run_group_tests(tests, enter_network, NULL);
}
