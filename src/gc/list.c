/* Small tools of the modules: candidate lists, sorted sets, directory names, sizes, ages. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "gc/internal.h"

void gc_list_add(struct gc_list *l, const char *id, const char *reason, char *path)
{
        l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
        l->v[l->n++] = (struct gc_candidate){ .id = xstrdup(id), .reason = reason, .path = path };
}

void gc_list_clear(struct gc_list *l)
{
        for (size_t i = 0; i < l->n; i++) {
                free(l->v[i].id);
                free(l->v[i].path);
        }
        free(l->v);
        *l = (struct gc_list){ 0 };
}

static int compare(const void *a, const void *b)
{
        return strcmp(a, *(char *const *)b);
}

bool gc_has(const struct cc_strv *sorted, const char *key)
{
        return sorted->len && bsearch(key, sorted->v, sorted->len, sizeof(*sorted->v), compare);
}

int gc_names(const char *dir, struct cc_strv *ret, struct cc_err *err)
{
        CC_DIR DIR *d = opendir(dir);
        const struct dirent *entry;

        if (!d) {
                if (errno == ENOENT)
                        return 0;
                return cc_fail_errno(err, errno, "read directory %s", dir);
        }
        while (errno = 0, (entry = readdir(d)))
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        cc_strv_add(ret, entry->d_name);
        if (errno)
                return cc_fail_errno(err, errno, "read directory %s", dir);
        cc_strv_sort(ret);
        return 0;
}

bool gc_old(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && st.st_mtime < time(NULL) - 3600;
}

int gc_lock(const char *path, int *ret, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        int r = cc_lock_try(path, CC_LOCK_EXCLUSIVE, "gc", ret, &why);

        if (r == -CC_BUSY)
                return 0;
        return r < 0 ? cc_err_copy(err, &why) : 1;
}
