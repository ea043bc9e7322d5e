/* Transactions: the readers' snapshot, the writers' queue, durability, retries, the WAL's size. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "meta/internal.h"

int meta_need_write(const struct meta *m, struct cc_err *err)
{
        if (m->mode == MODE_WRITE)
                return 0;
        return cc_fail(err, CC_INTERNAL, "store: write outside a write transaction");
}

static int canceled(struct cc_err *err)
{
        return cc_fail(err, CC_CANCELED, "store: interrupted while waiting for other writers");
}

static int too_busy(struct cc_err *err)
{
        return cc_fail(err, CC_BUSY, "store: still busy with other commands, giving up");
}

/* What to poll for a signal. Inside an uninterruptible section the descriptor may be readable
 * already and would turn every wait into a spin: leave it out. */
static struct pollfd stop_fd(void)
{
        bool shielded = !cc_interrupted() && cc_interrupt_signal();

        return (struct pollfd){ .fd = shielded ? -1 : cc_interrupt_fd(), .events = POLLIN };
}

int meta_backoff(int64_t deadline, int *delay_ms, struct cc_err *err)
{
        struct pollfd stop = stop_fd();
        unsigned char jitter;

        if (cc_interrupted())
                return canceled(err);
        if (cc_monotonic() >= deadline)
                return too_busy(err);
        *delay_ms = *delay_ms ? *delay_ms * 2 : 5;
        if (*delay_ms > 100)
                *delay_ms = 100;
        cc_random(&jitter, 1);
        (void)poll(&stop, 1, *delay_ms / 2 + jitter % (*delay_ms / 2 + 1));
        return cc_interrupted() ? canceled(err) : 0;
}

/* ---- the writers' queue ---- */

/*
 * Waiting in flock(2) itself keeps the kernel's first-come order, which any polling would lose; but
 * a blocked flock can neither time out nor be cancelled without leaving the queue. So a thread
 * waits in it, and we wait for the thread, a signal or the deadline. Whoever changes `state` first
 * decides: either we take the locked descriptor, or the thread, whenever it gets its turn, finds
 * itself abandoned and closes it.
 */
enum { WAITING, LOCKED, FAILED, ABANDONED };

struct waiter {
        atomic_int state;
        int fd;
        int event;
        int sys;
};

static void waiter_free(struct waiter *w)
{
        if (w->fd >= 0)
                close(w->fd);
        if (w->event >= 0)
                close(w->event);
        free(w);
}

static void *wait_in_line(void *arg)
{
        struct waiter *w = arg;
        int expected = WAITING;
        uint64_t one = 1;
        int r;

        do {
                r = flock(w->fd, LOCK_EX);
        } while (r < 0 && errno == EINTR);
        w->sys = r < 0 ? errno : 0;
        if (!atomic_compare_exchange_strong(&w->state, &expected, r < 0 ? FAILED : LOCKED))
                waiter_free(w);
        else if (write(w->event, &one, sizeof(one)) < 0)
                abort(); /* an eventfd that is not full cannot refuse */
        return NULL;
}

