/* Finding a VMM's binary and remembering its answers. See binary.h. */
#include "hv/binary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/timeutil.h"

#define MAX_CACHE 16384

void hv_binary_clear(struct hv_binary *b)
{
        free(b->path);
        *b = (struct hv_binary){ 0 };
}

int hv_binary_find(const char *vmm, const char *name, const char *fix, struct hv_binary *ret,
                   struct cc_err *err)
{
        CC_FREE char *path = cc_find_program(name);
        struct stat st;

        if (!path) {
                (void)cc_fail(err, CC_UNAVAILABLE, "%s: %s not found", vmm, name);
                cc_hint(err, "%s", fix);
                return -CC_UNAVAILABLE;
        }
        if (stat(path, &st) < 0)
                return cc_fail_errno(err, errno, "%s: %s", vmm, path);
        *ret = (struct hv_binary){
                .path = TAKE_PTR(path),
                .mtime_ns = st.st_mtim.tv_sec * CC_NSEC_PER_SEC + st.st_mtim.tv_nsec,
                .size = st.st_size,
        };
        return 0;
}

json_t *hv_binary_recall(const struct hv_binary *b, const char *cache_dir, const char *file)
{
        CC_FREE char *path = cc_isempty(cache_dir) ? NULL : cc_path_join(cache_dir, file);
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = NULL;
        const char *binary = NULL;
        int64_t mtime = 0;
        int64_t size = 0;
        size_t n = 0;

        if (!path || cc_read_file(path, MAX_CACHE, &text, &n, NULL) < 0 ||
            cc_json_parse(text, n, path, &j, NULL) < 0 ||
            cc_json_str(j, "binary", &binary, NULL) < 0 ||
            cc_json_int(j, "mtime_ns", &mtime, NULL) < 0 || cc_json_int(j, "size", &size, NULL) < 0)
                return NULL;
        if (!cc_streq(binary, b->path) || mtime != b->mtime_ns || size != b->size)
                return NULL;
        return json_incref(json_object_get(j, "answer"));
}

void hv_binary_remember(const struct hv_binary *b, const char *cache_dir, const char *file,
                        json_t *answer)
{
        CC_FREE char *path = cc_isempty(cache_dir) ? NULL : cc_path_join(cache_dir, file);
        CC_FREE char *text = NULL;
        CC_JSON json_t *j = NULL;

        if (!path || !answer)
                return;
        j = json_pack("{s:s, s:I, s:I, s:O}", "binary", b->path, "mtime_ns",
                      (json_int_t)b->mtime_ns, "size", (json_int_t)b->size, "answer", answer);
        if (!j)
                return; /* a path that is not UTF-8: simply not cached */
        text = cc_json_pretty(j);
        (void)cc_publish(path, text, strlen(text), 0644, NULL);
}
