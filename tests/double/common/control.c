#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "server.h"

enum { CLIENTS_MAX = 8 };

struct client {
        int fd; /* -1: free */
        struct cc_buf line;
};

struct dbl_control {
        struct dbl_loop *loop;
        struct dbl_journal *journal;
        dbl_control_fn *fn;
        void *ctx;
        int fd;
        char *path;
        struct client clients[CLIENTS_MAX];
};

static void drop(struct dbl_control *c, struct client *client)
{
        dbl_loop_unwatch(c->loop, client->fd);
        close(client->fd);
        cc_buf_free(&client->line);
        client->fd = -1;
}

static void command(struct dbl_control *c, struct client *client)
{
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *line = cc_buf_take(&client->line);
        CC_FREE char *answer = NULL;
        char *argument = strchr(line, ' ');

        if (argument)
                *argument++ = '\0';
        if (c->fn(c->ctx, line, argument ? argument : "", &err) < 0)
                answer = xasprintf("error: %s\n", err.msg);
        else
                answer = xstrdup("ok\n");
        dbl_journal_add(c->journal, "control",
                        json_pack("{s:s, s:s, s:s}", "command", line, "argument",
                                  argument ? argument : "", "answer", answer));
        (void)send(client->fd, answer, strlen(answer), MSG_NOSIGNAL);
}

static void on_client(void *arg, int fd, short revents)
{
        struct dbl_control *c = arg;
        struct client *client = c->clients;
        char text[512];
        ssize_t n = read(fd, text, sizeof(text));

        while (client->fd != fd)
                client++;
        for (ssize_t i = 0; i < n; i++) {
                if (text[i] == '\n')
                        command(c, client);
                else if (client->line.len < 4096)
                        cc_buf_char(&client->line, text[i]);
        }
        if (n <= 0)
                drop(c, client);
}

static void on_listener(void *arg, int fd, short revents)
{
        struct dbl_control *c = arg;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        for (size_t i = 0; i < CLIENTS_MAX && client >= 0; i++) {
                if (c->clients[i].fd < 0) {
                        c->clients[i].fd = client;
                        dbl_loop_watch(c->loop, client, POLLIN, on_client, c);
                        return;
                }
        }
        if (client >= 0)
                close(client);
}

struct dbl_control *dbl_control_new(struct dbl_loop *loop, struct dbl_journal *journal,
                                    const char *path, dbl_control_fn *fn, void *ctx)
{
        struct dbl_control *c;
        struct cc_err err = CC_ERR_INIT;

        if (!path)
                return NULL;
        c = xcalloc(1, sizeof(*c));
        *c = (struct dbl_control){
                .loop = loop, .journal = journal, .fn = fn, .ctx = ctx, .path = xstrdup(path)
        };
        for (size_t i = 0; i < CLIENTS_MAX; i++)
                c->clients[i].fd = -1;
        (void)unlink(path);
        if (dbl_listen(path, &c->fd, &err) < 0) {
                fprintf(stderr, "double: %s\n", err.msg);
                exit(70);
        }
        dbl_loop_watch(loop, c->fd, POLLIN, on_listener, c);
        return c;
}

void dbl_control_free(struct dbl_control *c)
{
        if (!c)
                return;
        for (size_t i = 0; i < CLIENTS_MAX; i++)
                if (c->clients[i].fd >= 0)
                        drop(c, &c->clients[i]);
        dbl_loop_unwatch(c->loop, c->fd);
        close(c->fd);
        (void)unlink(c->path);
        free(c->path);
        free(c);
}