static int start_waiter(struct waiter *w, pthread_t *ret)
{
        pthread_attr_t attr;
        sigset_t all, old;
        int r;

        sigfillset(&all);
        pthread_attr_init(&attr);
        (void)pthread_attr_setstacksize(&attr, 64 * 1024);
        (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        /* Signals belong to the threads that look at them. */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(ret, &attr, wait_in_line, w);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
        return r;
}

static int poll_ms(int64_t deadline)
{
        int64_t left = deadline - cc_monotonic();

        if (left <= 0)
                return 0;
        return left / CC_NSEC_PER_MSEC > 1000 ? 1000 : (int)(left / CC_NSEC_PER_MSEC) + 1;
}

static int queue_for_lock(struct meta *m, int64_t deadline, struct cc_err *err)
{
        struct waiter *w = xcalloc(1, sizeof(*w));
        pthread_t thread;
        int r = 0;

        /* A lock belongs to the open file: an abandoned wait must not be on ours. */
        w->event = eventfd(0, EFD_CLOEXEC);
        w->fd = open(m->writer_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (w->fd < 0 || w->event < 0)
                r = errno;
        else
                r = start_waiter(w, &thread);
        if (r != 0) {
                waiter_free(w);
                return cc_fail_errno(err, r, "store: wait for %s", m->writer_path);
        }
        for (;;) {
                struct pollfd fds[2] = { { .fd = w->event, .events = POLLIN }, stop_fd() };
                int expected = WAITING;
                bool stop;

                (void)poll(fds, 2, poll_ms(deadline));
                if (fds[0].revents)
                        break;
                stop = cc_interrupted();
                if (!stop && cc_monotonic() < deadline)
                        continue;
                if (atomic_compare_exchange_strong(&w->state, &expected, ABANDONED))
                        return stop ? canceled(err) : too_busy(err);
                /* It got its turn this very moment: the event follows. */
        }
        if (w->state == LOCKED) {
                close(m->writer_fd);
                m->writer_fd = TAKE_FD(w->fd);
                m->writer_held = true;
        } else {
                r = cc_fail_errno(err, w->sys, "store: lock %s", m->writer_path);
        }
        waiter_free(w);
        return r;
}

/* 1 locked, 0 someone else has it. */
static int try_lock(struct meta *m, struct cc_err *err)
{
        if (m->writer_fd < 0) {
                m->writer_fd = open(m->writer_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                if (m->writer_fd < 0)
                        return cc_fail_errno(err, errno, "store: open %s", m->writer_path);
        }
        if (flock(m->writer_fd, LOCK_EX | LOCK_NB) == 0) {
                m->writer_held = true;
                return 1;
        }
        if (errno == EWOULDBLOCK || errno == EINTR)
                return 0;
        return cc_fail_errno(err, errno, "store: lock %s", m->writer_path);
}

static int lock_writer(struct meta *m, int64_t deadline, struct cc_err *err)
{
        int r = try_lock(m, err);

        if (r != 0)
                return r < 0 ? r : 0;
        if (cc_interrupted())
                return canceled(err);
        m->queued = true;
        return queue_for_lock(m, deadline, err);
}

static void unlock_writer(struct meta *m)
{
        if (m->writer_held)
                (void)flock(m->writer_fd, LOCK_UN);
        m->writer_held = false;
}

/* ---- begin, commit, rollback ---- */

static int set_synchronous(struct meta *m, int level, struct cc_err *err)
{
        int r;

        if (m->synchronous == level)
                return 0;
        r = meta_exec(m, level == 2 ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                      err);
        if (r == 0)
                m->synchronous = level;
        return r;
}

/* Step a BEGIN, waiting out SQLITE_BUSY: recovery after a crash, or a writer without our flock. */
static int begin(struct meta *m, enum meta_sql which, int64_t deadline, struct cc_err *err)
{
        sqlite3_stmt *s;
        int delay = 0;
        int r = meta_stmt(m, which, &s, err);

        while (r == 0) {
                int rc = sqlite3_step(s);

                sqlite3_reset(s);
                if (rc == SQLITE_DONE)
                        return 0;
                if ((rc & 0xff) != SQLITE_BUSY)
                        return meta_sql_fail(m->db, rc, err);
                r = meta_backoff(deadline, &delay, err);
        }
        return r;
}

/* A command of an older version that is still running must not write into an upgraded store. */
static int check_version(struct meta *m, struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, SQL_VERSION, &s, err);

        if (r == 0)
                r = meta_step(m, s, err);
        if (r < 0)
                return r;
        if (sqlite3_column_int(s, 0) == META_VERSION)
                return 0;
        return cc_fail(err, CC_SCHEMA,
                       "store: its version became %d while this command was running",
                       sqlite3_column_int(s, 0));
}

/* Keep the WAL short; the rules are in internal.h. We hold the writers' lock. */
static void checkpoint_first(struct meta *m)
{
        uint32_t hint = 0;
        uint32_t limit = m->queued || m->wrote ? META_WAL_BUSY : META_WAL_IDLE;

        if (pread(m->writer_fd, &hint, sizeof(hint), 0) == (ssize_t)sizeof(hint) && hint > limit)
                meta_checkpoint(m, false);
}

static void leave_hint(struct meta *m)
{
        uint32_t hint = (uint32_t)m->wal_pages;

        if (pwrite(m->writer_fd, &hint, sizeof(hint), 0) < 0)
                cc_debug("meta", "cannot note the size of the WAL");
}

static int begin_write(struct meta *m, enum meta_tx tx, int64_t deadline, struct cc_err *err)
{
        int r = lock_writer(m, deadline, err);

        if (r == 0)
                r = set_synchronous(m, tx == META_RELAXED ? 1 : 2, err);
        if (r == 0) {
                checkpoint_first(m);
                r = begin(m, SQL_BEGIN_WRITE, deadline, err);
        }
        if (r < 0) {
                unlock_writer(m);
                return r;
        }
        m->mode = MODE_WRITE;
        r = check_version(m, err);
        if (r < 0)
                meta_rollback(m);
        return r;
}

/* BEGIN alone takes no snapshot; reading something does. */
static int begin_read(struct meta *m, int64_t deadline, struct cc_err *err)
{
        int delay = 0;
        int r = begin(m, SQL_BEGIN_READ, deadline, err);

        if (r < 0)
                return r;
        m->mode = MODE_READ;
        for (;;) {
                STMT sqlite3_stmt *s = NULL;
                struct cc_err why = CC_ERR_INIT;

                r = meta_stmt(m, SQL_VERSION, &s, err);
                if (r == 0 && (r = meta_step(m, s, &why)) > 0)
                        return 0;
                if (r == -CC_BUSY)
                        r = meta_backoff(deadline, &delay, err);
                else if (r < 0 && why.class)
                        r = cc_err_copy(err, &why);
                if (r < 0)
                        break;
        }
        meta_rollback(m);
        return r;
}

int meta_begin(struct meta *m, enum meta_tx tx, struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + m->busy_ms * CC_NSEC_PER_MSEC;

        if (m->mode != MODE_NONE)
                return cc_fail(err, CC_INTERNAL, "store: transactions do not nest");
        return tx == META_READ ? begin_read(m, deadline, err) : begin_write(m, tx, deadline, err);
}

int meta_commit(struct meta *m, struct cc_err *err)
{
        sqlite3_stmt *s;
        bool wrote = m->mode == MODE_WRITE;
        int r;

        if (m->mode == MODE_NONE)
                return cc_fail(err, CC_INTERNAL, "store: commit without a transaction");
        r = meta_stmt(m, SQL_COMMIT, &s, err);
        if (r == 0) {
                r = meta_run(m, s, err);
                sqlite3_reset(s);
        }
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        m->mode = MODE_NONE;
        if (wrote) {
                m->wrote = true;
                leave_hint(m);
        }
        unlock_writer(m);
        return 0;
}

void meta_rollback(struct meta *m)
{
        sqlite3_stmt *s;

        if (m->mode == MODE_NONE)
                return;
        /* SQLite has already rolled back by itself after some errors (a full disk, for one). */
        if (!sqlite3_get_autocommit(m->db) && meta_stmt(m, SQL_ROLLBACK, &s, NULL) == 0) {
                (void)sqlite3_step(s);
                sqlite3_reset(s);
        }
        m->mode = MODE_NONE;
        unlock_writer(m);
}

int meta_read_begin(struct meta *m, bool *ret_own, struct cc_err *err)
{
        *ret_own = m->mode == MODE_NONE;
        return *ret_own ? meta_begin(m, META_READ, err) : 0;
}

void meta_read_end(struct meta *m, bool own)
{
        if (own)
                meta_rollback(m);
}

/* ---- WAL size ---- */

void meta_checkpoint(struct meta *m, bool empty)
{
        /* No busy handler: nobody waits here. */
        (void)sqlite3_busy_timeout(m->db, 0);
        if (sqlite3_wal_checkpoint_v2(
                    m->db, NULL, empty ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE,
                    NULL, NULL) == SQLITE_OK)
                m->wal_pages = 0;
        (void)sqlite3_busy_timeout(m->db, 50);
}

static void close_checkpoint(struct meta *m)
{
        if (!m->wrote || m->queued || m->wal_pages <= META_WAL_LEFT || try_lock(m, NULL) <= 0)
                return;
        meta_checkpoint(m, true);
        leave_hint(m);
        unlock_writer(m);
}

void meta_close(struct meta *m)
{
        if (!m)
                return;
        if (m->db) {
                meta_rollback(m);
                close_checkpoint(m);
                meta_db_close(m);
        }
        if (m->writer_fd >= 0)
                close(m->writer_fd);
        free(m->root);
        free(m->dir);
        free(m->path);
        free(m->run_dir);
        free(m->writer_path);
        free(m);
}

void meta_closep(struct meta **m)
{
        meta_close(*m);
}

/* ---- change numbers ---- */

int meta_seq_next(struct meta *m, int64_t *ret, struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, SQL_SEQ_NEXT, &s, err);

        if (r == 0)
                r = meta_step(m, s, err);
        if (r < 0)
                return r;
        if (r == 0)
                return cc_fail(err, CC_CORRUPT, "store: the change counter is missing");
        *ret = sqlite3_column_int64(s, 0);
        return 0;
}

int meta_seq(struct meta *m, int64_t *ret, struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, SQL_SEQ_GET, &s, err);

        if (r == 0)
                r = meta_step(m, s, err);
        if (r < 0)
                return r;
        if (r == 0)
                return cc_fail(err, CC_CORRUPT, "store: the change counter is missing");
        *ret = sqlite3_column_int64(s, 0);
        return 0;
}
