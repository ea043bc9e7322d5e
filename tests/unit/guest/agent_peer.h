/* The host's side of the tests of the agent: starts the real program on unix sockets in a scratch
 * directory and speaks to it in bytes. */
#pragma once

#include <sys/types.h>

#include "unit.h"

struct peer {
        char *dir;
        char *stream; /* socket in place of vsock */
        char *serial; /* socket in place of a serial port */
        pid_t pid;
};

/* cmocka setup and teardown: *state is a struct peer. The teardown asserts that the agent ends well
 * (a sanitizer report is no good end). */
int peer_setup(void **state);
int peer_teardown(void **state);

/* The same for another program than COCOON_TEST_AGENT names. */
int peer_start(struct peer *p, const char *program);
int peer_stop(struct peer *p);

int peer_connect(const char *path);

/* Sends all of it. */
void peer_send(int fd, const void *data, size_t n);
void peer_say(int fd, const char *text);

/* Reads until the agent closes, at most a minute. `ret_n` may be NULL; NUL-terminated either way.
 */
char *peer_read(int fd, size_t *ret_n);

/* Reads up to and including the first occurrence of `text`, byte by byte. */
char *peer_read_to(int fd, const char *text);

/* Reads frames until standard output has come to `text`. */
void peer_output_to(int fd, const char *text);

/* A session: says `text`, reads the answer, closes. */
char *peer_ask(const struct peer *p, const char *text);

/* The number behind `key` in the frames. */
long peer_number(const char *frames, const char *key);

/* Waits, at most a minute, until nobody has that pid. */
void peer_wait_dead(pid_t pid);

#define peer_test(f) cmocka_unit_test_setup_teardown(f, peer_setup, peer_teardown)
