/* A scripted agent: what it expects, line by line, and what it answers. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

/* One exchange: bytes that must come, then bytes that go out. NULL expect: nothing. */
struct peer_step {
        const char *expect, *answer;
};

struct peer {
        int fd;
        const struct peer_step *steps; /* ends with both NULL */
        bool failed;
        char got[4096];
        pthread_t thread;
};

static inline void *peer_run(void *arg)
{
        struct peer *p = arg;

        for (const struct peer_step *s = p->steps; s->expect || s->answer; s++) {
                size_t want = s->expect ? strlen(s->expect) : 0;
                size_t n = 0;

                while (n < want) {
                        ssize_t k = read(p->fd, p->got + n, want - n);

                        if (k <= 0)
                                break;
                        n += (size_t)k;
                }
                p->got[n] = '\0';
                if (n != want || (s->expect && memcmp(p->got, s->expect, want) != 0)) {
                        p->failed = true;
                        break;
                }
                if (s->answer && write(p->fd, s->answer, strlen(s->answer)) < 0) {
                        p->failed = true;
                        break;
                }
        }
        close(p->fd);
        return NULL;
}

static inline void peer_start(struct peer *p, int fd, const struct peer_step *steps)
{
        *p = (struct peer){ .fd = fd, .steps = steps };
        assert_int_equal(pthread_create(&p->thread, NULL, peer_run, p), 0);
}

static inline void peer_end(struct peer *p)
{
        assert_int_equal(pthread_join(p->thread, NULL), 0);
        if (p->failed)
                fail_msg("the agent got: %s", p->got);
}
