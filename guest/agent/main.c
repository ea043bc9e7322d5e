/* cocoon-agent: runs what the host asks for, inside the guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "log.h"
#include "options.h"
#include "serve.h"
#include "version.h"

#define DEFAULT_PORT 1024
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct options options = { .port = DEFAULT_PORT, .root = "" };

extern char **environ;

static const char usage[] = "Usage: cocoon-agent serve [--port N]\n"
                            "       cocoon-agent client --cid N [--port N] -- COMMAND [ARG...]\n"
                            "       cocoon-agent --version\n";

static int bad_usage(const char *what, const char *word)
{
        fprintf(stderr, "cocoon-agent: %s: %s\n%s", what, word, usage);
        return 1;
}

static bool number(const char *text, unsigned *ret)
{
        char *end;
        unsigned long v;

        errno = 0;
        v = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || errno || v >= 0xffffffffUL)
                return false;
        *ret = (unsigned)v;
        return true;
}

/* What a child inherits: the first of several values, and some PATH. */
static void tidy_environment(void)
{
        for (char **a = environ; *a; a++) {
                size_t n = strcspn(*a, "=") + 1;

                for (char **b = a + 1; *b;) {
                        if (strncmp(*a, *b, n) != 0) {
                                b++;
                                continue;
                        }
                        for (char **c = b; *c; c++)
                                c[0] = c[1];
                }
        }
        setenv("PATH", DEFAULT_PATH, 0);
}

/* A child's 0, 1 and 2 are made by dup2 from what must not be among them. */
static void open_standard_streams(void)
{
        int fd;

        do
                fd = open("/dev/null",
                          O_RDWR); // NOLINT(android-cloexec-open): for the children too
        while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd >= 0)
                close(fd);
}

int main(int argc, char **argv)
{
        unsigned cid = 0;
        bool client;
        int i = 2;

        if (argc == 2 && strcmp(argv[1], "--version") == 0) {
                printf("cocoon-agent %s\n", AGENT_VERSION);
                return 0;
        }
        if (argc == 2 && strcmp(argv[1], "--help") == 0) {
                fputs(usage, stdout);
                return 0;
        }
        if (argc < 2)
                return bad_usage("missing", "serve or client");
        client = strcmp(argv[1], "client") == 0;
        if (!client && strcmp(argv[1], "serve") != 0)
                return bad_usage("unknown command", argv[1]);
        for (; i < argc && strcmp(argv[i], "--") != 0; i += 2) {
                const char *value = i + 1 < argc ? argv[i + 1] : NULL;

                if (!value)
                        return bad_usage("value missing behind", argv[i]);
                if (strcmp(argv[i], "--port") == 0 && number(value, &options.port))
                        continue;
                if (client && strcmp(argv[i], "--cid") == 0 && number(value, &cid))
                        continue;
                /* For tests. */
                if (!client && strcmp(argv[i], "--unix") == 0 &&
                    options.n_sockets < OPTIONS_SOCKETS)
                        options.sockets[options.n_sockets++] = value;
                else if (!client && strcmp(argv[i], "--serial-unix") == 0 &&
                         options.n_serial_sockets < OPTIONS_SOCKETS)
                        options.serial_sockets[options.n_serial_sockets++] = value;
                else if (!client && strcmp(argv[i], "--root") == 0)
                        options.root = value;
                else
                        return bad_usage("bad option or value", argv[i]);
        }
        log_init();
        if (client)
                return i + 1 < argc && cid ? client_run(cid, argv + i + 1)
                                           : bad_usage("missing", "--cid N -- COMMAND");
        if (i < argc)
                return bad_usage("too many arguments", argv[i]);
        tidy_environment();
        open_standard_streams();
        return serve();
}
