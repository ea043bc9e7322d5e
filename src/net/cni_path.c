/* Where CNI plugins are looked for. See cni_path.h. */
#include "net/cni_path.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/fs.h"

void cni_plugin_path(const char *configured, struct cc_strv *ret)
{
        static const char *const usual[] = { "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni" };

        if (configured)
                cc_split(configured, ":", ret);
        for (size_t i = 0; i < CC_ARRAY_LEN(usual); i++)
                if (!cc_strv_has(ret, usual[i]))
                        cc_strv_add(ret, usual[i]);
}

char *cni_plugin_find(const struct cc_strv *path, const char *type)
{
        for (size_t i = 0; i < path->len; i++) {
                char *file = cc_path_join(path->v[i], type);
                struct stat st;

                if (stat(file, &st) == 0 && S_ISREG(st.st_mode))
                        return file;
                free(file);
        }
        return NULL;
}

bool cni_plugin_exists(const struct cc_strv *path, const char *type)
{
        CC_FREE char *file = cni_plugin_find(path, type);

        return file != NULL;
}
