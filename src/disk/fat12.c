/*
 * A FAT12 volume, written in one go. See fat12.h.
 *
 * sector 0        boot sector with the BIOS parameter block
 * sectors 1-6     first file allocation table, 7-12 its copy
 * sectors 13-20   root directory: label, then per file its long-name entries and the short entry
 * sectors 21-2047 clusters of one sector each, numbered from 2
 *
 * Geometry and order are those of images.md §8: a volume is swapped under a restored guest, so all
 * must have the same size and layout.
 */
#include "disk/fat12.h"

#include <string.h>

#include "base/str.h"

enum {
        SECTOR = 512,
        SECTORS = FAT12_IMAGE_SIZE / SECTOR,
        RESERVED = 1,
        FATS = 2,
        FAT_SECTORS = 6,
        ROOT_ENTRIES = 128,
        ENTRY = 32,
        ROOT_SECTOR = RESERVED + FATS * FAT_SECTORS,
        DATA_SECTOR = ROOT_SECTOR + ROOT_ENTRIES * ENTRY / SECTOR,
        CLUSTERS = SECTORS - DATA_SECTOR,
        FIRST_CLUSTER = 2,
        MEDIA = 0xf8,
        END_OF_CHAIN = 0xfff,

        ATTR_LABEL = 0x08,
        ATTR_ARCHIVE = 0x20,
        ATTR_LONG_NAME = 0x0f,
        LAST_LONG_ENTRY = 0x40,
        LONG_NAME_CHARS = 13,
        NAME_MAX_LEN = 64,
        LABEL_LEN = 11,
        MAX_ALIASES = 9,
};

struct volume {
        uint8_t *image;
        size_t entries;        /* used in the root directory */
        unsigned next_cluster; /* first free one */
};

static void put16(uint8_t *p, unsigned v)
{
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
        put16(p, v & 0xffff);
        put16(p + 2, v >> 16);
}

/* A field of fixed length, padded with blanks. */
static void put_text(uint8_t *p, const char *s, size_t n)
{
        for (size_t i = 0; i < n; i++)
                p[i] = *s ? (uint8_t)*s++ : ' ';
}

static void write_boot_sector(uint8_t *b, const char *label, uint32_t serial)
{
        static const uint8_t jump[] = { 0xeb, 0x3c, 0x90 };

        memcpy(b, jump, sizeof(jump));
        put_text(b + 3, "COCOON", 8);
        put16(b + 11, SECTOR);
        b[13] = 1; /* sectors in a cluster */
        put16(b + 14, RESERVED);
        b[16] = FATS;
        put16(b + 17, ROOT_ENTRIES);
        put16(b + 19, SECTORS);
        b[21] = MEDIA;
        put16(b + 22, FAT_SECTORS);
        put16(b + 24, 32); /* sectors in a track, and heads: nobody looks, some tools divide */
        put16(b + 26, 2);
        b[36] = 0x80; /* drive */
        b[38] = 0x29; /* serial, label and type follow */
        put32(b + 39, serial);
        put_text(b + 43, label, LABEL_LEN);
        put_text(b + 54, "FAT12", 8);
        b[510] = 0x55;
        b[511] = 0xaa;
}

static void set_fat(struct volume *v, unsigned cluster, unsigned value)
{
        for (unsigned copy = 0; copy < FATS; copy++) {
                uint8_t *fat = v->image + (RESERVED + copy * FAT_SECTORS) * SECTOR;
                uint8_t *p = fat + cluster * 3 / 2;

                if (cluster % 2) {
                        p[0] = (uint8_t)((p[0] & 0x0f) | (value & 0x0f) << 4);
                        p[1] = (uint8_t)(value >> 4);
                } else {
                        p[0] = (uint8_t)value;
                        p[1] = (uint8_t)((p[1] & 0xf0) | value >> 8);
                }
        }
}

static uint8_t *new_entry(struct volume *v)
{
        return v->image + ROOT_SECTOR * SECTOR + ENTRY * v->entries++;
}

static bool name_valid(const char *name)
{
        size_t n = strlen(name);

        if (n == 0 || n > NAME_MAX_LEN)
                return false;
        for (size_t i = 0; i < n; i++)
                if (name[i] <= ' ' || name[i] > '~' || strchr("\"*:<>?|/\\", name[i]))
                        return false;
        return true;
}

static char short_char(char c)
{
        if (c >= 'a' && c <= 'z')
                return (char)(c - 'a' + 'A');
        return strchr("+,;=[]", c) ? '_' : c;
}

