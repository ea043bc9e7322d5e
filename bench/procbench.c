/*
 * Time short-lived processes: N interleaved runs of a command and of its floor, the first round
 * dropped. Wall time from before the spawn to after the wait, and peak resident memory.
 * Usage: procbench NAME MEMORY-NAME|- ROUNDS -- COMMAND... -- FLOOR...
 * Prints `name median unit floor ratio`, tab-separated; NAME "-" leaves the time out.
 * Small on purpose: a child's peak memory starts at what its parent held when it was spawned.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define MAX_ROUNDS 10000

struct side {
        char **argv;
        int64_t ns[MAX_ROUNDS];
        int64_t kib[MAX_ROUNDS];
};

static struct side sides[2];

static int64_t now(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void run(struct side *s, int round, posix_spawn_file_actions_t *quiet)
{
        struct rusage use;
        int64_t start = now();
        int status;
        pid_t pid;

        if (posix_spawnp(&pid, s->argv[0], quiet, NULL, s->argv, environ) != 0 ||
            wait4(pid, &status, 0, &use) != pid) {
                (void)fprintf(stderr, "procbench: cannot run %s\n", s->argv[0]);
                exit(1);
        }
        s->ns[round] = now() - start;
        s->kib[round] = use.ru_maxrss;
        if (status != 0) {
                (void)fprintf(stderr, "procbench: %s ended with status %d\n", s->argv[0], status);
                exit(1);
        }
}

static int by_value(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a;
        int64_t y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

static double median(int64_t *v, int n)
{
        qsort(v, (size_t)n, sizeof(*v), by_value);
        int upper = n / 2;
        int lower = n % 2 ? upper : upper - 1;

        return (double)(v[lower] + v[upper]) / 2;
}

static void print(const char *name, double value, const char *unit, double floor_value)
{
        (void)printf("%s\t%.3f\t%s\t%.3f\t%.2f\n", name, value, unit, floor_value,
                     value / floor_value);
}

int main(int argc, char **argv)
{
        posix_spawn_file_actions_t quiet;
        int rounds = argc > 4 ? (int)strtol(argv[3], NULL, 10) : 0;
        int second = 5;

        while (second < argc && strcmp(argv[second], "--") != 0)
                second++;
        if (rounds < 30 || rounds >= MAX_ROUNDS || strcmp(argv[4], "--") != 0 || second == 5 ||
            second + 1 >= argc) {
                (void)fprintf(stderr, "usage: procbench NAME MEMORY-NAME|- ROUNDS (>= 30) -- "
                                      "COMMAND... -- FLOOR...\n");
                return 2;
        }
        argv[second] = NULL;
        sides[0].argv = argv + 5;
        sides[1].argv = argv + second + 1;
        if (posix_spawn_file_actions_init(&quiet) != 0 ||
            posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0) != 0 ||
            posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0) != 0)
                return 1;
        /* Round 0 warms the page cache and is overwritten. */
        for (int i = 0; i <= rounds; i++)
                for (int side = 0; side < 2; side++)
                        run(&sides[side], i ? i - 1 : 0, &quiet);
        if (strcmp(argv[1], "-") != 0)
                print(argv[1], median(sides[0].ns, rounds) / 1e6, "ms",
                      median(sides[1].ns, rounds) / 1e6);
        if (strcmp(argv[2], "-") != 0)
                print(argv[2], median(sides[0].kib, rounds) / 1024, "MiB",
                      median(sides[1].kib, rounds) / 1024);
        return 0;
}
