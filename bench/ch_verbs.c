/*
 * What cocoon itself takes for create, start and stop of a VM, against a VMM without latency.
 *
 * Each round does the verbs through the real program, and beside them, bare, what any program would
 * have to do for them: a process that starts and ends, mkfs.ext4 on a sparse file (create), the VMM
 * from its spawn until it says Running (start), and from its power button until it is gone (stop).
 * The figure is the median of a verb's own time, which is its wall time minus that of its floor in
 * the same round; the floor's median stands beside it, and the ratio of whole verb to floor.
 * Usage: ch_verbs ROUNDS COCOON EMPTY DIR; DIR/argv holds the VMM's arguments, one a line. In
 * network and mount namespaces of its own, because a VM gets a network namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/timeutil.h"

extern char **environ;

enum { CREATE, START, STOP, VERBS };

#define MAX_ROUNDS 1000
#define DISK_SIZE  (INT64_C(10) << 30)

static struct {
        int64_t own[MAX_ROUNDS], floor[MAX_ROUNDS], whole[MAX_ROUNDS];
} figures[VERBS];

static void die(const char *what)
{
        (void)fprintf(stderr, "ch_verbs: %s\n", what);
        exit(1);
}

static pid_t spawn(const char *const *argv)
{
        posix_spawn_file_actions_t quiet;
        pid_t pid;

        posix_spawn_file_actions_init(&quiet);
        posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
        if (posix_spawnp(&pid, argv[0], &quiet, NULL, (char *const *)argv, environ) != 0)
                die(argv[0]);
        posix_spawn_file_actions_destroy(&quiet);
        return pid;
}

static void wait_for(pid_t pid, const char *what)
{
        int status;

        if (waitpid(pid, &status, 0) != pid || status != 0)
                die(what);
}

static int64_t timed(const char *const *argv)
{
        int64_t start = cc_monotonic();

        wait_for(spawn(argv), argv[0]);
        return cc_monotonic() - start;
}

static void sparse_file(const char *path)
{
        CC_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0)
                die(path);
}

static int64_t mkfs_floor(const char *disk)
{
        const char *const argv[] = { "mkfs.ext4",
                                     "-F",
                                     "-m",
                                     "0",
                                     "-q",
                                     "-E",
                                     "lazy_itable_init=1,lazy_journal_init=1,discard",
                                     disk,
                                     NULL };

        sparse_file(disk);
        return timed(argv);
}

static bool call(const char *socket, const char *method, const char *target, const char *wanted)
{
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };

        return cc_http_unix(socket, method, target, NULL, 5000, &reply, NULL) == 0 &&
               (!wanted || (reply.body.len && strstr(reply.body.data, wanted)));
}

/* The VMM bare: until it runs, and from its power button until it is gone. */
static void vmm_floor(const struct cc_strv *argv, const char *socket, int64_t *start, int64_t *stop)
{
        int64_t begin = cc_monotonic();
        pid_t pid = spawn((const char *const *)argv->v);

        while (!call(socket, "GET", "/api/v1/vm.info", "Running")) {
                if (cc_monotonic() - begin > 10 * CC_NSEC_PER_SEC)
                        die("the bare VMM does not run");
                (void)usleep(100);
        }
        *start = cc_monotonic() - begin;
        begin = cc_monotonic();
        (void)call(socket, "PUT", "/api/v1/vm.power-button", NULL);
        wait_for(pid, argv->v[0]);
        *stop = cc_monotonic() - begin;
}

static int by_value(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a;
        int64_t y = *(const int64_t *)b;

        return x < y ? -1 : x > y;
}

static double median_ms(int64_t *v, int n)
{
        size_t middle = (size_t)n / 2;

        qsort(v, (size_t)n, sizeof(*v), by_value);
        return (double)v[middle] / 1e6;
}

static void enter_namespaces(void)
{
        (void)mkdir("/run/netns", 0755);
        if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", "/run/netns", "tmpfs", 0, NULL) < 0)
                die("cannot enter namespaces");
}

static void load_argv(const char *dir, const char *socket, struct cc_strv *ret)
{
        CC_FREE char *path = cc_path_join(dir, "argv");
        CC_FREE char *text = NULL;
        char *save = NULL;

        if (cc_read_file(path, 1 << 20, &text, NULL, NULL) < 0)
                die(path);
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                /* What debug gives to a terminal belongs to the PTY of a real start. */
                cc_strv_add(ret, strcmp(line, "tty") == 0 ? "pty" : line);
                if (ret->len == 1) {
                        cc_strv_add(ret, "--api-socket");
                        cc_strv_add(ret, socket);
                }
        }
}

int main(int argc, char **argv)
{
        static const char *const names[VERBS] = { "ch.create", "ch.start", "ch.stop" };
        long long wanted = 0;
        int rounds;
        CC_STRV struct cc_strv vmm = { 0 };
        CC_FREE char *socket = argc == 5 ? cc_path_join(argv[4], "floor.sock") : NULL;
        CC_FREE char *disk = argc == 5 ? cc_path_join(argv[4], "cow.raw") : NULL;

        if (argc != 5 || cc_parse_i64(argv[1], &wanted) < 0 || wanted < 1 || wanted >= MAX_ROUNDS)
                die("usage: ch_verbs ROUNDS COCOON EMPTY DIR");
        rounds = (int)wanted;
        enter_namespaces();
        load_argv(argv[4], socket, &vmm);
        if (vmm.len == 0)
                die("no arguments for the VMM");
        for (int i = -1; i < rounds; i++) {
                const char *const cocoon[VERBS][14] = {
                        { argv[2], "vm", "create", "--name", "bench", "--cpu", "1", "--memory",
                          "512M", "--nics", "0", "tiny", NULL },
                        { argv[2], "vm", "start", "bench", NULL },
                        { argv[2], "vm", "stop", "bench", NULL },
                };
                const char *const rm[] = { argv[2], "vm", "rm", "bench", NULL };
                const char *const empty[] = { argv[3], NULL };
                int64_t floor[VERBS];

                floor[CREATE] = mkfs_floor(disk);
                vmm_floor(&vmm, socket, &floor[START], &floor[STOP]);
                for (int v = 0; v < VERBS; v++) {
                        int64_t whole = timed(cocoon[v]);

                        floor[v] += timed(empty);
                        if (i < 0)
                                continue;
                        figures[v].whole[i] = whole;
                        figures[v].floor[i] = floor[v];
                        figures[v].own[i] = whole - floor[v];
                }
                (void)timed(rm);
        }
        for (int v = 0; v < VERBS; v++) {
                double own = median_ms(figures[v].own, rounds);
                double floor = median_ms(figures[v].floor, rounds);

                (void)printf("%s\t%.3f\tms\t%.3f\t%.2f\n", names[v], own, floor,
                             median_ms(figures[v].whole, rounds) / floor);
        }
        return 0;
}
