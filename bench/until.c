/*
 * How long until a guest says something: run a command and print the milliseconds until TEXT shows
 * up on its output, or, with -u, on the unix socket that it leaves behind when it has ended well.
 * The command's process group is killed at the end.
 * Usage: until [-u SOCKET-GLOB] SECONDS TEXT COMMAND...
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int connect_glob(const char *pattern)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        glob_t found = { 0 };
        int fd = -1;

        if (glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc == 1 &&
            strlen(found.gl_pathv[0]) < sizeof(addr.sun_path)) {
                memcpy(addr.sun_path, found.gl_pathv[0], strlen(found.gl_pathv[0]));
                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
                        close(fd);
                        fd = -1;
                }
        }
        globfree(&found);
        return fd;
}

/* Reads fd until the text was seen (0), the end or the deadline (-1). */
static int read_until(int fd, const char *text, int64_t deadline)
{
        static char buf[1 << 20];
        size_t len = 0;

        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                int64_t left = (deadline - now()) / 1000000;
                ssize_t n;

                if (left <= 0 || poll(&p, 1, (int)left) <= 0)
                        return -1;
                n = read(fd, buf + len, sizeof(buf) - len);
                if (n <= 0)
                        return -1;
                len += (size_t)n;
                if (memmem(buf, len, text, strlen(text)))
                        return 0;
                /* Keep what may be the beginning of the text. */
                if (len > sizeof(buf) / 2) {
                        memmove(buf, buf + len - strlen(text), strlen(text));
                        len = strlen(text);
                }
        }
}

int main(int argc, char **argv)
{
        const char *pattern = NULL;
        int64_t start = now();
        int64_t deadline;
        int64_t end;
        int out[2];
        int fd;
        int status = 0;
        int r;
        pid_t pid;

        if (argc > 2 && strcmp(argv[1], "-u") == 0) {
                pattern = argv[2];
                argv += 2;
                argc -= 2;
        }
        if (argc < 4 || pipe2(out, O_CLOEXEC) < 0) {
                (void)fprintf(stderr, "usage: until [-u SOCKET-GLOB] SECONDS TEXT COMMAND...\n");
                return 2;
        }
        deadline = start + strtoll(argv[1], NULL, 10) * 1000000000;
        pid = fork();
        if (pid == 0) {
                (void)setpgid(0, 0);
                (void)dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 0);
                if (!pattern)
                        (void)dup2(out[1], 1);
                execvp(argv[3], argv + 3);
                _exit(127);
        }
        close(out[1]);
        fd = out[0];
        if (pattern) {
                if (waitpid(pid, &status, 0) != pid || status != 0) {
                        (void)fprintf(stderr, "until: %s failed\n", argv[3]);
                        return 1;
                }
                fd = connect_glob(pattern);
        }
        r = read_until(fd, argv[2], deadline);
        end = now();
        if (!pattern) {
                (void)kill(-pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
        }
        if (r < 0) {
                (void)fprintf(stderr, "until: \"%s\" never came\n", argv[2]);
                return 1;
        }
        (void)printf("%.3f\n", (double)(end - start) / 1e6);
        return 0;
}