/* "META-D~1": up to six characters and a number, and up to three of the extension. */
static void short_name(const char *name, size_t number, char out[LABEL_LEN])
{
        const char *dot = strrchr(name, '.');
        size_t n = 0;

        memset(out, ' ', LABEL_LEN);
        for (const char *p = name; *p && p != dot && n < 6; p++)
                if (*p != '.')
                        out[n++] = short_char(*p);
        out[n++] = '~';
        out[n] = (char)('0' + number);
        if (dot)
                for (n = 0; n < 3 && dot[1 + n]; n++)
                        out[8 + n] = short_char(dot[1 + n]);
}

static uint8_t checksum(const char short_name[LABEL_LEN])
{
        uint8_t sum = 0;

        for (size_t i = 0; i < LABEL_LEN; i++)
                sum = (uint8_t)((sum << 7 | sum >> 1) + (uint8_t)short_name[i]);
        return sum;
}

/* Thirteen UCS-2 characters an entry, the end of the name first, ended by 0 and filled with ff. */
static void write_long_name(struct volume *v, const char *name, uint8_t sum)
{
        static const uint8_t at[LONG_NAME_CHARS] = {
                1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30
        };
        size_t len = strlen(name);
        size_t n = (len + LONG_NAME_CHARS - 1) / LONG_NAME_CHARS;

        for (size_t i = n; i-- > 0;) {
                uint8_t *e = new_entry(v);

                e[0] = (uint8_t)(i + 1);
                if (i == n - 1)
                        e[0] |= LAST_LONG_ENTRY;
                e[11] = ATTR_LONG_NAME;
                e[13] = sum;
                for (size_t k = 0; k < LONG_NAME_CHARS; k++) {
                        size_t pos = i * LONG_NAME_CHARS + k;

                        put16(e + at[k], pos < len    ? (unsigned char)name[pos]
                                         : pos == len ? 0
                                                      : 0xffff);
                }
        }
}

static unsigned write_data(struct volume *v, const struct fat12_file *f)
{
        unsigned first = f->len ? v->next_cluster : 0;

        for (size_t done = 0; done < f->len; done += SECTOR) {
                unsigned cluster = v->next_cluster++;
                size_t n = f->len - done < SECTOR ? f->len - done : SECTOR;

                memcpy(v->image + (DATA_SECTOR + cluster - FIRST_CLUSTER) * SECTOR,
                       (const uint8_t *)f->data + done, n);
                set_fat(v, cluster, done + n < f->len ? cluster + 1 : END_OF_CHAIN);
        }
        return first;
}

static int add_file(struct volume *v, const struct fat12_file *files, size_t i, struct cc_err *err)
{
        const struct fat12_file *f = &files[i];
        size_t left = CLUSTERS - (v->next_cluster - FIRST_CLUSTER);
        size_t long_entries;
        char alias[LABEL_LEN];
        size_t number = 1;
        uint8_t *e;

        if (!name_valid(f->name))
                return cc_fail(err, CC_INVALID, "seed volume: bad file name");
        long_entries = (strlen(f->name) + LONG_NAME_CHARS - 1) / LONG_NAME_CHARS;
        if (v->entries + long_entries + 1 > ROOT_ENTRIES ||
            f->len / SECTOR + (f->len % SECTOR != 0) > left)
                return cc_fail(err, CC_INVALID,
                               "seed volume: %s does not fit (%zu bytes, %zu are left)", f->name,
                               f->len, left * SECTOR);
        for (size_t k = 0; k < i; k++) {
                char other[LABEL_LEN];

                short_name(files[k].name, number, other);
                short_name(f->name, number, alias);
                number += memcmp(other, alias, LABEL_LEN) == 0 ? 1 : 0;
        }
        if (number > MAX_ALIASES)
                return cc_fail(err, CC_INVALID, "seed volume: too many names like %s", f->name);
        short_name(f->name, number, alias);
        write_long_name(v, f->name, checksum(alias));
        e = new_entry(v);
        memcpy(e, alias, LABEL_LEN);
        e[11] = ATTR_ARCHIVE;
        put16(e + 26, write_data(v, f));
        put32(e + 28, (uint32_t)f->len);
        return 0;
}

int fat12_write(const struct fat12_file *files, size_t n, const char *label, uint32_t serial,
                uint8_t *image, struct cc_err *err)
{
        struct volume v = { .image = image, .next_cluster = FIRST_CLUSTER };
        uint8_t *e;
        int r = 0;

        if (!name_valid(label) || strlen(label) > LABEL_LEN)
                return cc_fail(err, CC_INVALID, "seed volume: bad label");
        memset(image, 0, FAT12_IMAGE_SIZE);
        write_boot_sector(image, label, serial);
        set_fat(&v, 0, 0xf00 | MEDIA);
        set_fat(&v, 1, END_OF_CHAIN);
        e = new_entry(&v);
        put_text(e, label, LABEL_LEN);
        e[11] = ATTR_LABEL;
        for (size_t i = 0; i < n && r == 0; i++)
                r = add_file(&v, files, i, err);
        return r;
}
