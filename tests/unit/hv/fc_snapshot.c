/*
 * Snapshots of the Firecracker driver on its double: what is asked and how often, clones whose
 * disks are redirected and anchored again, what a tampered or foreign snapshot meets.
 */
#include "fc_fixture.h"

#include "hv/fc/fc.h"

struct clone {
        char id[CC_ID_LEN + 1];
        char *run, *log, *disk;
        struct hv_disk disks[2], old[2];
        struct vm_spec spec;
        struct hv_snapshot snap;
        struct hv_load how;
};

static char *snap_dir(const struct fixture *f)
{
        return cc_path_join(f->dir, "snap");
}

static json_t *sidecar_of(struct fixture *f)
{
        CC_FREE char *kernel = xasprintf("%s/vmlinux", f->dir);
        json_t *j = json_pack("{s:[], s:{s:s, s:s}}", "storage_configs", "boot_config",
                              "kernel_path", kernel, "cmdline", "secret");
        struct cc_err err = CC_ERR_INIT;

        assert_ok(drv->sidecar(&f->env, f->run, j, &err));
        return j;
}

/* Save the running machine into dir/snap, as core does it; it goes on. */
static void save(struct fixture *f, struct vm_proc *proc)
{
        CC_FREE char *dir = snap_dir(f);
        CC_FREE char *path = cc_path_join(dir, "cocoon.json");
        CC_STRV struct cc_strv disks = { 0 };
        CC_JSON json_t *sidecar = NULL;
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct stat st;

        assert_int_equal(mkdir(dir, 0750), 0);
        assert_ok(drv->pause(&f->env, f->run, &err));
        assert_ok(drv->capture(&f->env, f->run, proc, dir, &disks, &err));
        sidecar = sidecar_of(f);
        assert_ok(drv->resume(&f->env, f->run, &err));
        assert_int_equal(disks.len, 2);
        assert_string_equal(disks.v[0], f->disks[0].path);
        assert_string_equal(disks.v[1], f->disks[1].path);
        text = cc_json_pretty(sidecar);
        assert_ok(cc_publish(path, text, strlen(text), 0640, &err));
        for (int i = 0; i < 2; i++) {
                CC_FREE char *file = cc_path_join(dir, i ? "mem" : "vmstate");

                assert_int_equal(stat(file, &st), 0);
                assert_int_equal(st.st_mode & 0777, 0640);
                assert_int_equal(drv->classify(cc_basename(file)),
                                 i ? HV_FILE_MEMORY : HV_FILE_STATE);
        }
        assert_int_equal(drv->classify("cow.raw"), HV_FILE_FOREIGN);
}

static void stage_one(const char *from, const char *to, const char *name)
{
        CC_FREE char *a = cc_path_join(from, name);
        CC_FREE char *b = cc_path_join(to, name);
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        size_t n;

        if (strcmp(name, "mem") == 0) {
                assert_int_equal(link(a, b), 0);
                return;
        }
        assert_ok(cc_read_file(a, 64 << 20, &text, &n, &err));
        assert_ok(cc_publish(b, text, n, 0640, &err));
}

