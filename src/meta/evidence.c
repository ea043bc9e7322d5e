/* Evidence that a store must have existed: creating an empty one beside VMs, snapshots or images
 * would let gc take everything for orphans (state.md §2). Runs only when there is no store. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "meta/internal.h"

static bool is_id(const char *name)
{
        size_t n = strlen(name);
        char id[CC_ID_LEN + 1];

        if (n != CC_ID_LEN && strcmp(name + (n > CC_ID_LEN ? CC_ID_LEN : n), ".restore-staging"))
                return false;
        memcpy(id, name, CC_ID_LEN);
        id[CC_ID_LEN] = '\0';
        return cc_id_valid(id);
}

static bool is_erofs(const char *name)
{
        return cc_endswith(name, ".erofs");
}

static bool is_qcow2(const char *name)
{
        return cc_endswith(name, ".qcow2");
}

/* The first entry of dir that matches, as a path; NULL if there is none. *r negative when the
 * directory cannot be read: then nothing may be concluded. */
static char *find_entry(const char *dir, bool (*match)(const char *), int *r, struct cc_err *err)
{
        CC_DIR DIR *d = opendir(dir);
        struct dirent *e;

        if (!d) {
                if (errno != ENOENT && errno != ENOTDIR)
                        *r = cc_fail_errno(err, errno, "open %s", dir);
                return NULL;
        }
        while ((e = readdir(d)))
                if (match(e->d_name))
                        return cc_path_join(dir, e->d_name);
        return NULL;
}

bool meta_is_upstream_db(const char *path)
{
        unsigned char head[100];
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        return fd >= 0 && pread(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
               memcmp(head, "SQLite format 3", 16) == 0 &&
               ((unsigned)head[68] << 24 | head[69] << 16 | head[70] << 8 | head[71]) ==
                       META_UPSTREAM_ID;
}

/* A newer upstream store may have any name: look at every regular file two levels deep. */
static char *find_upstream_db(const char *dir, int depth)
{
        CC_DIR DIR *d = opendir(dir);
        struct dirent *e;

        while (d && (e = readdir(d))) {
                CC_FREE char *path = NULL;
                char *hit = NULL;

                /* What an import has put aside is no evidence of anything still to import. */
                if (e->d_name[0] == '.' || strstr(e->d_name, ".converted-"))
                        continue;
                path = cc_path_join(dir, e->d_name);
                if (e->d_type == DT_DIR && depth > 0)
                        hit = find_upstream_db(path, depth - 1);
                else if (e->d_type == DT_REG && meta_is_upstream_db(path))
                        hit = TAKE_PTR(path);
                if (hit)
                        return hit;
        }
        return NULL;
}

char *meta_find_upstream_db(const char *root)
{
        return find_upstream_db(root, 2);
}

static char *find_upstream_index(const char *root)
{
        static const char *const names[] = {
                "cloudhypervisor/db/vms.json", "firecracker/db/vms.json",
                "snapshot/db/snapshots.json",  "cni/db/networks.json",
                "oci/db/images.json",          "cloudimg/db/images.json",
        };
        static const char *const suffix[] = { "", ".prev" };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                for (size_t k = 0; k < CC_ARRAY_LEN(suffix); k++) {
                        CC_FREE char *path = xasprintf("%s/%s%s", root, names[i], suffix[k]);

                        if (cc_is_valid_file(path))
                                return TAKE_PTR(path);
                }
        return meta_find_upstream_db(root);
}

int meta_may_create(const struct meta *m, struct cc_err *err)
{
        const struct {
                const char *base, *sub;
                bool (*match)(const char *);
        } places[] = {
                { m->run_dir, "cloudhypervisor", is_id },
                { m->run_dir, "firecracker", is_id },
                { m->run_dir, "qemu", is_id },
                { m->root, "snapshot/localfile", is_id },
                { m->root, "oci/blobs", is_erofs },
                { m->root, "cloudimg/blobs", is_qcow2 },
        };
        CC_FREE char *wal = xasprintf("%s-wal", m->path);
        CC_FREE char *hit = find_upstream_index(m->root);
        int r = 0;

        if (hit)
                return cc_fail(err, CC_SCHEMA,
                               "no store in %s, but %s holds the records of an older "
                               "installation: run \"cocoon meta import\"",
                               m->dir, hit);
        if (cc_is_valid_file(wal) && !cc_exists(m->path))
                hit = xstrdup(wal);
        for (size_t i = 0; i < CC_ARRAY_LEN(places) && !hit && r == 0; i++) {
                CC_FREE char *dir = cc_path_join(places[i].base, places[i].sub);

                hit = find_entry(dir, places[i].match, &r, err);
        }
        if (hit)
                return cc_fail(err, CC_CORRUPT,
                               "the store %s is missing although %s exists: restore a backup",
                               m->path, hit);
        return r;
}
