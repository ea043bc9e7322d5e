/*
 * image pull URL (images.md §3). One process at a time works on a URL: it holds a lock named by the
 * URL's digest, in which the partial download is kept too. Whoever waited for it finds the record,
 * or the parts to go on from.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "config/layout.h"
#include "image/pull/cloud.h"
#include "image/pull/sniff.h"
#include "image/pull/url.h"

enum { URL_MAX = 2048, KEY_LEN = 16 };

struct job {
        const struct image_env *env;
        const char *url;
        struct cancel cancel;
        struct reporter reporter;
        struct cloud_temp file; /* as sent */
        struct cloud_temp disk; /* uncompressed, if it was compressed */
        char *journal;
        bool keep; /* the download, for the next call */
};

static void job_free(struct job *j)
{
        cloud_temp_free(&j->disk);
        if (j->keep)
                free(TAKE_PTR(j->file.path));
        else if (j->journal)
                (void)cc_unlink(j->journal, NULL);
        cloud_temp_free(&j->file);
        free(j->journal);
        reporter_free(&j->reporter);
        cancel_free(&j->cancel);
}

static int check_url(const char *url, struct cc_err *err)
{
        size_t n = strlen(url);

        if (n > URL_MAX)
                return cc_fail(err, CC_INVALID, "the URL has %zu characters, more than %d", n,
                               URL_MAX);
        for (size_t i = 0; i < n; i++)
                if (url[i] <= ' ' || url[i] > '~')
                        return cc_fail(err, CC_INVALID,
                                       "the URL has a blank or a character outside ASCII");
        return 0;
}

static void on_bytes(void *ctx, int64_t bytes, int64_t total)
{
        reporter_transfer(ctx, IMAGE_DOWNLOAD, bytes, total);
}

/* The file is complete and open after this; what is resumable stays behind on a failure. */
static int download(struct job *j, bool anew, struct cc_err *err)
{
        CC_FREE char *temp = layout_cloudimg_temp(j->env->config);
        CC_FREE char *path = NULL;
        char hex[DIGEST_HEX_LEN + 1];
        struct url_fetch f = {
                .config = j->env->config,
                .cancel = &j->cancel,
                .url = j->url,
                .progress = on_bytes,
                .ctx = &j->reporter,
        };
        int r = cc_mkdir_p(temp, 0750, err);

        if (r < 0)
                return r;
        digest_of(j->url, strlen(j->url), hex);
        path = xasprintf("%s/pull-%.*s.img", temp, KEY_LEN, hex);
        j->journal = xasprintf("%s/pull-%.*s.journal", temp, KEY_LEN, hex);
        if (anew) {
                (void)cc_unlink(j->journal, NULL);
                (void)cc_unlink(path, NULL);
        }
        f.path = path;
        f.journal = j->journal;
        r = url_fetch(&f, &j->keep, err);
        if (r < 0)
                return r;
        j->file.path = TAKE_PTR(path);
        j->file.fd = open(j->file.path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (j->file.fd < 0)
                return cc_fail_errno(err, errno, "open %s", j->file.path);
        /* For those who look for leftovers; nobody else knows the name. */
        (void)flock(j->file.fd, LOCK_EX | LOCK_NB);
        return 0;
}

struct fd_source {
        int fd;
        off_t at;
        struct cancel *cancel;
};

static int read_source(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct fd_source *s = ctx;

        for (;;) {
                ssize_t r = pread(s->fd, buf, n, s->at);

                if (cancel_pending(s->cancel))
                        return cc_fail(err, CC_CANCELED, "canceled");
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return cc_fail_errno(err, errno, "read the download");
                s->at += r;
                *ret = (size_t)r;
                return 0;
        }
}

/* gzip, xz and zstd are taken off; *ret is the disk image either way. */
static int unwrap(struct job *j, const struct cloud_temp **ret, struct cc_err *err)
{
        struct fd_source source = { .fd = j->file.fd, .cancel = &j->cancel };
        INFLATE struct inflate *s = NULL;
        uint8_t head[SNIFF_MAGIC_LEN];
        ssize_t n = pread(j->file.fd, head, sizeof(head), 0);
        enum sniff kind;
        int r;

        if (n < 0)
                return cc_fail_errno(err, errno, "read %s", j->file.path);
        kind = sniff_bytes(head, (size_t)n);
        if (kind != SNIFF_GZIP && kind != SNIFF_XZ && kind != SNIFF_ZSTD) {
                *ret = &j->file;
                return 0;
        }
        r = cloud_temp_create(j->env->config, "pull", &j->disk, err);
        if (r == 0)
                r = inflate_open(INFLATE_DISK, read_source, &source, "the download", &s, err);
        if (r == 0)
                r = cloud_temp_inflate(j->env->config, &j->disk, 0, s, &j->reporter, err);
        if (r < 0)
                return r;
        cloud_temp_free(&j->file); /* its space may be needed to convert */
        *ret = &j->disk;
        return 0;
}

static int run(struct job *j, bool force, struct image_record *ret, bool *ret_same,
               struct cc_err *err)
{
        CC_FREE char *lock_path = NULL;
        CC_CLOSE int lock = -1;
        char hex[DIGEST_HEX_LEN + 1];
        const struct cloud_temp *disk = NULL;
        int r = check_url(j->url, err);

        if (r == 0 && !force)
                r = cloud_current(j->env, j->url, ret, ret_same, err);
        if (r < 0 || *ret_same)
                return r;
        digest_of(j->url, strlen(j->url), hex);
        lock_path = layout_blob_lock(j->env->config, hex);
        r = cc_lock(lock_path, CC_LOCK_EXCLUSIVE, "image", 0, &lock, err);
        /* The one we waited for may have made it. Forced, we want a download that began after the
         * request. */
        if (r == 0 && !force)
                r = cloud_current(j->env, j->url, ret, ret_same, err);
        if (r < 0 || *ret_same)
                return r;
        reporter_phase(&j->reporter, IMAGE_RESOLVE);
        r = download(j, force, err);
        if (r == 0)
                r = unwrap(j, &disk, err);
        if (r == 0)
                r = cloud_commit(j->env, &j->reporter, j->url, disk, force, ret, err);
        /* Whoever pressed Ctrl-C while it was converted need not fetch it again. */
        if (r == -CC_CANCELED && j->file.path && cc_exists(j->journal))
                j->keep = true;
        return r;
}

int cloud_pull(const struct image_env *env, const char *url, bool force, struct image_record *ret,
               bool *ret_unchanged, struct cc_err *err)
{
        CC_CLEANUP(job_free)
        struct job j = { .env = env, .url = url, .file = CLOUD_TEMP_INIT, .disk = CLOUD_TEMP_INIT };
        bool same = false;
        int r;

        cancel_init(&j.cancel);
        reporter_init(&j.reporter, env, 0);
        r = run(&j, force, ret, &same, err);
        if (r == 0 && ret_unchanged)
                *ret_unchanged = same;
        return r;
}