/* The machine that the snapshot shall become: a new VM beside the fixture's. */
static void make_clone(struct fixture *f, struct clone *c)
{
        CC_FREE char *dir = snap_dir(f);

        *c = (struct clone){ .snap = { .cpu = 1, .memory = 256 * MIB, .n_disks = 2 } };
        cc_id_new(c->id);
        c->run = xasprintf("%s/%s", f->dir, c->id);
        c->log = xasprintf("%s/log-%s", f->dir, c->id);
        assert_int_equal(mkdir(c->run, 0750), 0);
        assert_int_equal(mkdir(c->log, 0750), 0);
        c->disk = cc_path_join(c->run, "cow.raw");
        stage_one(dir, c->run, "vmstate");
        stage_one(dir, c->run, "mem");
        stage_one(dir, c->run, "cocoon.json");
        {
                CC_CLOSE int fd = open(c->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

                assert_int_equal(ftruncate(fd, 16 * MIB), 0);
        }
        memcpy(c->old, f->disks, sizeof(c->old));
        memcpy(c->disks, f->disks, sizeof(c->disks));
        c->disks[1].path = c->disk;
        c->spec = f->spec;
        c->spec.id = c->id;
        c->spec.run_dir = c->run;
        c->spec.log_dir = c->log;
        c->spec.disks = c->disks;
        c->snap.dir = c->run;
        c->snap.disks = c->old;
        c->how = (struct hv_load){ .snap = &c->snap, .clone = true, .vms_dir = f->dir };
}

static void clone_clear(struct clone *c)
{
        free(c->run);
        free(c->log);
        free(c->disk);
}

/* A source with its own writable disk in its run dir, saved. */
static void saved_source(struct fixture *f, struct vm_proc *proc)
{
        CC_FREE char *cow = cc_path_join(f->run, "cow.raw");

        assert_int_equal(rename(f->disk_path, cow), 0);
        free(f->disk_path);
        f->disk_path = TAKE_PTR(cow);
        f->disks[1].path = f->disk_path;
        launch(f, proc);
        save(f, proc);
}

static int load(struct fixture *f, struct clone *c, struct vm_proc *proc, struct cc_err *err)
{
        return drv->load(&f->env, &c->spec, &c->how, proc, err);
}

static void go_on(struct fixture *f, struct clone *c, struct vm_proc *proc)
{
        struct cc_err err = CC_ERR_INIT;
        enum hv_state hv;

        assert_ok(drv->state(&f->env, c->run, &hv, &err));
        assert_int_equal(hv, HV_PAUSED);
        assert_ok(drv->rewire(&f->env, &c->spec, &c->how, proc, &err));
        assert_ok(drv->resume(&f->env, c->run, &err));
        assert_ok(drv->state(&f->env, c->run, &hv, &err));
        assert_int_equal(hv, HV_RUNNING);
}

static void end(struct fixture *f, struct clone *c, struct vm_proc *proc)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(drv->stop(&f->env, c->run, proc, 0, &err));
        vm_proc_clear(proc);
}

/* Load fails with `class` and `text`; nothing runs, staged files are there. */
static void load_fails(struct fixture *f, struct clone *c, int class, const char *text)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        CC_FREE char *mem = cc_path_join(c->run, "mem");
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(load(f, c, &proc, &err), -class);
        if (!cc_startswith(err.msg, "load firecracker: ") || !strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        assert_int_equal(drv->find(c->run, c->log, 0, &found), -CC_NOT_FOUND);
        for (size_t i = 0; drv->runtime_files[i]; i++) {
                CC_FREE char *path = cc_path_join(c->run, drv->runtime_files[i]);

                if (cc_exists(path))
                        fail_msg("%s is left behind", path);
        }
        assert_true(cc_exists(mem));
}

static void a_clone_beside_its_source(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc source = VM_PROC_INIT;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_CLEANUP(clone_clear) struct clone c;
        CC_STRV struct cc_strv disks = { 0 };
        CC_FREE char *again = cc_path_join(f->dir, "again");
        struct cc_err err = CC_ERR_INIT;

        saved_source(f, &source);
        make_clone(f, &c);
        double_forget(&f->vmm);
        assert_ok(load(f, &c, &proc, &err));
        assert_true(proc.console >= 0);
        go_on(f, &c, &proc);
        assert_int_equal(requests(f, "PUT /snapshot/load"), 1);
        assert_int_equal(requests(f, "PATCH /drives"), 1);
        assert_int_equal(write(proc.console, "hostname\r", 9), 9);
        hear(proc.console, "web");
        /* Anchored: what it saves names its own disk. */
        assert_int_equal(mkdir(again, 0750), 0);
        assert_ok(drv->pause(&f->env, c.run, &err));
        assert_ok(drv->capture(&f->env, c.run, &proc, again, &disks, &err));
        assert_string_equal(disks.v[1], c.disk);
        assert_ok(drv->resume(&f->env, c.run, &err));
        no_violations(f);
        end(f, &c, &proc);
        stop_now(f, &source);
}

/* The source is gone: its directory is there during the load and not a moment longer. */
static void a_clone_of_what_is_gone(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc source = VM_PROC_INIT;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_CLEANUP(clone_clear) struct clone c;
        struct cc_err err = CC_ERR_INIT;

        saved_source(f, &source);
        stop_now(f, &source);
        assert_ok(cc_rm_rf(f->run, &err));
        make_clone(f, &c);
        assert_ok(load(f, &c, &proc, &err));
        assert_false(cc_exists(f->run));
        go_on(f, &c, &proc);
        end(f, &c, &proc);
        no_violations(f);
}

