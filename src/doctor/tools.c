/* The programs that cocoon runs, its own modules, the firmware that users bring. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/module.h"
#include "base/proc.h"
#include "config/layout.h"
#include "doctor/internal.h"

#define INSTALL_MS (10 * 60 * 1000)

/* Package names: of Debian and its kin, of Fedora and its kin. */
static const struct tool {
        const char *name;
        enum doctor_verdict missing;
        const char *deb, *rpm;
} tools[] = {
        { "qemu-img", DOCTOR_FAIL, "qemu-utils", "qemu-img" },
        { "mkfs.ext4", DOCTOR_FAIL, "e2fsprogs", "e2fsprogs" },
        { "zstd", DOCTOR_WARN, "zstd", "zstd" },
};

void doctor_modules(struct doctor *d)
{
        static const char *const names[] = { "image", "net", "snap" };
        size_t n = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                struct cc_err why = CC_ERR_INIT;
                const void *module;

                if (cc_module_open(names[i], &module, &why) == 0)
                        n++;
                else
                        doctor_say(d, DOCTOR_FAIL, *why.hint ? why.hint : NULL, "%s", why.msg);
        }
        if (n == CC_ARRAY_LEN(names))
                doctor_say(d, DOCTOR_PASS, NULL, "image, net, snap");
}

void doctor_tools(struct doctor *d)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(tools); i++) {
                CC_FREE char *path = cc_find_program(tools[i].name);

                if (path)
                        doctor_say(d, DOCTOR_PASS, NULL, "%s", path);
                else
                        doctor_say(d, tools[i].missing, "\"cocoon doctor --fix\" installs it",
                                   "%s is not installed", tools[i].name);
        }
}

static const struct manager {
        const char *name, *update; /* update: NULL it does so by itself */
        size_t package;            /* offset of its package names in struct tool */
} managers[] = {
        { "apt-get", "update", offsetof(struct tool, deb) },
        { "dnf", NULL, offsetof(struct tool, rpm) },
        { "yum", NULL, offsetof(struct tool, rpm) },
};

static int install(const struct manager *m, struct cc_err *err)
{
        const char *argv[4 + CC_ARRAY_LEN(tools)] = { m->name, "install", "-y" };
        const char *const update[] = { m->name, m->update, NULL };
        size_t n = 3;

        for (size_t i = 0; i < CC_ARRAY_LEN(tools); i++) {
                CC_FREE char *path = cc_find_program(tools[i].name);

                if (!path)
                        argv[n++] = *(const char *const *)((const char *)&tools[i] + m->package);
        }
        if (n == 3)
                return 0;
        /* Lists that are out of date are no reason not to try. */
        if (m->update)
                (void)cc_run_ok(update, INSTALL_MS, NULL, NULL);
        return cc_run_ok(argv, INSTALL_MS, NULL, err);
}

int doctor_tools_fix(struct doctor *d, struct cc_err *err)
{
        (void)d;
        /* No questions: nobody is there to answer them. */
        (void)setenv("DEBIAN_FRONTEND", "noninteractive", 1);
        for (size_t i = 0; i < CC_ARRAY_LEN(managers); i++) {
                CC_FREE char *path = cc_find_program(managers[i].name);

                if (path)
                        return install(&managers[i], err);
        }
        return cc_fail(err, CC_UNAVAILABLE, "neither apt-get nor dnf nor yum is here");
}

void doctor_firmware(struct doctor *d)
{
        CC_FREE char *dir = layout_firmware_dir(d->config);
        CC_FREE char *path = cc_path_join(dir, "CLOUDHV.fd");

        if (cc_is_valid_file(path))
                doctor_say(d, DOCTOR_PASS, NULL, "%s", path);
        else
                doctor_say(d, DOCTOR_WARN, "only UEFI guests of Cloud Hypervisor need it",
                           "%s is missing", path);
}
