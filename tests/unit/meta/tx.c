/* Many processes, killed processes, full disks: what a transaction promises and what it may cost.
 */
#include "helper.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/interrupt.h"
#include "base/timeutil.h"

static struct meta *open_again(struct store *s, int64_t busy_ms)
{
        struct meta_open_args args = { .root_dir = s->root,
                                       .run_dir = s->run,
                                       .busy_timeout_ms = busy_ms };
        struct meta *m = NULL;

        if (meta_open(&args, &m, &s->err) < 0)
                fail_msg("%s", s->err.msg);
        return m;
}

static int insert(struct meta *m, const char *name, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        int r = meta_begin(m, META_DURABLE, err);

        if (r < 0)
                return r;
        vm_init(&vm, name);
        r = meta_vm_insert(m, &vm, err);
        if (r == 0)
                return meta_commit(m, err);
        meta_rollback(m);
        return r;
}

/* A child process that works on the store; it exits with what the body returns. */
#define CHILD(pid, body)                                                                           \
        do {                                                                                       \
                (pid) = fork();                                                                    \
                assert_true((pid) >= 0);                                                           \
                if ((pid) == 0)                                                                    \
                        _exit(body);                                                               \
        } while (0)

static int exit_status(pid_t pid)
{
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

/* `own` names of its own and one contest for names that every process wants. Returns the number of
 * inserts that succeeded, or 255 after an unexpected error. */
static int inserter(struct store *s, int me, int own, int contested)
{
        struct meta *m = open_again(s, 0);
        int done = 0;

        for (int i = 0; i < own + contested; i++) {
                CC_FREE char *name =
                        i < own ? xasprintf("p%d-%d", me, i) : xasprintf("all-%d", i - own);
                struct cc_err err = CC_ERR_INIT;
                int r = insert(m, name, &err);

                if (r == 0) {
                        done++;
                } else if (i < own || r != -CC_CONFLICT || !cc_streq(err.code, "name_taken")) {
                        fprintf(stderr, "process %d: %s\n", me, err.msg);
                        return 255;
                }
        }
        meta_close(m);
        return done;
}

static void sixty_four_processes(void **state)
{
        struct store *s = *state;
        enum { N = 64, OWN = 10, CONTESTED = 5 };
        pid_t pids[N];
        int64_t done = 0;

        store_close(s);
        for (int i = 0; i < N; i++)
                CHILD(pids[i], inserter(s, i, OWN, CONTESTED));
        for (int i = 0; i < N; i++) {
                int n = exit_status(pids[i]);

                assert_int_not_equal(n, 255);
                done += n;
        }
        assert_int_equal(done, N * OWN + CONTESTED);
        assert_int_equal(store_open(s), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), done);
        assert_int_equal(store_count(s, "SELECT count(DISTINCT seq) FROM vms"), done);
        assert_int_equal(store_count(s, "SELECT v FROM meta_kv WHERE k = 'seq'"), done);
        store_is_sound(s);
}

static int hold_open_transaction(struct store *s, int ready, int go)
{
        struct meta *m = open_again(s, 0);
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char c = 'r';

        vm_init(&vm, "held");
        if (meta_begin(m, META_DURABLE, &err) < 0 || meta_vm_insert(m, &vm, &err) < 0 ||
            write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
                return 1;
        meta_close(m); /* rolls back */
        return 0;
}

struct holder {
        pid_t pid;
        int go;
};

/* A process inside a write transaction with one row inserted. */
static struct holder start_holder(struct store *s)
{
        struct holder h;
        int ready[2], go[2];
        char c;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(go, O_CLOEXEC), 0);
        CHILD(h.pid, (close(go[1]), hold_open_transaction(s, ready[1], go[0])));
        close(ready[1]);
        close(go[0]);
        assert_int_equal(read(ready[0], &c, 1), 1);
        close(ready[0]);
        h.go = go[1];
        return h;
}

static void release(struct holder *h)
{
        assert_int_equal(write(h->go, "g", 1), 1);
        close(h->go);
        assert_int_equal(exit_status(h->pid), 0);
}

static void killed_in_a_transaction(void **state)
{
        struct store *s = *state;

        store_close(s);
        for (int i = 0; i < 5; i++) {
                struct holder h = start_holder(s);
                int status;

                assert_int_equal(kill(h.pid, SIGKILL), 0);
                assert_int_equal(waitpid(h.pid, &status, 0), h.pid);
                close(h.go);
        }
        assert_int_equal(store_open(s), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 0);
        add_vm(s, "held", NULL);
        store_is_sound(s);
}

static int endless_inserter(struct store *s, int out, int round)
{
        struct meta *m = open_again(s, 0);

        for (int i = 0;; i++) {
                CC_FREE char *name = xasprintf("r%d-%d", round, i);
                struct cc_err err = CC_ERR_INIT;

                if (insert(m, name, &err) < 0 || write(out, ".", 1) != 1)
                        return 1;
        }
}

