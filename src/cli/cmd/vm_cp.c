/*
 * cocoon vm cp: files and directories in and out of a guest, by its agent (cli.md §11.8).
 *
 * What travels is a tar stream between tar(1) here and tar(1) there, because every guest has one
 * and it keeps modes, links and holes. Each side unpacks into a directory of its own beside the
 * target and renames: a copy is there whole or not at all. What comes out of a guest is not
 * trusted: here it must be files, directories and links, nothing else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/proc.h"
#include "cli/guest.h"

/* $1 target, $2 name of what comes. */
static const char put_script[] =
        "if [ -d \"$1\" ]; then exec tar -x -f - -C \"$1\"; fi\n"
        "case $1 in */) echo \"$1: no such directory\" >&2; exit 1; esac\n"
        "t=$(mktemp -d \"$(dirname \"$1\")/.cocoon-cp-XXXXXX\") || exit 1\n"
        "tar -x -f - -C \"$t\" && mv \"$t/$2\" \"$1\"; r=$?\n"
        "rm -rf \"$t\"; exit $r\n";

/* $1 directory of the source, $2 its name. */
static const char get_script[] = "cd \"$1\" && exec tar -c -f - \"./$2\"\n";

struct options {
        int64_t connect_timeout;
};

/* One side of a copy. */
struct place {
        const char *vm; /* reference, of n bytes; NULL: here */
        int vm_len;
        const char *path;
        bool stream; /* "-" */
};

struct copy {
        struct cli *cli;
        struct place from, to;
        struct vm_agent agent;
        char *dir, *name; /* of the source */
        char *temp;       /* where it is unpacked, beside a local target */
        int64_t connect_timeout;
};

static void copy_clear(struct copy *c)
{
        if (c->temp)
                (void)cc_rm_rf(c->temp, NULL);
        vm_agent_clear(&c->agent);
        free(c->dir);
        free(c->name);
        free(c->temp);
}

static struct place place_of(const char *text)
{
        const char *colon = strchr(text, ':');
        const char *slash = strchr(text, '/');

        if (!colon || colon == text || (slash && slash < colon))
                return (struct place){ .path = text, .stream = cc_streq(text, "-") };
        return (struct place){ .vm = text, .vm_len = (int)(colon - text), .path = colon + 1 };
}

/* "/a/b/" is b in /a. */
static int split_source(struct copy *c, struct cc_err *err)
{
        const char *path = c->from.path;
        size_t n = strlen(path);
        size_t start;

        while (n > 1 && path[n - 1] == '/')
                n--;
        for (start = n; start > 0 && path[start - 1] != '/'; start--)
                ;
        c->name = xstrndup(path + start, n - start);
        if (!*c->name || cc_streq(c->name, ".") || cc_streq(c->name, ".."))
                return cc_fail(err, CC_USAGE, "cp: \"%s\" does not name a file or directory", path);
        c->dir = start == 0   ? xstrdup(c->from.vm ? "/" : ".")
                 : start == 1 ? xstrdup("/")
                              : xstrndup(path, start - 1);
        return 0;
}

static int check(struct copy *c, struct cc_err *err)
{
        const char *far = c->from.vm ? c->from.path : c->to.path;

        if (!c->from.vm == !c->to.vm)
                return cc_fail(err, CC_USAGE,
                               "cp: exactly one of source and target must be in a VM "
                               "(VM:PATH)");
        if (!*far || !cc_utf8_valid(far, strlen(far)))
                return cc_fail(err, CC_USAGE, "cp: \"%s\" is not a path in a guest", far);
        return c->from.stream ? 0 : split_source(c, err);
}

/* ---- sessions ---- */

static int guest(struct copy *c, const char *const *argv, int fd_in, int fd_out, struct cc_err *err)
{
        const struct guest_flags flags = { .connect_timeout = c->connect_timeout };
        AGENT_CONN struct agent_conn conn = AGENT_CONN_INIT;
        CC_BUF struct cc_buf said = { 0 };
        struct agent_exec x = {
                .argv = argv, .fd_in = fd_in, .fd_out = fd_out, .fd_err = -1, .err_text = &said
        };
        struct agent_result result = { 0 };
        int r = guest_dial(&c->agent, &flags, true, &conn, err);

        if (r == 0)
                r = agent_exec(&conn, &x, &result, err);
        if (r == 0 && result.code != 0) {
                const char *text = said.data ? said.data : "";

                return cc_fail(err, CC_IO, "in the guest: %.*s (code %d)", (int)strcspn(text, "\n"),
                               text, result.code);
        }
        return r;
}

static int start_tar(const char *const *argv, int fd_in, int fd_out, pid_t *ret, struct cc_err *err)
{
        const struct cc_spawn spec = {
                .argv = argv, .cwd = ".", .fd_in = fd_in, .fd_out = fd_out, .fd_err = STDERR_FILENO
        };

        return cc_spawn(&spec, ret, NULL, err);
}

/* Both its ends are closed by us, so that it ends. */
static int await_tar(pid_t pid, int r, struct cc_err *err)
{
        int status = 0;

        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (r == 0 && status != 0)
                return cc_fail(err, CC_IO, "tar failed");
        return r;
}

