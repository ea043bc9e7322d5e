/*
 * The guest agent over its unix stand-in: `agent_bench AGENT` starts that program and prints, in
 * the form of bench/run, the round trip of a session that runs `true` beside starting `true` alone
 * (agent.rtt), and what a session carries each way (agent.mibs.out, agent.mibs.in; the -raw ones
 * with binary frames) beside a pipe between two processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/timeutil.h"

#define ROUNDS    200
#define BULK      (INT64_C(512) << 20)
#define BULK_TEXT "536870912"
#define REPEAT    5

extern char **environ;

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a;
        double y = *(const double *)b;

        return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
        qsort(v, n, sizeof(*v), compare);
        return v[n / 2];
}

static double ms_since(int64_t start)
{
        return (double)(cc_monotonic() - start) / 1e6;
}

static void check(int r, const struct cc_err *err)
{
        if (r >= 0)
                return;
        (void)fprintf(stderr, "agent_bench: %s\n", err->msg);
        exit(1);
}

static void session(const struct agent_peer *peer, bool greet, const char *const *argv, int in,
                    int out)
{
        const struct agent_dial how = { .connect_ms = 5000, .greet = greet };
        const struct agent_exec x = { .argv = argv, .fd_in = in, .fd_out = out, .fd_err = -1 };
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        struct agent_result result = { 0 };
        struct cc_err err = CC_ERR_INIT;

        check(agent_dial(peer, &how, &c, &err), &err);
        check(agent_exec(&c, &x, &result, &err), &err);
        if (result.code != 0) {
                (void)fprintf(stderr, "agent_bench: %s ended with %d\n", argv[0], result.code);
                exit(1);
        }
}

static void plain(const char *const *argv, int in, int out)
{
        posix_spawn_file_actions_t a;
        pid_t pid;

        (void)posix_spawn_file_actions_init(&a);
        (void)posix_spawn_file_actions_adddup2(&a, in, 0);
        (void)posix_spawn_file_actions_adddup2(&a, out, 1);
        if (posix_spawnp(&pid, argv[0], &a, NULL, (char *const *)argv, environ) != 0 ||
            waitpid(pid, NULL, 0) < 0)
                exit(1);
        (void)posix_spawn_file_actions_destroy(&a);
}

static void round_trip(const struct agent_peer *peer, int null)
{
        static const char *const argv[] = { "true", NULL };
        double with[ROUNDS] = { 0 };
        double without[ROUNDS] = { 0 };
        double a;
        double b;

        for (int i = -1; i < ROUNDS; i++) {
                int64_t start = cc_monotonic();

                session(peer, false, argv, -1, -1);
                if (i >= 0)
                        with[i] = ms_since(start);
                start = cc_monotonic();
                plain(argv, null, null);
                if (i >= 0)
                        without[i] = ms_since(start);
        }
        a = median(with, ROUNDS);
        b = median(without, ROUNDS);
        (void)printf("agent.rtt\t%.3f\tms\t%.3f\t%.2f\n", a, b, a / b);
        (void)printf("agent.rtt_beyond_start\t%.3f\tms\t-\t-\n", a - b);
}

/* MiB/s of one session with BULK bytes out or in; the floor is a pipe that carries them once. */
static void bulk(const struct agent_peer *peer, const char *name, bool greet, bool in, int null,
                 int zero)
{
        static const char *const out_argv[] = { "head", "-c", BULK_TEXT, "/dev/zero", NULL };
        static const char *const in_argv[] = { "sh", "-c", "cat >/dev/null", NULL };
        static const char *const floor_argv[] = {
                "sh", "-c", "head -c " BULK_TEXT " /dev/zero | cat >/dev/null", NULL
        };
        const char *const *argv = in ? in_argv : out_argv;
        double with[REPEAT] = { 0 };
        double without[REPEAT] = { 0 };
        double mib = (double)(BULK >> 20);
        double a;
        double b;

        for (int i = 0; i < REPEAT; i++) {
                int64_t start = cc_monotonic();

                if (lseek(zero, 0, SEEK_SET) < 0)
                        exit(1);
                session(peer, greet, argv, in ? zero : -1, null);
                with[i] = ms_since(start);
                start = cc_monotonic();
                plain(floor_argv, null, null);
                without[i] = ms_since(start);
        }
        a = mib / median(with, REPEAT) * 1000;
        b = mib / median(without, REPEAT) * 1000;
        (void)printf("%s\t%.0f\tMiB/s\t%.0f\t%.2f\n", name, a, b, a / b);
}

int main(int argc, char **argv)
{
        char dir[] = "/tmp/agent-bench-XXXXXX";
        CC_FREE char *socket = NULL;
        CC_FREE char *file = NULL;
        struct agent_peer peer = { .carrier = AGENT_UNIX, .n = 1 };
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        pid_t pid = -1;
        int zero;

        if (argc != 2 || !mkdtemp(dir))
                return 1;
        socket = cc_path_join(dir, "agent.sock");
        file = cc_path_join(dir, "zeroes");
        zero = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (zero < 0 || ftruncate(zero, BULK) < 0)
                return 1;
        const char *const agent[] = { argv[1], "serve", "--unix", socket, NULL };

        if (posix_spawn(&pid, argv[1], NULL, NULL, (char *const *)agent, environ) != 0)
                return 1;
        peer.sockets[0] = socket;
        round_trip(&peer, null);
        bulk(&peer, "agent.mibs.out", false, false, null, zero);
        bulk(&peer, "agent.mibs.in", false, true, null, zero);
        bulk(&peer, "agent.mibs.out_raw", true, false, null, zero);
        bulk(&peer, "agent.mibs.in_raw", true, true, null, zero);
        (void)kill(pid, SIGTERM);
        (void)waitpid(pid, NULL, 0);
        close(zero);
        close(null);
        (void)cc_rm_rf(dir, NULL);
        return 0;
}
