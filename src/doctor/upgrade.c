/*
 * doctor --upgrade: the programs that distributions do not bring, from a mirror of the projects'
 * release files. Whose mirror, and what its files must be, the user says: the mirror is an address,
 * the pins a list of SHA-256 as sha256sum(1) writes it. A file that is not pinned is not fetched,
 * one that differs is not looked at, and a program that does not tell its version replaces nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/proc.h"
#include "config/layout.h"
#include "doctor/internal.h"

#define FILE_MAX (INT64_C(256) << 20)
#define PINS_MAX (1 << 20)

enum place { PLACE_BIN, PLACE_FIRMWARE, PLACE_CNI };

/* "@" in a path stands for the version. */
static const struct release {
        const char *env, *version;
        const char *path;   /* below the mirror: what follows the host in a release's address */
        const char *member; /* of an archive; NULL: the file itself */
        const char *name;   /* as installed */
        enum place place;
        bool net_admin; /* opens TAP devices itself */
} releases[] = {
        { "CH_VERSION", "53.0",
          "cloud-hypervisor/cloud-hypervisor/releases/download/v@/cloud-hypervisor-static", NULL,
          "cloud-hypervisor", PLACE_BIN, true },
        { "CH_VERSION", "53.0",
          "cloud-hypervisor/cloud-hypervisor/releases/download/v@/ch-remote-static", NULL,
          "ch-remote", PLACE_BIN, false },
        { "FC_VERSION", "1.16.1",
          "firecracker-microvm/firecracker/releases/download/v@/firecracker-v@-x86_64.tgz",
          "firecracker-v@-x86_64", "firecracker", PLACE_BIN, true },
        { "FW_VERSION", "0.5.0",
          "cloud-hypervisor/rust-hypervisor-firmware/releases/download/@/hypervisor-fw", NULL,
          "CLOUDHV.fd", PLACE_FIRMWARE, false },
#define CNI(plugin)                                                                                \
        {                                                                                          \
                "CNI_VERSION", "1.6.2",                                                            \
                        "containernetworking/plugins/releases/download/v@/"                        \
                        "cni-plugins-linux-amd64-v@.tgz",                                          \
                        plugin, plugin, PLACE_CNI, false                                           \
        }
        CNI("bridge"),
        CNI("host-local"),
        CNI("loopback"),
        CNI("portmap"),
        CNI("firewall"),
};

static char *expand(const char *text, const char *version)
{
        CC_BUF struct cc_buf b = { 0 };

        for (; *text; text++)
                if (*text == '@')
                        cc_buf_str(&b, version);
                else
                        cc_buf_char(&b, *text);
        return cc_buf_take(&b);
}

/* The version becomes part of an address and of file names. */
static const char *version_of(const struct release *r)
{
        const char *v = getenv(r->env);

        if (cc_isempty(v))
                return r->version;
        return strspn(v, "0123456789abcdefghijklmnopqrstuvwxyz.-+") == strlen(v) && v[0] != '.'
                       ? v
                       : NULL;
}

/* ---- pins ---- */

/* The digest of `path` in text of "HEX  PATH" lines (a "*" in front of the path, as for binary
 * files, is allowed); false if there is none. */
static bool find_pin(const char *pins, const char *path, char ret[65])
{
        for (const char *line = pins; *line;) {
                size_t n = strcspn(line, "\n");

                if (n > 66 && line[64] == ' ' && (line[65] == ' ' || line[65] == '*') &&
                    n - 66 == strlen(path) && memcmp(line + 66, path, n - 66) == 0) {
                        memcpy(ret, line, 64);
                        ret[64] = '\0';
                        return cc_is_hex(ret, 64);
                }
                line += n;
                if (*line)
                        line++;
        }
        return false;
}

/* ---- one file ---- */

struct job {
        struct doctor *d;
        const struct release *r;
        char *path; /* below the mirror */
        char *dest, *dir;
        char *fetched, *fresh; /* temporary files: as fetched, as to be installed */
        char sha256[65];
};

static void job_clear(struct job *j)
{
        if (j->fetched)
                (void)cc_unlink(j->fetched, NULL);
        if (j->fresh)
                (void)cc_unlink(j->fresh, NULL);
        free(j->path);
        free(j->dest);
        free(j->dir);
        free(j->fetched);
        free(j->fresh);
}

static char *dir_of(const struct doctor *d, enum place place)
{
        CC_STRV struct cc_strv dirs = { 0 };

        if (place == PLACE_FIRMWARE)
                return layout_firmware_dir(d->config);
        if (place == PLACE_BIN)
                return xstrdup(d->options->bin_dir);
        cc_split(d->config->cni_bin_dir, ":", &dirs);
        return xstrdup(dirs.len ? dirs.v[0] : "/opt/cni/bin");
}