/* Whatever was acknowledged before a kill -9 is there afterwards. */
static void killed_at_any_moment(void **state)
{
        struct store *s = *state;
        int64_t acknowledged = 0;

        store_close(s);
        for (int round = 0; round < 10; round++) {
                struct timespec pause = { .tv_nsec = 3000000 * (round + 1) };
                char buf[4096];
                int out[2];
                int status;
                ssize_t n;
                pid_t pid;

                assert_int_equal(pipe2(out, O_CLOEXEC), 0);
                CHILD(pid, endless_inserter(s, out[1], round));
                close(out[1]);
                assert_int_equal(read(out[0], buf, 1), 1);
                acknowledged++;
                nanosleep(&pause, NULL);
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status));
                while ((n = read(out[0], buf, sizeof(buf))) > 0)
                        acknowledged += n;
                close(out[0]);
        }
        assert_int_equal(store_open(s), 0);
        /* At most one commit a round was done and not yet reported. */
        assert_in_range(store_count(s, "SELECT count(*) FROM vms"), acknowledged,
                        acknowledged + 10);
        store_is_sound(s);
}

static void busy_has_a_deadline(void **state)
{
        struct store *s = *state;
        struct holder h;
        struct meta *m;
        int64_t start;

        store_close(s);
        h = start_holder(s);
        m = open_again(s, 300);
        start = cc_monotonic();
        assert_int_equal(meta_begin(m, META_DURABLE, &s->err), -CC_BUSY);
        assert_in_range((cc_monotonic() - start) / CC_NSEC_PER_MSEC, 290, 3000);
        /* Readers do not wait for writers. */
        assert_int_equal(meta_begin(m, META_READ, &s->err), 0);
        assert_int_equal(meta_commit(m, &s->err), 0);
        release(&h);
        /* The wait that was given up does not hold the lock. */
        for (int i = 0; i < 3; i++) {
                CC_FREE char *name = xasprintf("after-%d", i);

                assert_int_equal(insert(m, name, &s->err), 0);
        }
        meta_close(m);
        assert_int_equal(store_open(s), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 3);
}

/* A writer that knows nothing of our lock is SQLite's own business, with the same deadline. */
static void foreign_writers(void **state)
{
        struct store *s = *state;
        CC_FREE char *path = cc_path_join(s->root, "meta/meta.db");
        struct meta *m = open_again(s, 300);
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(meta_begin(m, META_DURABLE, &s->err), -CC_BUSY);
        assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(insert(m, "web", &s->err), 0);
        sqlite3_close(db);
        meta_close(m);
}

static int wait_until_cancelled(struct store *s, int ready)
{
        struct meta *m = open_again(s, 0);
        struct cc_err err = CC_ERR_INIT;
        int r;

        cc_interrupt_setup();
        if (write(ready, "r", 1) != 1)
                return 2;
        r = meta_begin(m, META_DURABLE, &err);
        meta_close(m);
        return r == -CC_CANCELED ? 0 : 1;
}

static void signals_cancel_the_wait(void **state)
{
        struct store *s = *state;
        struct holder h;
        int64_t start;
        int ready[2];
        pid_t pid;
        char c;

        store_close(s);
        h = start_holder(s);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        CHILD(pid, wait_until_cancelled(s, ready[1]));
        assert_int_equal(read(ready[0], &c, 1), 1);
        start = cc_monotonic();
        kill(pid, SIGTERM);
        assert_int_equal(exit_status(pid), 0);
        assert_true(cc_monotonic() - start < 2 * CC_NSEC_PER_SEC);
        close(ready[0]);
        close(ready[1]);
        release(&h);
}

/* Two connections of one process queue like two processes. */
static void threads_share_nothing(void **state)
{
        struct store *s = *state;
        struct meta *other = open_again(s, 200);

        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_begin(other, META_DURABLE, &s->err), -CC_BUSY);
        assert_int_equal(meta_commit(s->m, &s->err), 0);
        assert_int_equal(insert(other, "web", &s->err), 0);
        meta_close(other);
}

/* A reader's transaction is one moment. */
static void snapshots_are_stable(void **state)
{
        struct store *s = *state;
        struct meta *other = open_again(s, 0);

        assert_int_equal(meta_begin(s->m, META_READ, &s->err), 0);
        assert_int_equal(insert(other, "web", &s->err), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 0);
        assert_int_equal(meta_commit(s->m, &s->err), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 1);
        meta_close(other);
}

static void durability_classes(void **state)
{
        struct store *s = *state;

        assert_int_equal(meta_begin(s->m, META_RELAXED, &s->err), 0);
        assert_int_equal(meta_commit(s->m, &s->err), 0);
        assert_int_equal(store_count(s, "PRAGMA synchronous"), 1);
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), 0);
        assert_int_equal(meta_commit(s->m, &s->err), 0);
        assert_int_equal(store_count(s, "PRAGMA synchronous"), 2);
}

static off_t wal_size(struct store *s)
{
        CC_FREE char *wal = cc_path_join(s->root, "meta/meta.db-wal");
        struct stat st;

        return stat(wal, &st) == 0 ? st.st_size : 0;
}

