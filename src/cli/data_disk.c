/* Parser of --data-disk. See data_disk.h. */
#include "cli/data_disk.h"

#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/size.h"

#define DATA_DISK_MIN (INT64_C(16) << 20)
#define DATA_DISK_MAX                                                                              \
        64 /* more than any driver takes; bounds what one command line makes us do                 \
            */

void data_disks_clear(struct data_disks *d)
{
        for (size_t i = 0; i < d->n; i++) {
                free(d->v[i].name);
                free(d->v[i].fstype);
                free(d->v[i].mount);
        }
        free(d->v);
        memset(d, 0, sizeof(*d));
}

static const struct vm_data_disk *find(const struct data_disks *d, const char *name, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (cc_streq(d->v[i].name, name))
                        return &d->v[i];
        return NULL;
}

static char *trimmed(const char *s, size_t n)
{
        while (n && (*s == ' ' || *s == '\t')) {
                s++;
                n--;
        }
        while (n && (s[n - 1] == ' ' || s[n - 1] == '\t'))
                n--;
        return xstrndup(s, n);
}

static int set_size(struct vm_data_disk *disk, const char *value, struct cc_err *err)
{
        if (cc_size_parse(value, &disk->size) < 0)
                return cc_fail(err, CC_USAGE, "--data-disk: invalid size: '%s'", value);
        if (disk->size < DATA_DISK_MIN)
                return cc_fail(err, CC_USAGE, "--data-disk: size %s below 16MiB minimum", value);
        return 0;
}

static int set_name(struct vm_data_disk *disk, const char *value, struct cc_err *err)
{
        if (!cc_data_disk_name_valid(value))
                return cc_fail(err, CC_USAGE,
                               "--data-disk: invalid name \"%s\": want a lower-case letter, then "
                               "at most 19 of a-z 0-9 _ -, without the prefix cocoon-",
                               value);
        cc_strset(&disk->name, value);
        return 0;
}

static int set_fstype(struct vm_data_disk *disk, const char *value, struct cc_err *err)
{
        if (!cc_streq(value, "ext4") && !cc_streq(value, "none"))
                return cc_fail(err, CC_USAGE, "--data-disk: unsupported fstype \"%s\"", value);
        cc_strset(&disk->fstype, value);
        return 0;
}

static int set_mount(struct vm_data_disk *disk, const char *value, struct cc_err *err)
{
        if (*value && *value != '/')
                return cc_fail(err, CC_USAGE, "--data-disk: mount \"%s\" must be absolute", value);
        for (const char *p = value; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return cc_fail(err, CC_USAGE,
                                       "--data-disk: mount contains a control character");
        cc_strset(&disk->mount, value);
        return 0;
}

static int set_directio(struct vm_data_disk *disk, const char *value, struct cc_err *err)
{
        if (cc_streq(value, "auto"))
                disk->direct_io = -1;
        else if (cc_streq(value, "on") || cc_streq(value, "off"))
                disk->direct_io = cc_streq(value, "on");
        else
                return cc_fail(err, CC_USAGE,
                               "--data-disk: directio \"%s\" is invalid: want \"on\", \"off\" or "
                               "\"auto\"",
                               value);
        return 0;
}

static const struct {
        const char *key;
        int (*set)(struct vm_data_disk *disk, const char *value, struct cc_err *err);
} keys[] = {
        { "size", set_size },   { "name", set_name },         { "fstype", set_fstype },
        { "mount", set_mount }, { "directio", set_directio },
};

static int parse_pair(struct vm_data_disk *disk, const char *text, size_t len, unsigned *seen,
                      struct cc_err *err)
{
        const char *eq = memchr(text, '=', len);
        CC_FREE char *all = trimmed(text, len);
        CC_FREE char *key = NULL;
        CC_FREE char *value = NULL;

        if (!eq)
                return cc_fail(err, CC_USAGE, "--data-disk: \"%s\" is not key=value", all);
        key = trimmed(text, (size_t)(eq - text));
        value = trimmed(eq + 1, len - (size_t)(eq + 1 - text));
        for (size_t i = 0; i < CC_ARRAY_LEN(keys); i++)
                if (cc_streq(keys[i].key, key)) {
                        if (*seen & 1U << i)
                                return cc_fail(err, CC_USAGE, "--data-disk: %s= given twice", key);
                        *seen |= 1U << i;
                        return keys[i].set(disk, value, err);
                }
        return cc_fail(err, CC_USAGE, "--data-disk: unknown key \"%s\"", key);
}

/* Everything that does not depend on the other disks. */
static int parse_spec(struct vm_data_disk *disk, const char *spec, struct cc_err *err)
{
        unsigned seen = 0;

        disk->direct_io = -1;
        for (const char *p = spec;;) {
                size_t len = strcspn(p, ",");
                int r = parse_pair(disk, p, len, &seen, err);

                if (r < 0)
                        return r;
                if (!p[len])
                        break;
                p += len + 1;
        }
        if (!disk->size)
                return cc_fail(err, CC_USAGE, "--data-disk: size= required");
        if (!disk->fstype)
                disk->fstype = xstrdup("ext4");
        if (cc_streq(disk->fstype, "none") && !cc_isempty(disk->mount))
                return cc_fail(err, CC_USAGE,
                               "--data-disk: fstype=none requires an empty mount, got \"%s\"",
                               disk->mount);
        return 0;
}

/* Names and mount points of disks that were given none. */
static void fill_names(struct data_disks *d)
{
        unsigned next = 1;

        for (size_t i = 0; i < d->n; i++) {
                struct vm_data_disk *disk = &d->v[i];

                while (!disk->name) {
                        CC_FREE char *name = xasprintf("data%u", next++);

                        if (!find(d, name, d->n))
                                disk->name = TAKE_PTR(name);
                }
                if (!disk->mount)
                        disk->mount = cc_streq(disk->fstype, "none")
                                              ? xstrdup("")
                                              : xasprintf("/mnt/%s", disk->name);
        }
}

int data_disks_parse(const struct cc_strv *specs, struct data_disks *ret, struct cc_err *err)
{
        DATA_DISKS struct data_disks d = { 0 };

        if (specs->len > DATA_DISK_MAX)
                return cc_fail(err, CC_USAGE, "--data-disk: at most %d disks", DATA_DISK_MAX);
        d.v = xcalloc(specs->len + 1, sizeof(*d.v));
        for (size_t i = 0; i < specs->len; i++) {
                int r = parse_spec(&d.v[d.n++], specs->v[i], err);

                if (r < 0)
                        return r;
                if (d.v[i].name && find(&d, d.v[i].name, i))
                        return cc_fail(err, CC_USAGE, "--data-disk: name \"%s\" duplicated",
                                       d.v[i].name);
        }
        fill_names(&d);
        *ret = d;
        d = (struct data_disks){ 0 };
        return 0;
}
