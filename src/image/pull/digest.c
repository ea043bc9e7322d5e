/* SHA-256 over libcrypto. See digest.h. */
#include "image/pull/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/str.h"

struct digest {
        EVP_MD_CTX *ctx;
};

enum { CHUNK = 1 << 18 };

/* SHA-256 in libcrypto fails only without memory or with a broken installation; both end us like a
 * failed allocation does, since going on would mean unverified data. */
static void must(int ok)
{
        if (ok != 1) {
                (void)fprintf(stderr, "cocoon: libcrypto has no working SHA-256\n");
                abort();
        }
}

struct digest *digest_new(void)
{
        struct digest *d = xcalloc(1, sizeof(*d));

        d->ctx = EVP_MD_CTX_new();
        must(d->ctx != NULL);
        must(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
        return d;
}

void digest_free(struct digest *d)
{
        if (!d)
                return;
        EVP_MD_CTX_free(d->ctx);
        free(d);
}

void digest_freep(struct digest **d)
{
        digest_free(*d);
}

void digest_add(struct digest *d, const void *data, size_t n)
{
        must(EVP_DigestUpdate(d->ctx, data, n));
}

void digest_hex(struct digest *d, char out[DIGEST_HEX_LEN + 1])
{
        unsigned char raw[EVP_MAX_MD_SIZE];
        unsigned n = 0;

        must(EVP_DigestFinal_ex(d->ctx, raw, &n));
        cc_hex(raw, n, out);
}

void digest_of(const void *data, size_t n, char out[DIGEST_HEX_LEN + 1])
{
        DIGEST struct digest *d = digest_new();

        digest_add(d, data, n);
        digest_hex(d, out);
}

int digest_of_fd(int fd, char out[DIGEST_HEX_LEN + 1], int64_t *ret_size, struct cc_err *err)
{
        DIGEST struct digest *d = digest_new();
        CC_FREE char *buf = xmalloc(CHUNK);
        int64_t off = 0;

        for (;;) {
                ssize_t n = pread(fd, buf, CHUNK, off);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return cc_fail_errno(err, errno, "read");
                if (n == 0)
                        break;
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "canceled");
                digest_add(d, buf, (size_t)n);
                off += n;
        }
        digest_hex(d, out);
        if (ret_size)
                *ret_size = off;
        return 0;
}

int digest_of_file(const char *path, char out[DIGEST_HEX_LEN + 1], struct cc_err *err)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        return digest_of_fd(fd, out, NULL, err);
}

bool digest_valid(const char *text)
{
        return text && cc_startswith(text, "sha256:") && cc_is_hex(text + 7, DIGEST_HEX_LEN);
}
