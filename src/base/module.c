/* Finding and opening loadable modules. See module.h. */
#include "base/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/str.h"
#include "version.h"

/* The first existing candidate relative to our own binary: an installed tree or a build tree. */
static char *module_path(const char *name)
{
        static const char *const places[] = { "/../lib/cocoon/cocoon-", "/cocoon-" };
        char exe[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
        char *slash;

        if (n <= 0)
                return NULL;
        exe[n] = '\0';
        slash = strrchr(exe, '/');
        if (!slash)
                return NULL;
        *slash = '\0';
        for (size_t i = 0; i < CC_ARRAY_LEN(places); i++) {
                CC_BUF struct cc_buf path = { 0 };

                cc_buf_str(&path, exe);
                cc_buf_str(&path, places[i]);
                cc_buf_str(&path, name);
                cc_buf_str(&path, ".so");
                if (cc_exists(path.data))
                        return cc_buf_take(&path);
        }
        return NULL;
}

int cc_module_open(const char *name, const void **ret, struct cc_err *err)
{
        CC_FREE char *path = module_path(name);
        char symbol[64];
        const struct cc_module_header *header;
        void *handle;

        if (!path)
                return cc_fail(err, CC_UNAVAILABLE, "module cocoon-%s.so is not installed", name);
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (!handle)
                return cc_fail(err, CC_UNAVAILABLE, "open module: %s", dlerror());
        (void)snprintf(symbol, sizeof(symbol), "cocoon_module_%s", name);
        header = dlsym(handle, symbol);
        if (!header)
                return cc_fail(err, CC_UNAVAILABLE, "%s is not a cocoon module", path);
        if (strcmp(header->version, COCOON_VERSION) != 0)
                return cc_fail(err, CC_UNAVAILABLE, "%s has version %s, this is cocoon %s", path,
                               header->version, COCOON_VERSION);
        *ret = header;
        return 0;
}
