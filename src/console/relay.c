/*
 * The console relay's process (cli.md §7, qemu.md §6, firecracker.md §2).
 *
 * Theory of operation. A VMM whose serial reader does not read stalls its guest or loses output,
 * and takes one reader at a time. So one small process per VM holds that end for good, never stops
 * reading it, and serves everybody else on console.sock:
 *
 *   source (socket or PTY) --> ring of 256 KiB --> every client, each at its own stream offset
 *   clients --> the newest writer only --> 4 KiB pending --> source
 *
 * - Output is never copied per client: a client is an offset into the stream. One that falls behind
 *   further than the ring skips to the last 64 KiB; nobody ever waits for it. A new client starts
 *   64 KiB back: the replay.
 * - A client becomes a writer with its first byte; the newest writer has the keyboard until it
 *   leaves, what others type is dropped. A reader that never writes never takes the keyboard.
 * - A source that ends while the VMM lives (a PTY that the VMM replaced) is opened again, with a
 *   growing pause between attempts: no descriptor tells when a new one exists. What opens it is the
 *   driver's code, which may wait and allocate; it runs in a child that sends the descriptor back.
 *   Clients, and what they were shown, stay.
 * - The relay ends when the VMM's pidfd becomes readable, after handing out what is buffered. It
 *   owns no file: console.sock is a runtime file of the VM, removed by stop and start.
 * - Its memory is static: nothing is allocated while it runs.
 *
 * The parent's side (lock, sockets, spawn) is relay_start.c, opening again is relay_reopen.c.
 */
#include "console/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console/relay.h"
#include "console/relay_reopen.h"

#define RING_SIZE   (256u * 1024)
#define REPLAY_SIZE (64u * 1024)
#define INPUT_SIZE  4096u
#define CHUNK_SIZE  16384u
#define MAX_CLIENTS 64
#define LOG_LIMIT   (8 * 1024 * 1024)
#define LOG_CHECK   (256u * 1024) /* bytes of output between two looks at the log's size */

/* Last words for a client that is still reading when the VMM is gone. */
#define FAREWELL_MS 500

struct client {
        int fd; /* -1: free slot */
        uint64_t pos;
        uint64_t rank; /* 0: never wrote; the highest has the keyboard */
        bool deaf;     /* shut down its writing half: only reads */
};

static struct {
        unsigned char ring[RING_SIZE];
        uint64_t head; /* stream offset behind the newest byte */
        unsigned char input[INPUT_SIZE];
        size_t input_len;
        struct client clients[MAX_CLIENTS];
        uint64_t next_rank;
        uint64_t since_check;
        const char *log_path;
        int source; /* -1: ended, being opened again */
        struct relay_reopen reopen;
} r;

static void client_drop(struct client *c)
{
        close(c->fd);
        c->fd = -1;
}

static uint64_t replay_start(void)
{
        return r.head > REPLAY_SIZE ? r.head - REPLAY_SIZE : 0;
}

static void accept_client(int listener)
{
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
                return;
        for (size_t i = 0; i < MAX_CLIENTS; i++)
                if (r.clients[i].fd < 0) {
                        r.clients[i] = (struct client){ .fd = fd, .pos = replay_start() };
                        return;
                }
        close(fd);
}

/* The VMM appends to its log (O_APPEND), so cutting it at 0 is safe at any moment. */
static void check_log(void)
{
        struct stat st;
        int fd;

        r.since_check = 0;
        if (!r.log_path)
                return;
        fd = open(r.log_path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
                return;
        /* Best effort: a log that cannot be cut only stays long. */
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_LIMIT &&
            ftruncate(fd, 0) < 0)
                r.since_check = 0;
        close(fd);
}

/* One read from the source into the ring. Returns false when there was nothing to read. An ended
 * source is closed; of a PTY the end is EIO. */
