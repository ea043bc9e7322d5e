/* Digests by libcrypto. See digest.h. */
#include "snap/archive/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/str.h"

#define BUFFER ((size_t)1 << 20)

struct digest {
        EVP_MD_CTX *md;
};

struct digest *digest_new(void)
{
        struct digest *d = xcalloc(1, sizeof(*d));

        d->md = EVP_MD_CTX_new();
        if (!d->md || EVP_DigestInit_ex(d->md, EVP_sha256(), NULL) != 1)
                abort(); /* out of memory, or a libcrypto without SHA-256 */
        return d;
}

void digest_add(struct digest *d, const void *data, size_t n)
{
        if (d)
                (void)EVP_DigestUpdate(d->md, data, n);
}

void digest_hex(struct digest *d, char ret[65])
{
        unsigned char bytes[32];

        (void)EVP_DigestFinal_ex(d->md, bytes, NULL);
        cc_hex(bytes, sizeof(bytes), ret);
}

void digest_free(struct digest *d)
{
        if (!d)
                return;
        EVP_MD_CTX_free(d->md);
        free(d);
}

int digest_file(int fd, char ret[65], struct cc_err *err)
{
        CC_FREE char *buf = xmalloc(BUFFER);
        struct digest *d = digest_new();
        off_t off = 0;
        int r = 0;

        for (;;) {
                ssize_t n = pread(fd, buf, BUFFER, off);

                if (cc_interrupted())
                        r = cc_fail(err, CC_CANCELED, "interrupted");
                else if (n < 0 && errno != EINTR)
                        r = cc_fail_errno(err, errno, "read");
                if (r < 0 || n == 0)
                        break;
                if (n > 0) {
                        digest_add(d, buf, (size_t)n);
                        off += n;
                }
        }
        if (r == 0)
                digest_hex(d, ret);
        digest_free(d);
        return r;
}
