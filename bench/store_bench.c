/*
 * Figures of the store, each beside a bare SQLite doing the same in the same round:
 *   store.insert   one durable single-row transaction      floor: one INSERT of the same bytes
 *   store.get      one record by ID, decoded               floor: the SELECT of its text alone
 *   store.open     open, verify and close the store        floor: sqlite3_open, one SELECT, close
 *   store.proc256  durable creations and removals/s from   floor: inserts/s of one bare connection
 *                  256 processes, none of them lost
 * Prints `name median unit floor ratio`, tab-separated. Usage: store_bench [DIRECTORY]
 * With --get NAME ROOT only store.get, under that name, of records all over an existing store.
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/timeutil.h"
#include "meta/meta.h"

enum {
        SAMPLES = 101, /* of the single-process figures */
        ROUNDS = 31,   /* of proc256 */
        GETS = 100,    /* reads a sample of store.get */
        PROCESSES = 256,
        PER_PROCESS = 2, /* records of each process: one is removed again */
};

static char root[4096];
static char *run_dir, *bare_path;
static sqlite3 *bare;
static sqlite3_stmt *bare_insert, *bare_get;

static void die(const char *what)
{
        (void)fprintf(stderr, "store_bench: %s\n", what);
        exit(1);
}

static struct meta *open_store(void)
{
        struct meta_open_args args = { .root_dir = root,
                                       .run_dir = run_dir,
                                       .busy_timeout_ms = 120000 };
        struct cc_err err = CC_ERR_INIT;
        struct meta *m;

        if (meta_open(&args, &m, &err) < 0)
                die(err.msg);
        return m;
}

/* A record as a direct-boot VM with three layers has it: about 1.5 KB. */
static void fill(struct vm_record *vm)
{
        char id[CC_ID_LEN + 1];
        struct nic *nic;

        cc_id_new(id);
        vm->id = xstrdup(id);
        vm->hypervisor = xstrdup("qemu");
        vm->config.name = xasprintf("bench-%s", id);
        vm->config.cpu = 2;
        vm->config.memory = INT64_C(1) << 30;
        vm->config.storage = INT64_C(10) << 30;
        vm->config.image = xstrdup("registry.example/library/debian:12");
        vm->config.image_type = xstrdup("oci");
        vm->run_dir = xasprintf("%s/qemu/%s", run_dir, id);
        vm->log_dir = xasprintf("%s/log/qemu/%s", run_dir, id);
        nic = record_array_add(&nic_type, &vm->network_configs);
        nic->mac = xstrdup("02:00:00:00:00:01");
        nic->backend = xstrdup("user");
        for (int i = 0; i < 3; i++) {
                struct vm_disk *d = record_array_add(&vm_disk_type, &vm->storage_configs);
                CC_FREE char *hex = xasprintf("%064d", i);

                d->path = xasprintf("%s/oci/blobs/%s.erofs", root, hex);
                d->serial = xasprintf("cocoon-layer%d", i);
                d->role = xstrdup("layer");
                d->ro = true;
                cc_strv_add(&vm->image_blob_ids, hex);
        }
}

static double ms_since(int64_t start)
{
        return (double)(cc_monotonic() - start) / 1e6;
}

static void insert_into(struct meta *m, struct vm_record *vm)
{
        struct cc_err err = CC_ERR_INIT;

        if (meta_begin(m, META_DURABLE, &err) < 0 || meta_vm_insert(m, vm, &err) < 0 ||
            meta_commit(m, &err) < 0)
                die(err.msg);
}

static void remove_from(struct meta *m, const char *id)
{
        struct cc_err err = CC_ERR_INIT;

        if (meta_begin(m, META_DURABLE, &err) < 0 || meta_vm_delete(m, id, &err) < 0 ||
            meta_commit(m, &err) < 0)
                die(err.msg);
}

static double time_insert(struct meta *m, char ret_id[CC_ID_LEN + 1], char **ret_text)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        int64_t start;
        double ms;

        fill(&vm);
        start = cc_monotonic();
        insert_into(m, &vm);
        ms = ms_since(start);
        memcpy(ret_id, vm.id, CC_ID_LEN + 1);
        *ret_text = vm_record_text(&vm);
        return ms;
}

