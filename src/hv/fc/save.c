/*
 * From a running machine to files (firecracker.md §5). Firecracker writes both itself: vmstate with
 * the devices and the paths they were opened by, mem with all of guest memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "hv/fc/api.h"
#include "hv/fc/fc.h"
#include "hv/fc/install.h"
#include "hv/fc/machine.h"

/* Holes smaller than this would only tear the file to pieces. */
enum { PAGE = 4096, CHUNK = 256 * PAGE, MIN_HOLE = 16 * PAGE };

enum hv_file fc_classify(const char *name)
{
        if (strcmp(name, FC_MEMORY) == 0)
                return HV_FILE_MEMORY;
        return strcmp(name, FC_VMSTATE) == 0 ? HV_FILE_STATE : HV_FILE_FOREIGN;
}

int fc_pause(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        int r = fc_set_paused(&api, true, err);

        (void)env;
        return r < 0 ? cc_wrap(err, "firecracker") : 0;
}

/* The drives in the order of their ids, which is the order in which the guest has them. */
static int list_disks(const struct fc_api *api, struct cc_strv *ret, struct cc_err *err)
{
        CC_JSON json_t *config = NULL;
        CC_STRV struct cc_strv paths = { 0 };
        const json_t *drives;
        int r = fc_get_config(api, &config, err);

        if (r < 0)
                return r;
        drives = json_object_get(config, "drives");
        for (size_t i = 0; i < json_array_size(drives); i++) {
                const char *path = NULL;
                char id[32];

                fc_drive_id(i, id);
                for (size_t k = 0; !path && k < json_array_size(drives); k++) {
                        const json_t *d = json_array_get(drives, k);

                        if (cc_streq(json_string_value(json_object_get(d, "drive_id")), id))
                                path = json_string_value(json_object_get(d, "path_on_host"));
                }
                if (!path)
                        return cc_fail(err, CC_INVALID,
                                       "the machine has %zu drives, but no %s with a path",
                                       json_array_size(drives), id);
                cc_strv_add(&paths, path);
        }
        *ret = paths;
        paths = (struct cc_strv){ 0 };
        return 0;
}

static bool is_zero(const char *p, size_t n)
{
        return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static bool punch(int fd, off_t start, off_t end)
{
        return end - start < MIN_HOLE ||
               fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start) == 0;
}

void fc_make_sparse(const char *path)
{
        CC_CLOSE int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        CC_FREE char *buf = xmalloc(CHUNK);
        off_t zero_from = 0;
        off_t at = 0;
        ssize_t n;

        while (fd >= 0 && (n = pread(fd, buf, CHUNK, at)) > 0) {
                for (ssize_t k = 0; k < n; k += PAGE, at += PAGE) {
                        if (n - k >= PAGE && is_zero(buf + k, PAGE))
                                continue;
                        if (!punch(fd, zero_from, at))
                                return;
                        zero_from = at + PAGE;
                }
        }
        if (fd >= 0 && zero_from < at)
                (void)punch(fd, zero_from, at);
}

static int write_files(const struct fc_api *api, const char *dir, struct cc_err *err)
{
        CC_FREE char *state = cc_path_join(dir, FC_VMSTATE);
        CC_FREE char *memory = cc_path_join(dir, FC_MEMORY);
        CC_FREE char *body = NULL;
        CC_JSON json_t *j =
                json_pack("{s:s, s:s}", "snapshot_path", state, "mem_file_path", memory);
        int r;

        if (!j)
                return cc_fail(err, CC_INVALID, "%s is not valid UTF-8", dir);
        body = cc_json_compact(j);
        r = fc_call(api, "PUT", "/snapshot/create", body, FC_MEMORY_MS, false, NULL, err);
        if (r < 0)
                return r;
        if (chmod(state, 0640) < 0 || chmod(memory, 0640) < 0)
                return cc_fail_errno(err, errno, "set mode of the snapshot in %s", dir);
        /* All of guest memory, also what the guest never touched. */
        fc_make_sparse(memory);
        return 0;
}

int fc_capture(const struct hv_env *env, const char *run_dir, const struct vm_proc *proc,
               const char *dir, struct cc_strv *ret_disks, struct cc_err *err)
{
        struct fc_api api = { .run_dir = run_dir, .pidfd = proc->pidfd };
        int r;

        (void)env;
        /* Breaking off the request would not break off the writing. */
        cc_uninterruptible_begin();
        r = list_disks(&api, ret_disks, err);
        if (r == 0)
                r = write_files(&api, dir, err);
        cc_uninterruptible_end();
        return r < 0 ? cc_wrap(err, "firecracker") : 0;
}

/* The kernel that travels by name is the image's own; the command line is made anew from the record
 * (§5). */
static int strip_boot(json_t *boot, struct cc_err *err)
{
        static const char unpacked[] = "/vmlinux";
        const char *kernel = NULL;
        int r;

        if (!json_is_object(boot))
                return 0;
        r = cc_json_str(boot, "kernel_path", &kernel, err);
        if (r < 0)
                return r;
        if (kernel && cc_endswith(kernel, unpacked)) {
                CC_FREE char *path =
                        xasprintf("%.*s/vmlinuz", (int)(strlen(kernel) - strlen(unpacked)), kernel);

                if (cc_exists(path))
                        (void)json_object_set_new(boot, "kernel_path", json_string(path));
        }
        (void)json_object_del(boot, "cmdline");
        return 0;
}

int fc_sidecar(const struct hv_env *env, const char *run_dir, json_t *sidecar, struct cc_err *err)
{
        FC_INSTALL struct fc_install install = { 0 };
        struct fc_api api = { .run_dir = run_dir, .pidfd = -1 };
        CC_JSON json_t *config = NULL;
        char text[32];
        int format[2];
        int r = strip_boot(json_object_get(sidecar, "boot_config"), err);

        if (r == 0)
                r = fc_install_find(env->binary, env->cache_dir, &install, err);
        if (r == 0)
                r = fc_snapshot_format(install.binary, NULL, format, err);
        if (r == 0)
                r = fc_get_config(&api, &config, err);
        if (r < 0)
                return cc_wrap(err, "firecracker");
        (void)snprintf(text, sizeof(text), "v%d.%d", format[0], format[1]);
        (void)json_object_set_new(sidecar, "fc_version", json_string(install.version));
        (void)json_object_set_new(sidecar, "snapshot_version", json_string(text));
        (void)json_object_set_new(sidecar, "vsock",
                                  json_boolean(json_is_object(json_object_get(config, "vsock"))));
        return 0;
}
