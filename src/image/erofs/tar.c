/* Tar entries into the writer. See tar.h. */
#include "image/erofs/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/str.h"
#include "image/erofs/acl.h"
#include "image/erofs/globals.h"

/* Extended headers of one entry. libarchive takes 32 of a MiB each; real ones are a few KiB. */
#define MAX_HEADERS ((size_t)4 << 20)

struct tar {
        struct erofs_writer *w;
        erofs_source_fn source;
        void *ctx;
        struct archive *a;
        struct cc_err *err;
        bool failed; /* the source failed: *err is set already */
        unsigned long long skipped;

        /* What libarchive was lent last, and where in the archive that is. */
        const uint8_t *chunk;
        size_t chunk_len;
        uint64_t chunk_at;
        bool ended; /* no more of them */
        bool cut;   /* the archive, behind the data of its last member */

        /* The headers of the entry that is being read: where they begin, and those of them that
         * lie before the chunk. */
        bool in_headers;
        uint64_t headers_at;
        struct cc_buf headers;
        struct pax_attrs globals, attrs; /* attrs: of the entry */
};

/* Keep the headers up to `end`, which lies in the chunk. */
static int keep_headers(struct tar *t, uint64_t end)
{
        uint64_t from = t->headers_at + t->headers.len;

        if (from < t->chunk_at || end > t->chunk_at + t->chunk_len)
                return cc_fail(t->err, CC_INTERNAL, "lost track of the tar headers");
        if (end > from)
                cc_buf_add(&t->headers, t->chunk + (from - t->chunk_at), (size_t)(end - from));
        if (t->headers.len > MAX_HEADERS)
                return cc_fail(t->err, CC_INVALID, "extended headers of one entry exceed %zu MiB",
                               MAX_HEADERS >> 20);
        return 0;
}

static la_ssize_t read_source(struct archive *a, void *ctx, const void **ret)
{
        struct tar *t = ctx;
        size_t n = 0;

        *ret = NULL;
        t->failed |= t->in_headers && keep_headers(t, t->chunk_at + t->chunk_len) < 0;
        if (t->failed || t->source(t->ctx, ret, &n, t->err) < 0) {
                t->failed = true;
                archive_set_error(a, EIO, "source failed");
                return -1;
        }
        t->chunk_at += t->chunk_len;
        t->chunk = *ret;
        t->chunk_len = n;
        t->ended = n == 0;
        return (la_ssize_t)n;
}

/* What libarchive leaves out of the headers it has just read. */
static int read_pax(struct tar *t)
{
        uint64_t end = (uint64_t)archive_filter_bytes(t->a, 0);
        const uint8_t *p = t->chunk + (t->headers_at - t->chunk_at);

        if (t->headers.len || t->headers_at < t->chunk_at || end > t->chunk_at + t->chunk_len) {
                int r = keep_headers(t, end);

                if (r < 0)
                        return r;
                p = (const uint8_t *)t->headers.data;
        }
        return pax_read(p, (size_t)(end - t->headers_at), &t->globals, &t->attrs, t->err);
}

static int damaged(struct tar *t, const char *what)
{
        const char *why = archive_error_string(t->a);

        if (t->failed)
                return -(int)t->err->class;
        return cc_fail(t->err, CC_INVALID, "%s: %s", what, why ? why : "not a tar archive");
}

/* Entry names are bytes; in messages only printable ASCII is shown. */
static int blame(struct tar *t, const char *path)
{
        char shown[161];
        size_t n = 0;

        for (; n < sizeof(shown) - 1 && path[n]; n++)
                shown[n] = path[n] >= 0x20 && path[n] < 0x7f ? path[n] : '?';
        shown[n] = '\0';
        return cc_wrap(t->err, "entry \"%s\"", shown);
}

/* What a whiteout name in the last component asks for. */
enum marker { MARKER_NONE, MARKER_WHITEOUT, MARKER_OPAQUE, MARKER_IGNORE };

static enum marker marker_of(const char *name)
{
        if (!cc_startswith(name, ".wh."))
                return MARKER_NONE;
        if (strcmp(name, ".wh..wh..opq") == 0)
                return MARKER_OPAQUE;
        return cc_startswith(name, ".wh..wh.") ? MARKER_IGNORE : MARKER_WHITEOUT;
}

static bool has_dotdot(const char *path)
{
        for (const char *p = path; *p;) {
                size_t n;

                p += strspn(p, "/");
                n = strcspn(p, "/");
                if (n == 2 && p[0] == '.' && p[1] == '.')
                        return true;
                p += n;
        }
        return false;
}

static int add_marker(struct tar *t, const char *path, enum marker marker)
{
        const char *slash = strrchr(path, '/');
        CC_FREE char *dir = xstrndup(path, slash ? (size_t)(slash - path) : 0);
        const char *name = slash ? slash + 1 : path;

        if (has_dotdot(dir))
                return cc_fail(t->err, CC_INVALID, "path leaves the layer: \"..\"");
        if (marker == MARKER_OPAQUE)
                return erofs_writer_opaque(t->w, dir, t->err);
        return erofs_writer_whiteout(t->w, dir, name + strlen(".wh."), t->err);
}