static int put(struct copy *c, struct cc_err *err)
{
        CC_FREE char *member = c->name ? xasprintf("./%s", c->name) : NULL;
        const char *const tar[] = { "tar", "-C", c->dir, "-c", "-f", "-", "--", member, NULL };
        const char *const argv[] = { "sh", "-c", put_script, "sh", c->to.path, c->name, NULL };
        const char *const stream[] = { "tar", "-x", "-f", "-", "-C", c->to.path, NULL };
        int ends[2];
        pid_t pid;
        int r;

        if (c->from.stream)
                return guest(c, stream, STDIN_FILENO, -1, err);
        if (faccessat(AT_FDCWD, c->from.path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return cc_fail_errno(err, errno, "%s", c->from.path);
        if (pipe2(ends, O_CLOEXEC) < 0)
                return cc_fail_errno(err, errno, "pipe");
        r = start_tar(tar, -1, ends[1], &pid, err);
        close(ends[1]);
        if (r < 0) {
                close(ends[0]);
                return r;
        }
        r = guest(c, argv, ends[0], -1, err);
        close(ends[0]);
        return await_tar(pid, r, err);
}

/* ---- out of a guest ---- */

static int judge(int dir, const char *name, int depth, struct cc_err *err)
{
        struct stat st;
        struct dirent *e;
        CC_DIR DIR *d = NULL;
        int fd;
        int r = 0;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return cc_fail_errno(err, errno, "%s", name);
        if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
                return 0;
        if (!S_ISDIR(st.st_mode) || depth > 256)
                return cc_fail(err, CC_INVALID, "%s: neither file, directory nor link", name);
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        d = fd < 0 ? NULL : fdopendir(fd);
        if (!d) {
                r = cc_fail_errno(err, errno, "%s", name);
                if (fd >= 0)
                        close(fd);
                return r;
        }
        while (r == 0 && (e = readdir(d)))
                if (!cc_streq(e->d_name, ".") && !cc_streq(e->d_name, ".."))
                        r = judge(dirfd(d), e->d_name, depth + 1, err);
        return r;
}

/* Where it goes: into an existing directory, or to the name given. Caller frees. */
static char *target_of(const struct copy *c)
{
        struct stat st;

        if (stat(c->to.path, &st) == 0 && S_ISDIR(st.st_mode))
                return cc_path_join(c->to.path, c->name);
        return xstrdup(c->to.path);
}

static int make_temp(struct copy *c, const char *target, struct cc_err *err)
{
        size_t n = (size_t)(cc_basename(target) - target);
        char *temp = xasprintf("%.*s.cocoon-cp-XXXXXX", (int)n, target);

        if (!mkdtemp(temp)) {
                int r = cc_fail_errno(err, errno, "create %s", temp);

                free(temp);
                return r;
        }
        c->temp = temp;
        return 0;
}

static int unpack(struct copy *c, const char *const *argv, struct cc_err *err)
{
        const char *const tar[] = {
                "tar", "-C", c->temp, "--no-same-owner", "-x", "-f", "-", NULL
        };
        int ends[2];
        pid_t pid;
        int r;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return cc_fail_errno(err, errno, "pipe");
        r = start_tar(tar, ends[0], -1, &pid, err);
        close(ends[0]);
        if (r < 0) {
                close(ends[1]);
                return r;
        }
        r = guest(c, argv, -1, ends[1], err);
        close(ends[1]);
        return await_tar(pid, r, err);
}

static int get(struct copy *c, struct cc_err *err)
{
        const char *const argv[] = { "sh", "-c", get_script, "sh", c->dir, c->name, NULL };
        CC_FREE char *target = NULL;
        CC_FREE char *got = NULL;
        int r;

        if (c->to.stream)
                return guest(c, argv, -1, STDOUT_FILENO, err);
        target = target_of(c);
        if (!*cc_basename(target))
                return cc_fail(err, CC_NOT_FOUND, "%s: no such directory", c->to.path);
        r = make_temp(c, target, err);
        if (r == 0)
                r = unpack(c, argv, err);
        if (r < 0)
                return r;
        got = cc_path_join(c->temp, c->name);
        r = judge(AT_FDCWD, got, 0, err);
        if (r == 0 && rename(got, target) < 0)
                r = cc_fail_errno(err, errno, "%s", target);
        return r;
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct options *o = opts;
        CC_CLEANUP(copy_clear)
        struct copy c = { .cli = cli,
                          .from = place_of(cli->args[0]),
                          .to = place_of(cli->args[1]),
                          .connect_timeout = o->connect_timeout };
        const struct place *far = c.from.vm ? &c.from : &c.to;
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_FREE char *ref = NULL;
        int r = check(&c, err);

        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        ref = xstrndup(far->vm, (size_t)far->vm_len);
        r = cli_vm_get(cli, &e, ref, &vm, err);
        if (r < 0)
                return r;
        engine_close(&e);
        r = vm_agent_find(&cli->config, &vm, &c.agent, err);
        if (r == 0)
                r = c.from.vm ? get(&c, err) : put(&c, err);
        if (r == -CC_CANCELED && cc_interrupt_signal())
                cli->exit_code = guest_signal_code();
        return r < 0 ? cc_wrap(err, "cp") : 0;
}

static const struct opt rows[] = {
        { .name = "connect-timeout",
          .type = OPT_DURATION,
          .offset = offsetof(struct options, connect_timeout),
          .metavar = "DURATION",
          .help = "how long to try an agent that does not answer" },
        { 0 },
};

static const struct opt_group groups[] = { { rows, 0, NULL }, { 0 } };

const struct cmd cmd_vm_cp = {
        .path = "vm cp",
        .args = "SRC DST",
        .min = 2,
        .max = 2,
        .help = "Copy files and directories into or out of a virtual machine",
        .long_help =
                "One of both is VM:PATH. A target that is a directory gets the source under its "
                "name, another target becomes the source. Modes, times and links are kept. A dash "
                "is a tar stream on standard input or output. The guest needs its agent, a shell "
                "and tar.",
        .examples = "cocoon vm cp site web-1:/srv\n"
                    "cocoon vm cp web-1:/var/log/syslog .\n"
                    "cocoon vm cp web-1:/etc - | tar t\n",
        .opts = groups,
        .size = sizeof(struct options),
        .complete = COMPLETE_VM_RUNNING,
        .run = run,
};
