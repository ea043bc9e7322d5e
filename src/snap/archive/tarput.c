/* Writing tar headers. See tar.h. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "snap/archive/tar.h"

/* Upstream's reader takes pax blocks of at most 1 MiB. */
#define MAX_MAP   (900 << 10)
#define RANGE_LEN 56 /* {"o":…,"l":…}, with both numbers at their longest */

#define OCTAL_MAX INT64_C(077777777777)

struct header {
        char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
        char link[100], magic[6], version[2], owner[32], group[32], major[8], minor[8];
        char prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "tar header");

static void octal(char *field, size_t n, int64_t v)
{
        char text[24];

        (void)snprintf(text, sizeof(text), "%0*llo", (int)n - 1, (unsigned long long)v);
        memcpy(field, text, n - 1);
}

/* Base 256, for what eleven octal digits cannot hold. */
static void base256(char *field, size_t n, int64_t v)
{
        for (size_t i = n; i-- > 1; v >>= 8)
                field[i] = (char)(v & 0xff);
        field[0] = (char)0x80;
}

static int put_block(struct sink *s, const char *name, char type, unsigned mode, int64_t mtime,
                     int64_t size, struct cc_err *err)
{
        struct header h = { .type = type, .magic = "ustar", .version = { '0', '0' } };
        const unsigned char *p = (const unsigned char *)&h;
        unsigned sum = 0;

        memcpy(h.name, name, strnlen(name, sizeof(h.name)));
        octal(h.mode, sizeof(h.mode), mode);
        octal(h.uid, sizeof(h.uid), 0);
        octal(h.gid, sizeof(h.gid), 0);
        if (size > OCTAL_MAX)
                base256(h.size, sizeof(h.size), size);
        else
                octal(h.size, sizeof(h.size), size);
        octal(h.mtime, sizeof(h.mtime), mtime > 0 && mtime <= OCTAL_MAX ? mtime : 0);
        memset(h.checksum, ' ', sizeof(h.checksum));
        for (size_t i = 0; i < sizeof(h); i++)
                sum += p[i];
        octal(h.checksum, sizeof(h.checksum) - 1, sum);
        h.checksum[6] = '\0';
        return sink_write(s, &h, sizeof(h), err);
}

int tar_put_padding(struct sink *s, int64_t size, struct cc_err *err)
{
        static const char zeroes[TAR_BLOCK];
        size_t over = (size_t)(size % TAR_BLOCK);

        return over ? sink_write(s, zeroes, TAR_BLOCK - over, err) : 0;
}

int tar_put_end(struct sink *s, struct cc_err *err)
{
        static const char zeroes[2 * TAR_BLOCK];

        return sink_write(s, zeroes, sizeof(zeroes), err);
}

/* The length in front counts its own digits. */
static void add_record(struct cc_buf *out, const char *key, const char *value)
{
        size_t n = strlen(key) + strlen(value) + 3; /* blank, '=', newline */
        size_t total = n;
        char text[24];

        for (;;) {
                size_t digits = (size_t)snprintf(text, sizeof(text), "%zu", total);

                if (n + digits == total)
                        break;
                total = n + digits;
        }
        cc_buf_printf(out, "%s %s=", text, key);
        cc_buf_str(out, value);
        cc_buf_char(out, '\n');
}

static char *map_text(const struct tar_file *f)
{
        struct cc_buf out = { 0 };

        cc_buf_char(&out, '[');
        for (size_t i = 0; i < f->n_ranges; i++)
                cc_buf_printf(&out, "%s{\"o\":%lld,\"l\":%lld}", i ? "," : "",
                              (long long)f->ranges[i].offset, (long long)f->ranges[i].length);
        cc_buf_char(&out, ']');
        return cc_buf_take(&out);
}

int tar_put_header(struct sink *s, const struct tar_file *f, struct cc_err *err)
{
        CC_BUF struct cc_buf pax = { 0 };
        CC_FREE char *pax_name = xasprintf("PaxHeaders/%.80s", f->name);
        int64_t size = f->size;
        char number[24];
        int r = 0;

        if (f->sparse) {
                CC_FREE char *map = map_text(f);

                size = 0;
                for (size_t i = 0; i < f->n_ranges; i++)
                        size += f->ranges[i].length;
                add_record(&pax, "COCOON.sparse.map", map);
                (void)snprintf(number, sizeof(number), "%lld", (long long)f->size);
                add_record(&pax, "COCOON.sparse.size", number);
        }
        if (size > OCTAL_MAX) {
                (void)snprintf(number, sizeof(number), "%lld", (long long)size);
                add_record(&pax, "size", number);
        }
        if (pax.len) {
                r = put_block(s, pax_name, 'x', 0644, f->mtime, (int64_t)pax.len, err);
                if (r == 0)
                        r = sink_write(s, pax.data, pax.len, err);
                if (r == 0)
                        r = tar_put_padding(s, (int64_t)pax.len, err);
        }
        return r < 0 ? r : put_block(s, f->name, '0', f->mode, f->mtime, size, err);
}

void tar_fit_ranges(struct tar_range *ranges, size_t *n)
{
        for (int64_t gap = 4096; *n > MAX_MAP / RANGE_LEN; gap *= 2) {
                size_t kept = 0;

                for (size_t i = 1; i < *n; i++) {
                        struct tar_range *last = &ranges[kept];
                        int64_t end = last->offset + last->length;

                        if (ranges[i].offset - end <= gap)
                                last->length = ranges[i].offset + ranges[i].length - last->offset;
                        else
                                ranges[++kept] = ranges[i];
                }
                *n = kept + 1;
        }
}