static bool read_source(void)
{
        static unsigned char chunk[CHUNK_SIZE];
        ssize_t n = read(r.source, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
                return true;
        if (n < 0 && errno == EAGAIN)
                return false;
        if (n <= 0) {
                close(TAKE_FD(r.source));
                return false;
        }
        for (size_t done = 0; done < (size_t)n;) {
                size_t at = (size_t)(r.head % RING_SIZE);
                size_t part = (size_t)n - done;

                if (part > RING_SIZE - at)
                        part = RING_SIZE - at;
                memcpy(r.ring + at, chunk + done, part);
                r.head += part;
                done += part;
        }
        r.since_check += (size_t)n;
        if (r.since_check >= LOG_CHECK)
                check_log();
        return true;
}

/* Send what the client lacks, as far as its socket takes it. */
static void feed_client(struct client *c)
{
        if (r.head - c->pos > RING_SIZE)
                c->pos = replay_start();
        while (c->pos < r.head) {
                size_t at = (size_t)(c->pos % RING_SIZE);
                size_t part = (size_t)(r.head - c->pos);
                ssize_t n;

                if (part > RING_SIZE - at)
                        part = RING_SIZE - at;
                n = send(c->fd, r.ring + at, part, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0) {
                        client_drop(c);
                        return;
                }
                c->pos += (size_t)n;
        }
}

static bool has_keyboard(const struct client *c)
{
        for (size_t i = 0; i < MAX_CLIENTS; i++)
                if (r.clients[i].fd >= 0 && r.clients[i].rank > c->rank)
                        return false;
        return true;
}

/* A client that may type waits while the guest does not take its input; the others are always read
 * (and dropped), so that a late switch of the keyboard never delivers old keystrokes. */
static bool wants_read(const struct client *c)
{
        return !c->deaf && (r.input_len < INPUT_SIZE || (c->rank && !has_keyboard(c)));
}

static void read_client(struct client *c)
{
        unsigned char chunk[1024];
        size_t room = INPUT_SIZE - r.input_len;
        ssize_t n;

        if (c->rank && !has_keyboard(c))
                room = sizeof(chunk);
        if (room == 0)
                return; /* filled by another client just now; reading nothing looks like the end */
        n = recv(c->fd, chunk, room < sizeof(chunk) ? room : sizeof(chunk), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) {
                client_drop(c);
                return;
        }
        if (n == 0) {
                c->deaf = true;
                c->rank = 0;
                return;
        }
        if (!c->rank)
                c->rank = ++r.next_rank;
        if (!has_keyboard(c))
                return;
        memcpy(r.input + r.input_len, chunk, (size_t)n);
        r.input_len += (size_t)n;
}

static void write_source(void)
{
        ssize_t n = write(r.source, r.input, r.input_len);

        if (n <= 0)
                return; /* a source that is gone shows on its reading side */
        r.input_len -= (size_t)n;
        memmove(r.input, r.input + n, r.input_len);
}

/* Everything is nonblocking: clients that are not fast enough now lose the rest. */
static void farewell(void)
{
        while (r.source >= 0 && read_source())
                for (size_t i = 0; i < MAX_CLIENTS; i++)
                        if (r.clients[i].fd >= 0)
                                feed_client(&r.clients[i]);
        for (size_t i = 0; i < MAX_CLIENTS; i++) {
                struct client *c = &r.clients[i];
                struct pollfd p = { .fd = c->fd, .events = POLLOUT };

                if (c->fd < 0)
                        continue;
                feed_client(c);
                if (c->fd >= 0 && c->pos < r.head && poll(&p, 1, FAREWELL_MS / MAX_CLIENTS) > 0)
                        feed_client(c);
        }
}

/* Fixed places in the poll set; the clients follow. */
enum { AT_VMM, AT_SOURCE, AT_LISTENER, AT_REOPEN, AT_CLIENTS };

/* Returns how many; slot[] says which client is behind a place. */
static nfds_t poll_set(struct pollfd *fds, size_t *slot, int listener, int vmm)
{
        nfds_t n = AT_CLIENTS;

        fds[AT_VMM] = (struct pollfd){ .fd = vmm, .events = POLLIN };
        fds[AT_SOURCE] = (struct pollfd){
                .fd = r.source,
                .events = (short)(POLLIN | (r.input_len ? POLLOUT : 0)),
        };
        fds[AT_LISTENER] = (struct pollfd){ .fd = listener, .events = POLLIN };
        fds[AT_REOPEN] = (struct pollfd){ .fd = r.reopen.fd, .events = POLLIN };
        for (size_t i = 0; i < MAX_CLIENTS; i++) {
                struct client *c = &r.clients[i];

                if (c->fd < 0)
                        continue;
                slot[n - AT_CLIENTS] = i;
                fds[n++] = (struct pollfd){
                        .fd = c->fd,
                        .events = (short)((wants_read(c) ? POLLIN : 0) |
                                          (c->pos < r.head ? POLLOUT : 0)),
                };
        }
        return n;
}

static void serve_source(short revents)
{
        if (revents & POLLOUT)
                write_source();
        if (revents & (POLLIN | POLLHUP | POLLERR))
                (void)read_source();
        if (r.source < 0) {
                /* Keystrokes for what is gone are not for what comes. */
                r.input_len = 0;
                relay_reopen_begin(&r.reopen);
        }
}

static void serve(int listener, int vmm)
{
        for (;;) {
                struct pollfd fds[AT_CLIENTS + MAX_CLIENTS];
                size_t slot[MAX_CLIENTS];
                nfds_t n = poll_set(fds, slot, listener, vmm);

                if (poll(fds, n, relay_reopen_wait_ms(&r.reopen)) < 0) {
                        if (errno == EINTR)
                                continue;
                        return;
                }
                if (fds[AT_VMM].revents)
                        return;
                if (fds[AT_SOURCE].revents)
                        serve_source(fds[AT_SOURCE].revents);
                if (r.source < 0) {
                        if (!r.reopen.open)
                                return;
                        r.source = relay_reopen_step(&r.reopen, fds[AT_REOPEN].revents != 0);
                }
                for (nfds_t k = AT_CLIENTS; k < n; k++) {
                        struct client *c = &r.clients[slot[k - AT_CLIENTS]];

                        if (fds[k].revents & POLLIN)
                                read_client(c);
                        else if (fds[k].revents & (POLLHUP | POLLERR | POLLNVAL))
                                client_drop(c);
                }
                for (size_t i = 0; i < MAX_CLIENTS; i++)
                        if (r.clients[i].fd >= 0 && r.clients[i].pos < r.head)
                                feed_client(&r.clients[i]);
                if (fds[AT_LISTENER].revents)
                        accept_client(listener);
        }
}

/* The lock's text is what a waiting command shows. */
static void name_holder(void)
{
        char text[64];
        int n = snprintf(text, sizeof(text), "%d console-relay\n", (int)getpid());

        if (ftruncate(RELAY_FD_LOCK, 0) == 0 && pwrite(RELAY_FD_LOCK, text, (size_t)n, 0) < 0)
                return;
}

int console_relay_main(int argc, char **argv, console_open_fn open)
{
        if (argc != 6)
                return 2;
        (void)prctl(PR_SET_NAME, "cocoon-console");
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        (void)signal(SIGCHLD, SIG_IGN); /* nobody waits for the children that open consoles */
        relay_reopen_init(&r.reopen, open, argv[4], argv[5]);
        r.source = RELAY_FD_SOURCE;
        r.log_path = argv[3][0] ? argv[3] : NULL;
        for (size_t i = 0; i < MAX_CLIENTS; i++)
                r.clients[i].fd = -1;
        name_holder();
        check_log();
        serve(RELAY_FD_LISTEN, RELAY_FD_VMM);
        farewell();
        return 0;
}