static int add_data(struct tar *t, uint64_t size)
{
        uint64_t done = 0;

        for (;;) {
                const void *data;
                size_t n;
                la_int64_t off;
                int r = archive_read_data_block(t->a, &data, &n, &off);

                if (r == ARCHIVE_EOF)
                        return 0;
                /* Only the last block's padding is missing: some tools end their layers so, and
                 * container runtimes take them. */
                if (r != ARCHIVE_OK && r != ARCHIVE_WARN && t->ended && done == size) {
                        t->cut = true;
                        return 0;
                }
                if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
                        return damaged(t, "data");
                if (off < 0)
                        return cc_fail(t->err, CC_INVALID, "negative offset");
                r = n ? erofs_writer_data(t->w, data, n, (uint64_t)off, t->err) : 0;
                if (r < 0)
                        return r;
                done = (uint64_t)off + n;
        }
}

/* Collects pointers into the entry and, for ACLs, into `acl`. */
static size_t collect_xattrs(struct archive_entry *ae, struct cc_buf acl[2],
                             struct erofs_xattr **ret, mode_t *mode)
{
        static const struct {
                int type;
                const char *name;
        } kinds[] = {
                { ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access" },
                { ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default" },
        };
        int count = archive_entry_xattr_reset(ae);
        struct erofs_xattr *x = xcalloc((size_t)(count > 0 ? count : 0) + 3, sizeof(*x));
        size_t n = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(kinds); i++) {
                if (!acl_encode(ae, kinds[i].type, mode, &acl[i]))
                        continue;
                x[n++] = (struct erofs_xattr){ kinds[i].name, acl[i].data, acl[i].len };
        }
        while (archive_entry_xattr_next(ae, &x[n].name, &x[n].value, &x[n].size) == ARCHIVE_OK)
                if (n < (size_t)count + 2 && x[n].name)
                        n++;
        *ret = x;
        return n;
}

static int owner(const struct tar *t, struct archive_entry *ae, struct erofs_entry *e)
{
        la_int64_t uid = t->attrs.has_uid ? t->attrs.uid : archive_entry_uid(ae);
        la_int64_t gid = t->attrs.has_gid ? t->attrs.gid : archive_entry_gid(ae);

        if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
                return cc_fail(t->err, CC_INVALID, "owner out of range");
        e->uid = (uint32_t)uid;
        e->gid = (uint32_t)gid;
        return 0;
}

static int add_entry(struct tar *t, struct archive_entry *ae, const char *path)
{
        const char *link = archive_entry_hardlink(ae);
        struct erofs_entry e = {
                .path = path,
                .mode = archive_entry_mode(ae),
                .mtime = archive_entry_mtime(ae),
                .mtime_nsec = (uint32_t)archive_entry_mtime_nsec(ae),
                .target = link ? link : archive_entry_symlink(ae),
                .hardlink = link != NULL,
        };
        CC_BUF struct cc_buf access_acl = { 0 };
        CC_BUF struct cc_buf default_acl = { 0 };
        struct cc_buf acl[2] = { { 0 }, { 0 } };
        CC_FREE struct erofs_xattr *xattrs = NULL;
        int r;

        if (!e.hardlink) {
                r = owner(t, ae, &e);
                if (r < 0)
                        return r;
                if (t->attrs.has_mtime) {
                        e.mtime = t->attrs.mtime;
                        e.mtime_nsec = t->attrs.mtime_nsec;
                }
                if (S_ISREG(e.mode)) {
                        if (archive_entry_size(ae) < 0)
                                return cc_fail(t->err, CC_INVALID, "negative size");
                        e.size = (uint64_t)archive_entry_size(ae);
                }
                if (S_ISCHR(e.mode) || S_ISBLK(e.mode)) {
                        /* Wider than ours: what does not fit must not be cut to what does. */
                        dev_t major = archive_entry_rdevmajor(ae);
                        dev_t minor = archive_entry_rdevminor(ae);

                        e.major = major < UINT32_MAX ? (uint32_t)major : UINT32_MAX;
                        e.minor = minor < UINT32_MAX ? (uint32_t)minor : UINT32_MAX;
                }
                e.n_xattrs = collect_xattrs(ae, acl, &xattrs, &e.mode);
                e.xattrs = xattrs;
        }
        access_acl = acl[0];
        default_acl = acl[1];
        r = erofs_writer_entry(t->w, &e, t->err);
        /* A hard link may carry data in old formats; the first name's data is what counts. */
        if (r < 0 || e.hardlink || !S_ISREG(e.mode))
                return r;
        return add_data(t, e.size);
}

static bool known_type(const struct tar *t, struct archive_entry *ae)
{
        if (t->attrs.is_socket)
                return false;
        if (archive_entry_hardlink(ae))
                return true;
        switch (archive_entry_filetype(ae)) {
        case AE_IFREG:
        case AE_IFDIR:
        case AE_IFLNK:
        case AE_IFCHR:
        case AE_IFBLK:
        case AE_IFIFO:
                return true;
        default:
                return false;
        }
}

static int one_entry(struct tar *t, struct archive_entry *ae)
{
        const char *raw = archive_entry_pathname(ae);
        CC_FREE char *path = NULL;
        const char *slash;
        enum marker marker;
        size_t n;
        int r = 0;

        if (!raw)
                return cc_fail(t->err, CC_INVALID, "entry without a name");
        n = strlen(raw);
        while (n && raw[n - 1] == '/')
                n--;
        if (n >= PATH_MAX) {
                (void)cc_fail(t->err, CC_INVALID, "path longer than %d bytes", PATH_MAX - 1);
                return blame(t, raw);
        }
        path = xstrndup(raw, n);
        slash = strrchr(path, '/');
        marker = marker_of(slash ? slash + 1 : path);
        if (marker == MARKER_WHITEOUT || marker == MARKER_OPAQUE)
                r = add_marker(t, path, marker);
        else if (marker == MARKER_NONE && known_type(t, ae))
                r = add_entry(t, ae, path);
        else if (marker == MARKER_NONE)
                t->skipped++;
        return r < 0 ? blame(t, path) : 0;
}

static int drain(struct tar *t)
{
        const void *bytes;
        size_t n;
        int r;

        do
                r = t->source(t->ctx, &bytes, &n, t->err);
        while (r == 0 && n);
        return r;
}

/* *ret NULL: the end. */
static int next_entry(struct tar *t, struct archive_entry **ret)
{
        int r;

        /* The first ones were looked at when the archive was opened. */
        if (!t->in_headers) {
                t->headers_at = (uint64_t)archive_filter_bytes(t->a, 0);
                t->headers.len = 0;
                t->in_headers = true;
        }
        r = archive_read_next_header(t->a, ret);
        t->in_headers = false;
        if (r == ARCHIVE_EOF) {
                *ret = NULL;
                return 0;
        }
        /* A damaged header is "retryable" to libarchive: it would skip to the next one. */
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
                return damaged(t, "tar");
        return read_pax(t);
}

static int read_all(struct tar *t)
{
        struct archive_entry *ae = NULL;

        for (;;) {
                int r = next_entry(t, &ae);

                if (r == 0 && !ae)
                        break;
                if (r == 0)
                        r = one_entry(t, ae);
                if (r < 0)
                        return r;
                if (t->cut)
                        break;
                /* What nobody read of it; the next headers begin behind. */
                if (archive_read_data_skip(t->a) < ARCHIVE_WARN)
                        return damaged(t, "data");
        }
        if (t->failed)
                return damaged(t, "tar");
        if (t->skipped)
                cc_warn("image.layer", "skipped %llu sockets and entries of unknown type",
                        t->skipped);
        return drain(t);
}

int erofs_add_tar(struct erofs_writer *w, erofs_source_fn source, void *ctx, struct cc_err *err)
{
        struct cc_err own = CC_ERR_INIT;
        struct tar t = {
                .w = w,
                .source = source,
                .ctx = ctx,
                .a = archive_read_new(),
                .err = err ? err : &own,
                .in_headers = true,
        };
        /* libarchive rewrites names to a UTF-8 locale's normal form: bytes must not depend on that.
         */
        locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        locale_t before = plain ? uselocale(plain) : (locale_t)0;
        int r;

        if (!t.a || !plain)
                r = cc_fail(t.err, CC_INTERNAL, "no archive reader");
        else if (archive_read_support_format_tar(t.a) != ARCHIVE_OK ||
                 archive_read_support_format_empty(t.a) != ARCHIVE_OK ||
                 archive_read_set_options(t.a, "tar:!mac-ext") < ARCHIVE_WARN)
                r = damaged(&t, "tar");
        else if (archive_read_open(t.a, &t, NULL, read_source, NULL) != ARCHIVE_OK)
                r = damaged(&t, "tar");
        else
                r = read_all(&t);
        (void)archive_read_free(t.a);
        cc_buf_free(&t.headers);
        if (plain) {
                (void)uselocale(before);
                freelocale(plain);
        }
        return r;
}

void erofs_uuid(const char *text, uint8_t ret[16])
{
        static const uint8_t namespace_url[16] = { 0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1,
                                                   0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8 };
        CC_BUF struct cc_buf name = { 0 };
        uint8_t digest[EVP_MAX_MD_SIZE];

        cc_buf_add(&name, namespace_url, sizeof(namespace_url));
        cc_buf_str(&name, text);
        /* RFC 4122 names SHA-1 for version 5; it identifies, it does not protect. */
        if (!EVP_Digest(name.data, name.len, digest, NULL, EVP_sha1(), NULL))
                abort();
        memcpy(ret, digest, 16);
        ret[6] = (uint8_t)((ret[6] & 0x0f) | 0x50);
        ret[8] = (uint8_t)((ret[8] & 0x3f) | 0x80);
}