static void open_bare(void)
{
        if (sqlite3_open(bare_path, &bare) != SQLITE_OK ||
            sqlite3_exec(bare,
                         "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                         "CREATE TABLE IF NOT EXISTS t(id TEXT NOT NULL PRIMARY KEY, data TEXT)",
                         NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(bare, "INSERT INTO t VALUES(?1, ?2)", -1, &bare_insert, NULL) ||
            sqlite3_prepare_v2(bare, "SELECT data FROM t WHERE id = ?1", -1, &bare_get, NULL))
                die(sqlite3_errmsg(bare));
}

static double time_bare_insert(const char *id, const char *text)
{
        int64_t start = cc_monotonic();

        sqlite3_bind_text(bare_insert, 1, id, -1, SQLITE_STATIC);
        sqlite3_bind_text(bare_insert, 2, text, -1, SQLITE_STATIC);
        if (sqlite3_step(bare_insert) != SQLITE_DONE)
                die(sqlite3_errmsg(bare));
        sqlite3_reset(bare_insert);
        return ms_since(start);
}

/* Microseconds for one read, the mean of GETS. */
static double time_get(struct meta *m, const char *id)
{
        int64_t start = cc_monotonic();

        for (int i = 0; i < GETS; i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;

                if (meta_vm_get(m, id, &vm, &err) < 0)
                        die(err.msg);
        }
        return ms_since(start) * 1000 / GETS;
}

static double time_bare_get(const char *id)
{
        int64_t start = cc_monotonic();

        for (int i = 0; i < GETS; i++) {
                sqlite3_bind_text(bare_get, 1, id, -1, SQLITE_STATIC);
                if (sqlite3_step(bare_get) != SQLITE_ROW || !sqlite3_column_text(bare_get, 0))
                        die("a row is missing");
                sqlite3_reset(bare_get);
        }
        return ms_since(start) * 1000 / GETS;
}

static double time_open(void)
{
        int64_t start = cc_monotonic();

        meta_close(open_store());
        return ms_since(start);
}

static double time_bare_open(void)
{
        int64_t start = cc_monotonic();
        sqlite3 *db;

        if (sqlite3_open(bare_path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "SELECT 1 FROM t LIMIT 1", NULL, NULL, NULL) != SQLITE_OK)
                die("cannot open the bare database");
        sqlite3_close(db);
        return ms_since(start);
}

/* ---- 256 processes ---- */

static int insert_many(int ready, int go)
{
        struct vm_record vm[PER_PROCESS] = { 0 };
        struct meta *m = open_store();
        char c = 'r';

        for (int i = 0; i < PER_PROCESS; i++)
                fill(vm + i);
        /* The pipe's end of file is the starting shot for all at once. */
        if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 0)
                return 1;
        for (int i = 0; i < PER_PROCESS; i++)
                insert_into(m, vm + i);
        remove_from(m, vm[0].id);
        meta_close(m);
        return 0;
}

static int64_t rows(void)
{
        CC_STRV struct cc_strv ids = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct meta *m = open_store();

        if (meta_vm_ids(m, &ids, &err) < 0)
                die(err.msg);
        meta_close(m);
        return (int64_t)ids.len;
}

/* Records a second over all processes, from the starting shot to the last exit. */
static double time_processes(void)
{
        pid_t pids[PROCESSES];
        int ready[2], go[2];
        int64_t before = rows();
        int64_t start;
        double ms;

        if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
                die("pipe");
        (void)fflush(stdout);
        for (int i = 0; i < PROCESSES; i++) {
                pids[i] = fork();
                if (pids[i] < 0)
                        die("fork");
                if (pids[i] == 0) {
                        close(go[1]);
                        _exit(insert_many(ready[1], go[0]));
                }
        }
        for (int i = 0; i < PROCESSES; i++) {
                char c;

                if (read(ready[0], &c, 1) != 1)
                        die("a process did not start");
        }
        start = cc_monotonic();
        close(go[1]);
        for (int i = 0; i < PROCESSES; i++) {
                int status;

                if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
                        die("a process failed");
        }
        ms = ms_since(start);
        close(go[0]);
        close(ready[0]);
        close(ready[1]);
        if (rows() != before + (int64_t)PROCESSES * (PER_PROCESS - 1))
                die("a record was lost");
        return PROCESSES * (PER_PROCESS + 1) * 1000.0 / ms;
}