/* Zeroes in runs become holes, every other byte stays; a tail that is no page, too. */
static void zeroes_become_holes(void **state)
{
        struct fixture *f = *state;
        enum { PAGE = 4096, PAGES = 2048 };
        CC_FREE char *path = cc_path_join(f->dir, "sparse");
        CC_FREE char *want = xcalloc(PAGES + 1, PAGE);
        CC_FREE char *got = NULL;
        size_t size = PAGES * PAGE + 100;
        struct cc_err err = CC_ERR_INIT;
        struct stat st;
        size_t n;

        want[0] = 'a';
        want[100 * PAGE - 1] = 'b';   /* the last byte of a page */
        want[110 * PAGE] = 'c';       /* too little between the two */
        want[1000 * PAGE + 17] = 'd'; /* in the middle of nothing */
        want[size - 1] = 'e';
        assert_ok(cc_publish(path, want, size, 0600, &err));
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_blocks * 512 >= PAGES * PAGE);
        fc_make_sparse(path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, size);
        assert_true(st.st_blocks * 512 < 64 * PAGE);
        assert_ok(cc_read_file(path, 64 << 20, &got, &n, &err));
        assert_memory_equal(got, want, size);
        fc_make_sparse("/nonexistent/mem"); /* no error of anybody's */
}

static void restored_in_place(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc source = VM_PROC_INIT;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *dir = snap_dir(f);
        struct hv_snapshot snap = {
                .dir = f->run, .cpu = 1, .memory = 256 * MIB, .disks = f->disks, .n_disks = 2
        };
        struct hv_load how = { .snap = &snap, .vms_dir = f->dir };
        struct cc_err err = CC_ERR_INIT;

        saved_source(f, &source);
        assert_ok(drv->stop(&f->env, f->run, &source, 0, &err));
        stage_one(dir, f->run, "vmstate");
        stage_one(dir, f->run, "mem");
        double_forget(&f->vmm);
        assert_ok(drv->load(&f->env, &f->spec, &how, &proc, &err));
        assert_ok(drv->rewire(&f->env, &f->spec, &how, &proc, &err));
        assert_ok(drv->resume(&f->env, f->run, &err));
        assert_int_equal(requests(f, "PATCH /drives"), 0);
        no_violations(f);
        stop_now(f, &proc);
}

static void replies_lost(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc source = VM_PROC_INIT;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_CLEANUP(clone_clear) struct clone c;
        CC_STRV struct cc_strv disks = { 0 };
        CC_FREE char *dir = cc_path_join(f->dir, "lost");
        struct cc_err err = CC_ERR_INIT;

        saved_source(f, &source);
        assert_int_equal(mkdir(dir, 0750), 0);
        fault(f, "PATCH /vm/Paused", "\"do\":\"drop-after\"");
        assert_ok(drv->pause(&f->env, f->run, &err));
        /* Nobody can tell whether the files are complete. */
        fault(f, "PUT /snapshot/create", "\"do\":\"drop-after\"");
        double_forget(&f->vmm);
        assert_int_equal(drv->capture(&f->env, f->run, &source, dir, &disks, &err), -CC_IO);
        assert_int_equal(requests(f, "PUT /snapshot/create"), 1);
        double_fault(&f->vmm, "");
        assert_ok(drv->resume(&f->env, f->run, &err));

        make_clone(f, &c);
        double_forget(&f->vmm);
        fault(f, "PUT /snapshot/load", "\"do\":\"drop-after\"");
        assert_ok(load(f, &c, &proc, &err));
        assert_int_equal(requests(f, "PUT /snapshot/load"), 1);
        fault(f, "PATCH /drives", "\"do\":\"drop-after\"");
        assert_int_equal(drv->rewire(&f->env, &c.spec, &c.how, &proc, &err), -CC_IO);
        assert_int_equal(requests(f, "PATCH /drives"), 1);
        end(f, &c, &proc);

        double_forget(&f->vmm);
        fault(f, "PUT /snapshot/load", "\"do\":\"drop-before\"");
        load_fails(f, &c, CC_IO, "PUT /snapshot/load");
        assert_int_equal(requests(f, "PUT /snapshot/load"), 1);
        fault(f, "PUT /snapshot/load", "\"do\":\"crash\"");
        load_fails(f, &c, CC_UNAVAILABLE, "exited during PUT /snapshot/load");
        double_fault(&f->vmm, "");
        stop_now(f, &source);
}