static int64_t wal_frames(struct store *s)
{
        int log = -1;

        assert_int_equal(
                sqlite3_wal_checkpoint_v2(s->m->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, NULL),
                SQLITE_OK);
        return log;
}

/* A process that writes a lot bounds the WAL and, when alone, leaves none to the next one. */
static void a_long_writer(void **state)
{
        struct store *s = *state;
        off_t most = 0;

        for (int i = 0; i < 300; i++) {
                CC_FREE char *name = xasprintf("vm-%d", i);

                assert_int_equal(insert(s->m, name, &s->err), 0);
                if (wal_size(s) > most)
                        most = wal_size(s);
        }
        assert_in_range(most, 1024 * 1024, 5 * 1024 * 1024);
        store_close(s);
        assert_int_equal(wal_size(s), 0);
        assert_int_equal(store_open(s), 0);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 300);
        store_is_sound(s);
}

/* Commands that write once each: the WAL's file stops growing, and what the next process must read
 * of it stays small. */
static void many_short_writers(void **state)
{
        struct store *s = *state;

        store_close(s);
        for (int i = 0; i < 100; i++) {
                CC_FREE char *name = xasprintf("single-%d", i);

                assert_int_equal(store_open(s), 0);
                assert_int_equal(insert(s->m, name, &s->err), 0);
                store_close(s);
                assert_true(wal_size(s) < 400 * 1024);
        }
        assert_int_equal(store_open(s), 0);
        assert_true(wal_frames(s) < 100);
        assert_int_equal(store_count(s, "SELECT count(*) FROM vms"), 100);
        store_is_sound(s);
}

/* Nobody waits for ever: with everyone writing as fast as it can, each gets its share. */
static void the_queue_is_fair(void **state)
{
        struct store *s = *state;
        enum { N = 8 };
        pid_t pids[N];
        int64_t counts[N];
        int64_t least = INT64_MAX;
        int64_t most = 0;
        int out[N][2];

        store_close(s);
        for (int i = 0; i < N; i++) {
                assert_int_equal(pipe2(out[i], O_CLOEXEC | O_NONBLOCK), 0);
                CHILD(pids[i], endless_inserter(s, out[i][1], i));
                close(out[i][1]);
        }
        nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
        for (int i = 0; i < N; i++)
                kill(pids[i], SIGKILL);
        for (int i = 0; i < N; i++) {
                char buf[65536];
                int status;

                waitpid(pids[i], &status, 0);
                counts[i] = read(out[i][0], buf, sizeof(buf));
                close(out[i][0]);
                least = counts[i] < least ? counts[i] : least;
                most = counts[i] > most ? counts[i] : most;
        }
        print_message("commits in a second: least %lld, most %lld\n", (long long)least,
                      (long long)most);
        assert_true(least > 0);
        assert_true(least * 10 >= most);
}

/* In a private mount namespace; the parent judges the exit status. */
static int fill_the_disk(struct store *s)
{
        CC_FREE char *filler = cc_path_join(s->root, "filler");
        char block[4096] = { 1 };
        struct cc_err err = CC_ERR_INIT;
        int64_t done = 0;
        int r = 0;
        int fd;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", s->root, "tmpfs", 0, "size=2m") < 0)
                return 77;
        if (store_open(s) < 0)
                return 1;
        fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        for (int i = 0; i < 300; i++)
                if (write(fd, block, sizeof(block)) < 0)
                        break;
        while (r == 0 && done < 1000) {
                CC_FREE char *name = xasprintf("vm-%d", (int)done);

                err = (struct cc_err)CC_ERR_INIT;
                r = insert(s->m, name, &err);
                done += r == 0;
        }
        if (r != -CC_NO_SPACE || done == 0) {
                fprintf(stderr, "after %d inserts: %s\n", (int)done, err.msg);
                return 2;
        }
        /* What was committed is there, nothing else, and room makes it writable again. */
        if (store_count(s, "SELECT count(*) FROM vms") != done)
                return 3;
        if (ftruncate(fd, 0) < 0 || insert(s->m, "after", &err) < 0) {
                fprintf(stderr, "with room again: %s\n", err.msg);
                return 4;
        }
        store_close(s);
        if (store_open(s) < 0 || store_count(s, "SELECT count(*) FROM vms") != done + 1)
                return 5;
        store_is_sound(s);
        return 0;
}

static void a_full_disk(void **state)
{
        struct store *s = *state;
        pid_t pid;
        int status;

        store_close(s);
        CHILD(pid, fill_the_disk(s));
        status = exit_status(pid);
        if (status == 77) {
                print_message("skipped: mounting a tmpfs needs root\n");
                skip();
        }
        assert_int_equal(status, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(sixty_four_processes),  T(killed_in_a_transaction), T(killed_at_any_moment),
                T(busy_has_a_deadline),   T(foreign_writers),         T(signals_cancel_the_wait),
                T(threads_share_nothing), T(snapshots_are_stable),    T(durability_classes),
                T(a_long_writer),         T(many_short_writers),      T(the_queue_is_fair),
                T(a_full_disk),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
