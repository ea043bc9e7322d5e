/*
 * Time several commands that belong together, round by round: one line a round with the wall time
 * of each timed command in ms, the first round dropped. What makes up a figure is thus measured
 * under the same load as the figure.
 * Usage: steps ROUNDS [-]COMMAND... [-- [-]COMMAND...]...   ("-" before a program: not timed)
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

#define MAX_COMMANDS 16

static int64_t now(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static double run(char **argv, posix_spawn_file_actions_t *quiet)
{
        const char *program = argv[0][0] == '-' ? argv[0] + 1 : argv[0];
        int64_t start = now();
        int status;
        pid_t pid;

        if (posix_spawnp(&pid, program, quiet, NULL, argv, environ) != 0 ||
            waitpid(pid, &status, 0) != pid || status != 0) {
                (void)fprintf(stderr, "steps: %s failed\n", program);
                exit(1);
        }
        return (double)(now() - start) / 1e6;
}

int main(int argc, char **argv)
{
        posix_spawn_file_actions_t quiet;
        int rounds = argc > 2 ? (int)strtol(argv[1], NULL, 10) : 0;
        char **commands[MAX_COMMANDS];
        int n = 0;

        if (rounds < 1) {
                (void)fprintf(stderr, "usage: steps ROUNDS [-]COMMAND... [-- [-]COMMAND...]...\n");
                return 2;
        }
        for (int i = 2; i < argc; i++) {
                if (strcmp(argv[i], "--") == 0)
                        argv[i] = NULL;
                else if (n < MAX_COMMANDS && (i == 2 || !argv[i - 1]))
                        commands[n++] = argv + i;
        }
        if (posix_spawn_file_actions_init(&quiet) != 0 ||
            posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0) != 0 ||
            posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0) != 0)
                return 1;
        for (int round = 0; round <= rounds; round++) {
                for (int i = 0; i < n && commands[i][0]; i++) {
                        double ms = run(commands[i], &quiet);

                        if (round > 0 && commands[i][0][0] != '-')
                                (void)printf("%.3f ", ms);
                }
                if (round > 0)
                        (void)printf("\n");
        }
        return 0;
}
