/*
 * Starting Cloud Hypervisor (cloud-hypervisor.md §1.3).
 *
 * Order: clear stale sockets, look everything up, build the machine and its flags, refuse what is
 * missing (files, and TAPs, which the VMM would silently create), fork. The VMM boots by itself.
 * Until the fork nothing needs undoing but files; a start that fails after it ends the process, and
 * the runtime files go (process.c). The caller holds the VM's lock throughout.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "hv/ch/ch.h"
#include "hv/ch/install.h"
#include "hv/launch.h"

static int check_readable(const char *what, const char *path, struct cc_err *err)
{
        if (cc_isempty(path) || access(path, R_OK) == 0)
                return 0;
        return cc_fail_errno(err, errno, "cloud-hypervisor: %s %s", what, path);
}

int ch_check_files(const struct ch_config *c, struct cc_err *err)
{
        int r = check_readable("kernel", c->kernel, err);

        if (r == 0)
                r = check_readable("initrd", c->initramfs, err);
        if (r == 0)
                r = check_readable("firmware", c->firmware, err);
        for (size_t i = 0; r == 0 && i < c->n_disks; i++)
                r = check_readable("disk", c->disks[i].path, err);
        return r;
}

int ch_check_taps(const struct vm_spec *spec, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };

        for (size_t i = 0; i < spec->n_nics; i++)
                cc_strv_add(&names, spec->nics[i].tap);
        return names.len ? hv_taps_check(spec->netns, (const char *const *)names.v, names.len, err)
                         : 0;
}

int ch_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
              struct cc_err *err)
{
        CH_INSTALL struct ch_install install = { 0 };
        CH_HOST_FACTS struct ch_host_facts facts = { 0 };
        CH_CONFIG struct ch_config config = { 0 };
        CC_STRV struct cc_strv argv = { 0 };
        struct ch_host host;
        int r = hv_remove_files(spec->run_dir, ch_runtime_files, err);

        if (r == 0)
                r = ch_install_find(env->binary, env->cache_dir, &install, err);
        if (r < 0)
                return r;
        ch_host_facts(env, spec, &facts, &host);
        r = ch_config_make(spec, &host, &config, err);
        if (r == 0)
                r = ch_config_argv(&config, install.binary, &argv, err);
        if (r == 0)
                r = ch_check_files(&config, err);
        if (r == 0)
                r = ch_check_taps(spec, err);
        return r < 0 ? r : ch_process_start(env, spec, &argv, false, NULL, ret, err);
}

int ch_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
             struct cc_strv *ret_copies, struct cc_err *err)
{
        CH_INSTALL struct ch_install install = { 0 };
        CH_HOST_FACTS struct ch_host_facts facts = { 0 };
        CH_CONFIG struct ch_config config = { 0 };
        struct ch_host host;
        int r = ch_install_find(env->binary, env->cache_dir, &install, err);

        (void)ret_copies;
        if (r < 0)
                return r;
        ch_host_facts(env, spec, &facts, &host);
        r = ch_config_make(spec, &host, &config, err);
        if (r < 0)
                return r;
        ch_config_on_terminal(&config);
        return ch_config_argv(&config, install.binary, ret_argv, err);
}
