/* Programs by URL. See tool.h. */
#include "image/pull/tool.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/interrupt.h"
#include "base/str.h"
#include "image/pull/digest.h"
#include "image/pull/http.h"

enum { READ_BLOCK = 1 << 16, MEMBERS_MAX = 4096, TRIES = 3 };

/* ---- fetching ---- */

struct sink {
        int fd;
        int64_t have, max;
        struct digest *digest;
};

static int on_data(void *ctx, const struct http_response *r, const void *data, size_t n,
                   struct cc_err *err)
{
        struct sink *s = ctx;

        (void)r;
        if ((int64_t)n > s->max - s->have)
                return cc_fail(err, CC_CORRUPT, "longer than %lld bytes", (long long)s->max);
        s->have += (int64_t)n;
        digest_add(s->digest, data, n);
        return cc_write_all(s->fd, data, n, err);
}

/* One try, from the start. */
static int fetch(struct http *h, const char *url, const char *sha256, int64_t max, int fd,
                 struct cc_err *err)
{
        DIGEST struct digest *digest = digest_new();
        struct sink sink = { .fd = fd, .max = max, .digest = digest };
        HTTP_RESPONSE struct http_response answer = { 0 };
        struct http_request rq = {
                .url = url,
                .identity = true,
                .sink = on_data,
                .sink_ctx = &sink,
                .allow_http = strncasecmp(url, "http:", 5) == 0,
        };
        char hex[DIGEST_HEX_LEN + 1];
        int r;

        if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
                return cc_fail_errno(err, errno, "rewind");
        r = http_once(h, &rq, &answer, err);
        if (r < 0)
                return r;
        if (answer.status != 200)
                return cc_fail(err, http_status_retryable(answer.status) ? CC_NETWORK : CC_INVALID,
                               "the server answered %ld", answer.status);
        digest_hex(digest, hex);
        if (strcmp(hex, sha256) != 0)
                return cc_fail(err, CC_CORRUPT, "its SHA-256 is %s, expected was %s", hex, sha256);
        return 0;
}

int tool_download(const char *url, const char *sha256, int64_t max, const char *dest,
                  struct cc_err *err)
{
        CC_CLOSE int fd = open(dest, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        struct cancel cancel;
        struct cc_err why = CC_ERR_INIT;
        HTTP struct http *h = NULL;
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", dest);
        cancel_init(&cancel);
        r = http_new(&cancel, &h, &why);
        for (int i = 1; h; i++) {
                why = (struct cc_err)CC_ERR_INIT;
                r = fetch(h, url, sha256, max, fd, &why);
                if ((r != -CC_NETWORK && r != -CC_TIMEOUT) || i == TRIES || !http_backoff(h, i, 0))
                        break;
        }
        http_free(h);
        h = NULL;
        cancel_free(&cancel);
        if (r == 0)
                return 0;
        (void)cc_unlink(dest, NULL);
        cc_err_copy(err, &why);
        return err ? cc_wrap(err, "fetch %s", url) : r;
}

/* ---- unpacking ---- */

static void close_archive(struct archive **a)
{
        if (*a)
                (void)archive_read_free(*a);
}

static int broken(struct archive *a, const char *path, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "%s: %s", path, archive_error_string(a));
}

static int copy_member(struct archive *a, const char *path, int64_t max, int fd, struct cc_err *err)
{
        char block[READ_BLOCK];
        int64_t have = 0;

        for (;;) {
                la_ssize_t n = archive_read_data(a, block, sizeof(block));
                int r;

                if (n == 0)
                        return 0;
                if (n < 0)
                        return broken(a, path, err);
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                have += n;
                if (have > max)
                        return cc_fail(err, CC_INVALID, "%s: a member is longer than %lld bytes",
                                       path, (long long)max);
                r = cc_write_all(fd, block, (size_t)n, err);
                if (r < 0)
                        return r;
        }
}

/* Step to the member: 1 there, 0 none. */
static int seek(struct archive *a, const char *path, const char *name, struct cc_err *err)
{
        struct archive_entry *e;

        for (int i = 0; i < MEMBERS_MAX; i++) {
                int r = archive_read_next_header(a, &e);
                const char *member;

                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
                        return broken(a, path, err);
                member = archive_entry_pathname(e);
                if (member && archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e) &&
                    cc_streq(cc_basename(member), name))
                        return 1;
        }
        return 0;
}

int tool_unpack(const char *path, const char *name, int64_t max, const char *dest,
                struct cc_err *err)
{
        CC_CLEANUP(close_archive) struct archive *a = archive_read_new();
        CC_CLOSE int fd = -1;
        int r;

        if (!a)
                return cc_fail(err, CC_INTERNAL, "start libarchive");
        (void)archive_read_support_format_tar(a);
        (void)archive_read_support_filter_gzip(a);
        if (archive_read_open_filename(a, path, READ_BLOCK) != ARCHIVE_OK)
                return broken(a, path, err);
        r = seek(a, path, name, err);
        if (r == 0)
                return cc_fail(err, CC_NOT_FOUND, "%s has no file %s", path, name);
        if (r < 0)
                return r;
        fd = open(dest, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", dest);
        r = copy_member(a, path, max, fd, err);
        if (r < 0)
                (void)cc_unlink(dest, NULL);
        return r;
}
