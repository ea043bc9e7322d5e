/*
 * Files and directories: publishing (write, fsync, rename), bounded reads, recursive removal, locks
 * and data copies that keep holes. Everything opens O_CLOEXEC. Disk formats live in src/disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* mkdir -p with `mode` for every directory made; existing directories are left alone. */
int cc_mkdir_p(const char *path, mode_t mode, struct cc_err *err);

/* The whole file (at most `max` bytes, else CC_INVALID), NUL-terminated. Caller frees. */
int cc_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct cc_err *err);

/* Write all of buf to fd, EINTR and short writes handled. */
int cc_write_all(int fd, const void *buf, size_t n, struct cc_err *err);

/* The first n bytes of fd (pread at off); CC_CORRUPT if the file ends before. */
int cc_pread_all(int fd, void *buf, size_t n, off_t off, struct cc_err *err);

/*
 * Atomic write: unique temp ".tmp-*" in the same directory, write, fsync, fchmod, rename, fsync of
 * the directory. On failure the temp is gone and the target untouched, except that a failing sync
 * of the directory is reported with the new content in place.
 */
int cc_publish(const char *path, const void *data, size_t n, mode_t mode, struct cc_err *err);

/* The same without the syncs, for a file whose every reader ends with the machine: another process
 * sees the old or the new one, a crash of the machine may lose both. */
int cc_replace(const char *path, const void *data, size_t n, mode_t mode, struct cc_err *err);

/* The second half of cc_publish for a file that was written elsewhere on the same file system:
 * fsync it, rename it to `to` and fsync the directory. With `noreplace` an existing target is
 * CC_CONFLICT. */
int cc_publish_file(const char *from, const char *to, bool noreplace, struct cc_err *err);

/* fsync a directory; EINVAL, ENOTSUP and EBADF are ignored (file systems without it). */
int cc_fsync_dir(const char *path, struct cc_err *err);

/* Remove a file or a whole tree; never follows symbolic links or crosses into mounts; absent is
 * fine. */
int cc_rm_rf(const char *path, struct cc_err *err);

/* Unlink; absent is fine. */
int cc_unlink(const char *path, struct cc_err *err);

bool cc_exists(const char *path);

/* "Valid file" of images.md §0: regular and not empty. */
bool cc_is_valid_file(const char *path);

/* dir + "/" + name. */
char *cc_path_join(const char *dir, const char *name);

/* Last component, "" if the path ends in '/'. Points into path. */
const char *cc_basename(const char *path);

/* Locate an executable like execvp does: a name with '/' as is, else along PATH. Caller frees; NULL
 * if there is none. */
char *cc_find_program(const char *name);

/* Make the regular file `to` an equal of `from`, whatever it held before: reflink if possible, else
 * only data extents (SEEK_DATA/SEEK_HOLE), so that holes stay holes. */
int cc_copy_sparse(int from, int to, struct cc_err *err);

/* How to take a lock. */
enum cc_lock_mode { CC_LOCK_SHARED, CC_LOCK_EXCLUSIVE };

/*
 * flock(2) on a lock file that is never unlinked by its users (state.md §3). The file is opened
 * fresh, 0600, O_CLOEXEC; after locking, the descriptor is compared with the path and reopened if
 * the file was replaced. An exclusive holder writes "pid op start\n" for messages only.
 * cc_lock_try: -CC_BUSY (err filled with the holder) when it is held.
 * cc_lock: waits until the deadline (ns of cc_monotonic(); 0: for ever), SIGINT/SIGTERM cancel
 * (cc_interrupted()); after 1 s one INFO line says what holds it.
 * *ret is the descriptor: closing it releases the lock.
 */
int cc_lock_try(const char *path, enum cc_lock_mode mode, const char *op, int *ret,
                struct cc_err *err);
int cc_lock(const char *path, enum cc_lock_mode mode, const char *op, int64_t deadline, int *ret,
            struct cc_err *err);

/* Bytes that a file or tree occupies on disk; 0 when absent. Does not follow links. */
int64_t cc_tree_bytes(const char *path);