/* ---- figures ---- */

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a;
        double y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
        qsort(v, n, sizeof(*v), by_value);
        return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void figure(const char *name, const char *unit, double *ours, double *floor, size_t n)
{
        double a = median(ours, n);
        double b = median(floor, n);

        printf("%s\t%.4g\t%s\t%.4g\t%.2f\n", name, a, unit, b, a / b);
}

static void single_process(void)
{
        static double insert[2][SAMPLES], get[2][SAMPLES], opened[2][SAMPLES];
        struct meta *m = open_store();

        for (int i = -1; i < SAMPLES; i++) {
                char id[CC_ID_LEN + 1];
                CC_FREE char *text = NULL;
                double v[6];

                v[0] = time_insert(m, id, &text);
                v[1] = time_bare_insert(id, text);
                v[2] = time_get(m, id);
                v[3] = time_bare_get(id);
                v[4] = time_open();
                v[5] = time_bare_open();
                for (int k = 0; i >= 0 && k < 2; k++) { /* the first round is not counted */
                        insert[k][i] = v[k];
                        get[k][i] = v[2 + k];
                        opened[k][i] = v[4 + k];
                }
        }
        meta_close(m);
        figure("store.insert", "ms", insert[0], insert[1], SAMPLES);
        figure("store.get", "us", get[0], get[1], SAMPLES);
        figure("store.open", "ms", opened[0], opened[1], SAMPLES);
}

static void many_processes(void)
{
        static double rate[ROUNDS], floor[ROUNDS];

        for (int i = -1; i < ROUNDS; i++) {
                double ours = time_processes();
                double ms = 0;

                for (int k = 0; k < 32; k++) {
                        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
                        CC_FREE char *text = NULL;

                        fill(&vm);
                        text = vm_record_text(&vm);
                        ms += time_bare_insert(vm.id, text);
                }
                if (i >= 0) {
                        rate[i] = ours;
                        floor[i] = 32 * 1000.0 / ms;
                }
        }
        figure("store.proc256", "records/s", rate, floor, ROUNDS);
}

/* store.get over a store that `seed` filled; the floor reads the same table by bare SQLite. */
static int get_from(const char *name, const char *dir)
{
        static double ours[SAMPLES], floor[SAMPLES];
        CC_STRV struct cc_strv ids = { 0 };
        CC_FREE char *db = xasprintf("%s/meta/meta.db", dir);
        struct cc_err err = CC_ERR_INIT;
        struct meta *m;

        (void)snprintf(root, sizeof(root), "%s", dir);
        run_dir = cc_path_join(root, "run");
        m = open_store();
        if (meta_vm_ids(m, &ids, &err) < 0)
                die(err.msg);
        if (sqlite3_open(db, &bare) != SQLITE_OK ||
            sqlite3_prepare_v2(bare, "SELECT data FROM vms WHERE id = ?1", -1, &bare_get, NULL) ||
            ids.len == 0)
                die("nothing to read");
        for (int i = -1; i < SAMPLES; i++) {
                /* Another row each time, far from the last. */
                const char *id = ids.v[(size_t)(i + 1) * 7919 % ids.len];
                double a = time_get(m, id);
                double b = time_bare_get(id);

                if (i >= 0) {
                        ours[i] = a;
                        floor[i] = b;
                }
        }
        figure(name, "us", ours, floor, SAMPLES);
        meta_close(m);
        sqlite3_finalize(bare_get);
        sqlite3_close(bare);
        free(run_dir);
        return 0;
}

int main(int argc, char **argv)
{
        const char *tmp = getenv("TMPDIR");

        if (argc == 4 && cc_streq(argv[1], "--get"))
                return get_from(argv[2], argv[3]);

        (void)snprintf(root, sizeof(root), "%s/cocoon-store-bench-XXXXXX",
                       argc > 1      ? argv[1]
                       : tmp && *tmp ? tmp
                                     : "/tmp");
        if (!mkdtemp(root))
                die("cannot make a directory to work in");
        run_dir = cc_path_join(root, "run");
        bare_path = cc_path_join(root, "bare.db");
        open_bare();
        single_process();
        many_processes();
        sqlite3_finalize(bare_insert);
        sqlite3_finalize(bare_get);
        sqlite3_close(bare);
        free(run_dir);
        free(bare_path);
        return cc_rm_rf(root, NULL) < 0;
}