static int plan(struct job *j, const char *pins, struct cc_err *err)
{
        const char *version = version_of(j->r);
        char id[CC_ID_LEN + 1];

        if (!version)
                return cc_fail(err, CC_INVALID, "%s is no version", j->r->env);
        cc_id_new(id);
        j->path = expand(j->r->path, version);
        j->dir = dir_of(j->d, j->r->place);
        j->dest = cc_path_join(j->dir, j->r->name);
        j->fetched = xasprintf("%s/.tmp-%.8s-fetched", j->dir, id);
        j->fresh = xasprintf("%s/.tmp-%.8s-%s", j->dir, id, j->r->name);
        if (!find_pin(pins, j->path, j->sha256))
                return cc_fail(err, CC_NOT_FOUND, "no SHA-256 of %s is pinned", j->path);
        return cc_mkdir_p(j->dir, 0755, err);
}

/* The file itself, not one out of an archive, is recognised: nothing to fetch. */
static bool installed(struct job *j, const struct doctor_fetch *how)
{
        char hex[65];

        return !j->r->member && cc_exists(j->dest) && how->digest(j->dest, hex, NULL) == 0 &&
               strcmp(hex, j->sha256) == 0;
}

static int fetch(struct job *j, const struct doctor_fetch *how, struct cc_err *err)
{
        CC_FREE char *url = xasprintf("%s/%s", j->d->options->mirror, j->path);
        CC_FREE char *member = NULL;
        int r;

        cc_info("doctor", "fetching %s", j->path);
        if (!j->r->member)
                return how->download(url, j->sha256, FILE_MAX, j->fresh, err);
        r = how->download(url, j->sha256, FILE_MAX, j->fetched, err);
        if (r < 0)
                return r;
        member = expand(j->r->member, version_of(j->r));
        return how->unpack(j->fetched, member, FILE_MAX, j->fresh, err);
}

/* What does not run here must not replace what does. */
static int try_out(const struct job *j, struct cc_err *err)
{
        const char *const argv[] = { j->fresh, "--version", NULL };

        if (chmod(j->fresh, j->r->place == PLACE_FIRMWARE ? 0644 : 0755) < 0)
                return cc_fail_errno(err, errno, "chmod %s", j->fresh);
        if (j->r->place != PLACE_BIN)
                return 0;
        if (cc_run_ok(argv, 10000, NULL, err) < 0)
                return cc_wrap(err, "the new %s does not run", j->r->name);
        return 0;
}

static void grant(const struct job *j)
{
        const char *const argv[] = { "setcap", "cap_net_admin+ep", j->dest, NULL };

        if (cc_run_ok(argv, 10000, NULL, NULL) < 0)
                doctor_say(j->d, DOCTOR_WARN, "only users other than root need it",
                           "%s: no cap_net_admin (setcap)", j->dest);
}

static int upgrade(struct job *j, const char *pins, const struct doctor_fetch *how, bool *ret_new,
                   struct cc_err *err)
{
        int r = plan(j, pins, err);

        *ret_new = r == 0 && !installed(j, how);
        if (r < 0 || !*ret_new)
                return r;
        r = fetch(j, how, err);
        if (r == 0)
                r = try_out(j, err);
        if (r == 0)
                r = cc_publish_file(j->fresh, j->dest, false, err);
        if (r == 0 && j->r->net_admin)
                grant(j);
        return r;
}

void doctor_upgrade(struct doctor *d, const struct doctor_fetch *how)
{
        CC_FREE char *pins = NULL;
        struct cc_err why = CC_ERR_INIT;
        size_t n;

        d->check = "upgrade";
        if (cc_read_file(d->options->pins, PINS_MAX, &pins, &n, &why) < 0) {
                doctor_say(d, DOCTOR_FAIL, NULL, "%s", why.msg);
                return;
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(releases); i++) {
                CC_CLEANUP(job_clear) struct job j = { .d = d, .r = &releases[i] };
                bool new = false;

                why = (struct cc_err)CC_ERR_INIT;
                if (upgrade(&j, pins, how, &new, &why) < 0)
                        doctor_say(d, why.class == CC_NOT_FOUND ? DOCTOR_WARN : DOCTOR_FAIL, NULL,
                                   "%s: %s", releases[i].name, why.msg);
                else
                        doctor_say(d, DOCTOR_PASS, NULL, "%s%s", j.dest,
                                   new ? "" : " is up to date");
        }
}