/* The record and the machine inside vmstate must be one. */
static void tampered(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc source = VM_PROC_INIT;
        CC_CLEANUP(clone_clear) struct clone c;
        CC_FREE char *vmstate = NULL;
        struct cc_err err = CC_ERR_INIT;

        saved_source(f, &source);
        make_clone(f, &c);
        /* The sidecar says another path than vmstate opens: the guest would get that file. */
        c.old[1].path = xasprintf("%s/other/cow.raw", f->dir);
        load_fails(f, &c, CC_CONFLICT, "bind redirect lost during load");
        free((char *)c.old[1].path);
        c.old[1].path = f->disk_path;
        c.old[0].path = c.disks[0].path = c.disk; /* a layer that is none */
        c.disks[1].path = f->disk_path;
        load_fails(f, &c, CC_INVALID, "drive_0");
        c.old[0].path = c.disks[0].path = f->kernel;
        c.disks[1].path = c.disk;
        c.snap.memory = 512 * MIB;
        load_fails(f, &c, CC_INVALID, "256 MiB");
        c.snap.memory = 256 * MIB;
        c.snap.cpu = 2;
        load_fails(f, &c, CC_INVALID, "1 vCPUs");
        c.snap.cpu = 1;
        c.snap.n_nics = 1;
        load_fails(f, &c, CC_INVALID, "has 1 NICs, the VM 0");
        c.snap.n_nics = 0;
        vmstate = cc_path_join(c.run, "vmstate");
        assert_ok(cc_publish(vmstate, "junk", 4, 0640, &err));
        load_fails(f, &c, CC_STATE, "Load snapshot error");
        stop_now(f, &source);
}

static void preflight_fails(struct fixture *f, const struct hv_snapshot *snap,
                            const json_t *sidecar, int class, const char *text)
{
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(drv->preflight(&f->env, snap, sidecar, NULL, &err), -class);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
}

static void judged_before(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc source = VM_PROC_INIT;
        CC_FREE char *dir = snap_dir(f);
        CC_FREE char *mem = cc_path_join(dir, "mem");
        CC_FREE char *vmstate = cc_path_join(dir, "vmstate");
        CC_FREE char *moved = cc_path_join(f->dir, "moved");
        CC_FREE char *cache = cc_path_join(f->dir, "fc-install.json");
        CC_JSON json_t *sidecar = NULL;
        struct hv_disk disks[2];
        struct hv_snapshot snap = {
                .dir = dir, .cpu = 1, .memory = 256 * MIB, .disks = disks, .n_disks = 2
        };
        struct cc_err err = CC_ERR_INIT;

        saved_source(f, &source);
        memcpy(disks, f->disks, sizeof(disks));
        sidecar = sidecar_of(f);
        assert_null(json_object_get(json_object_get(sidecar, "boot_config"), "cmdline"));
        assert_true(json_is_true(json_object_get(sidecar, "vsock")));
        assert_string_equal(json_string_value(json_object_get(sidecar, "snapshot_version")),
                            "v10.0");
        stop_now(f, &source);
        assert_ok(drv->preflight(&f->env, &snap, sidecar, NULL, &err));

        snap.memory = 512 * MIB;
        preflight_fails(f, &snap, sidecar, CC_CORRUPT, "mem has 268435456 bytes");
        snap.memory = 256 * MIB;
        disks[1].format = "qcow2";
        preflight_fails(f, &snap, sidecar, CC_INVALID, "cannot have had disk");
        disks[1].format = "raw";
        assert_int_equal(rename(mem, moved), 0);
        preflight_fails(f, &snap, sidecar, CC_CORRUPT, "mem is missing");
        assert_int_equal(symlink(moved, mem), 0);
        preflight_fails(f, &snap, sidecar, CC_INVALID, "mem is not a regular file");
        assert_int_equal(rename(moved, mem), 0);

        assert_ok(drv->preflight(&f->env, &snap, sidecar, NULL, &err));
        {
                CC_FREE char *text = NULL;
                size_t n;

                assert_ok(cc_read_file(vmstate, 1 << 20, &text, &n, &err));
                assert_ok(cc_publish(vmstate, "junk", 4, 0640, &err));
                preflight_fails(f, &snap, sidecar, CC_INVALID, "cannot read vmstate");
                assert_ok(cc_publish(vmstate, text, n, 0640, &err));
        }
        /* What an older version could do with it. */
        double_set(&f->vmm, "VERSION", "1.15.0");
        assert_ok(cc_unlink(cache, &err));
        preflight_fails(f, &snap, sidecar, CC_UNSUPPORTED, ">= 1.16.1 is needed");
        json_object_set_new(sidecar, "vsock", json_false());
        preflight_fails(f, &snap, sidecar, CC_UNSUPPORTED, "snapshot has format v10.0");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(a_clone_beside_its_source),
                T(a_clone_of_what_is_gone),
                T(zeroes_become_holes),
                T(restored_in_place),
                T(replies_lost),
                T(tampered),
                T(judged_before),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
