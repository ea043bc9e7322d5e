/* The way of a disk image into the store. See cloud.h. */
#include "image/pull/cloud.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "disk/disk.h"
#include "image/pull/sniff.h"

struct source {
        const struct cloud_temp *file;
        enum disk_format format;
        bool convert;
        char hex[DIGEST_HEX_LEN + 1];
};

int cloud_current(const struct image_env *env, const char *ref, struct image_record *ret,
                  bool *ret_same, struct cc_err *err)
{
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        CC_FREE char *blob = NULL;
        int r = meta_image_get(env->meta, IMAGE_CLOUDIMG, ref, &record, err);

        *ret_same = false;
        if (r == -CC_NOT_FOUND)
                return 0;
        if (r < 0)
                return r;
        if (!digest_valid(record.content_sum))
                return 0;
        blob = layout_cloudimg_blob(env->config, digest_digits(record.content_sum));
        if (!cc_is_valid_file(blob))
                return 0;
        *ret = record;
        memset(&record, 0, sizeof(record));
        *ret_same = true;
        return 0;
}

/* Everything that the header and the first sector tell. */
static int judge(struct source *s, const char *shown, struct cc_err *err)
{
        uint8_t head[SNIFF_LEN];
        struct qcow2_info info;
        const char *what;
        enum sniff kind;
        struct stat st;
        size_t n;
        int r;

        if (fstat(s->file->fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", s->file->path);
        n = st.st_size < SNIFF_LEN ? (size_t)st.st_size : SNIFF_LEN;
        r = cc_pread_all(s->file->fd, head, n, 0, err);
        if (r < 0)
                return r;
        kind = sniff_bytes(head, n);
        if (kind == SNIFF_GZIP || kind == SNIFF_XZ || kind == SNIFF_ZSTD)
                return cc_fail(err, CC_INVALID,
                               "%s is compressed data that cannot be unpacked (damaged, or "
                               "compressed twice)",
                               shown);
        if (kind == SNIFF_QCOW2) {
                s->format = DISK_QCOW2;
                r = qcow2_parse(head, n, shown, &info, err);
                return r < 0 ? r : qcow2_check_foreign(&info, shown, &s->convert, err);
        }
        what = sniff_no_disk(head, n);
        if (what)
                return cc_fail(err, CC_INVALID,
                               "%s is %s: unsupported source format (expected qcow2 or raw)", shown,
                               what);
        if (n < SNIFF_LEN)
                return cc_fail(err, CC_INVALID, "%s is too small for a disk image: %zu bytes",
                               shown, n);
        s->format = DISK_RAW;
        s->convert = true;
        return 0;
}

/* The blob's bytes under a temporary name, complete and read-only. Caller removes *ret. */
static int make_qcow2(const struct image_env *env, struct reporter *reporter,
                      const struct source *s, const char *temp, struct cc_err *err)
{
        struct qcow2_info info;
        bool again = false;
        int r = 0;

        if (!s->convert) {
                r = disk_qcow2_intact(s->file->path, err);
                if (r == 0 && rename(s->file->path, temp) < 0)
                        r = cc_fail_errno(err, errno, "rename %s", s->file->path);
        } else {
                reporter_phase(reporter, IMAGE_CONVERT);
                r = disk_convert(s->file->path, s->format, temp, env->config->cloudimg_max_size,
                                 err);
                if (r == 0)
                        r = qcow2_read_info(temp, &info, err);
                if (r == 0)
                        r = qcow2_check_foreign(&info, "the converted image", &again, err);
        }
        if (r == 0 && chmod(temp, 0444) < 0)
                r = cc_fail_errno(err, errno, "chmod %s", temp);
        return r;
}

/* Under the blob's exclusive lock. *ret_made: there was none before. */
static int make_blob(const struct image_env *env, struct reporter *reporter, const struct source *s,
                     const char *blob, bool verify, bool *ret_made, struct cc_err *err)
{
        CC_FREE char *dir = layout_cloudimg_temp(env->config);
        CC_FREE char *temp = xasprintf("%s/.tmp-%s.qcow2", dir, s->hex);
        bool existed = cc_is_valid_file(blob);
        bool good = existed;
        int r = 0;

        *ret_made = false;
        if (good && verify) {
                r = disk_same_content(s->file->path, s->format, blob, &good, err);
                if (r < 0)
                        return r;
                if (!good)
                        cc_warn("image", "blob sha256:%.12s is damaged and made again", s->hex);
        }
        if (good)
                return 0;
        /* Left by a crash: the lock says that nobody is at it. */
        r = cc_unlink(temp, err);
        if (r == 0)
                r = make_qcow2(env, reporter, s, temp, err);
        if (r == 0)
                r = cc_failpoint("cloudimg.blob", err);
        /* Disks of VMs depend on what a guest sees in the blob, and that is the same. */
        if (r == 0)
                r = cc_publish_file(temp, blob, false, err);
        if (r < 0) {
                (void)cc_unlink(temp, NULL);
                return r;
        }
        *ret_made = !existed;
        return 0;
}

static int put_record(const struct image_env *env, const char *ref, const struct source *s,
                      const char *blob, struct image_record *ret, struct cc_err *err)
{
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv pins = { 0 };
        struct stat st;
        int r;

        if (stat(blob, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", blob);
        record.ref = xstrdup(ref);
        record.content_sum = xasprintf("sha256:%s", s->hex);
        record.size = st.st_size;
        record.created_at = cc_now();
        cc_strv_add(&pins, s->hex);
        r = meta_begin(env->meta, META_DURABLE, err);
        if (r < 0)
                return r;
        r = meta_image_put(env->meta, IMAGE_CLOUDIMG, &record, &pins, err);
        if (r < 0) {
                meta_rollback(env->meta);
                return r;
        }
        r = meta_commit(env->meta, err);
        if (r < 0)
                return r;
        *ret = record;
        memset(&record, 0, sizeof(record));
        return 0;
}

int cloud_commit(const struct image_env *env, struct reporter *reporter, const char *ref,
                 const struct cloud_temp *file, bool verify, struct image_record *ret,
                 struct cc_err *err)
{
        struct source s = { .file = file };
        CC_FREE char *lock_path = NULL;
        CC_FREE char *blob = NULL;
        CC_CLOSE int lock = -1;
        bool made = false;
        int r = judge(&s, "the file", err);

        if (r == 0)
                r = digest_of_fd(file->fd, s.hex, NULL, err);
        if (r < 0)
                return r;
        blob = layout_cloudimg_blob(env->config, s.hex);
        lock_path = layout_blob_lock(env->config, s.hex);
        /* Held until the record names the blob, so that gc cannot take it in between. */
        r = cc_lock(lock_path, CC_LOCK_EXCLUSIVE, "image", 0, &lock, err);
        if (r == 0)
                r = make_blob(env, reporter, &s, blob, verify, &made, err);
        if (r == 0)
                reporter_phase(reporter, IMAGE_COMMIT);
        if (r == 0)
                r = put_record(env, ref, &s, blob, ret, err);
        if (r < 0 && made) {
                cc_uninterruptible_begin();
                (void)cc_unlink(blob, NULL);
                cc_uninterruptible_end();
        }
        cloud_temp_sweep(env->config);
        if (r == 0)
                reporter_phase(reporter, IMAGE_DONE);
        return r;
}
