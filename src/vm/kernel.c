/*
 * The kernel that a driver can load. Images hold a compressed vmlinuz; for a driver that boots only
 * an uncompressed ELF file, that is extracted once per image, to `vmlinux` beside it, where every
 * later start finds it. The directory is the image's: it goes when the image's blobs go.
 */
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "image/module.h"
#include "vm/internal.h"

#define CACHED_NAME "vmlinux"
#define SOURCE_NAME "vmlinuz"

/* More program headers than any kernel has. */
#define MAX_SEGMENTS 64

static bool later(const struct timespec *a, const struct timespec *b)
{
        return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

static bool has_elf_magic(const char *path)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        char magic[SELFMAG];

        return fd >= 0 && cc_pread_all(fd, magic, sizeof(magic), 0, NULL) == 0 &&
               memcmp(magic, ELFMAG, SELFMAG) == 0;
}

/* An ELF file with all the bytes that its segments need: what is cut short is no kernel. */
static bool is_whole_elf(int fd, off_t size)
{
        Elf64_Ehdr h;
        Elf64_Phdr p;
        uint64_t end = (uint64_t)size;

        if (cc_pread_all(fd, &h, sizeof(h), 0, NULL) < 0 || memcmp(h.e_ident, ELFMAG, SELFMAG) != 0)
                return false;
        if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_phentsize != sizeof(p) || h.e_phnum == 0 ||
            h.e_phnum > MAX_SEGMENTS || h.e_phoff > end)
                return false;
        for (unsigned i = 0; i < h.e_phnum; i++) {
                off_t at = (off_t)h.e_phoff + (off_t)(i * sizeof(p));

                if (cc_pread_all(fd, &p, sizeof(p), at, NULL) < 0 || p.p_offset > end ||
                    p.p_filesz > end - p.p_offset)
                        return false;
        }
        return true;
}

/* Made from this very source, as far as a file can tell. */
static bool is_fresh(const char *cached, const char *source)
{
        CC_CLOSE int fd = open(cached, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct stat mine;
        struct stat theirs;

        if (fd < 0 || fstat(fd, &mine) < 0 || !S_ISREG(mine.st_mode))
                return false;
        if (stat(source, &theirs) == 0 && later(&theirs.st_mtim, &mine.st_mtim))
                return false;
        return is_whole_elf(fd, mine.st_size);
}

static int extract(const char *source, const char *cached, struct cc_err *err)
{
        const struct image_module *module;
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
        struct stat mine;
        struct stat theirs;
        const void *opened;
        int r = cc_module_open("image", &opened, err);

        if (r < 0)
                return r;
        module = opened;
        r = module->vmlinux(source, cached, err);
        if (r < 0)
                return r;
        /* A source from a clock ahead of ours must not look newer for ever. */
        if (stat(source, &theirs) == 0 && stat(cached, &mine) == 0 &&
            later(&theirs.st_mtim, &mine.st_mtim)) {
                times[1] = theirs.st_mtim;
                (void)utimensat(AT_FDCWD, cached, times, 0);
        }
        return 0;
}

int vm_kernel_ready(const struct hv_driver *drv, struct vm_record *vm, struct cc_err *err)
{
        const char *path = vm->boot_config.kernel_path;
        CC_FREE char *dir = NULL;
        CC_FREE char *cached = NULL;
        CC_FREE char *source = NULL;
        int r = 0;

        if (!(drv->caps & HV_CAP_ELF_KERNEL) || cc_isempty(path))
                return 0;
        dir = xstrndup(path, (size_t)(cc_basename(path) - path));
        cached = xasprintf("%s" CACHED_NAME, dir);
        source = cc_streq(path, cached) ? xasprintf("%s" SOURCE_NAME, dir) : xstrdup(path);
        if (has_elf_magic(source)) {
                cc_strset(&vm->boot_config.kernel_path, source);
                return 0;
        }
        if (!is_fresh(cached, source))
                r = extract(source, cached, err);
        if (r == 0)
                cc_strset(&vm->boot_config.kernel_path, cached);
        return r;
}
