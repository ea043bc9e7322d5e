/* A thread that hashes behind the writer. See follow.h. */
#include "image/pull/follow.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "image/pull/ahead.h"

struct follow {
        int fd;
        off_t at; /* the reader's own */
        pthread_t thread;
        bool running;
        pthread_mutex_t lock;
        pthread_cond_t more;
        uint64_t settled;
        bool complete, stop;
        struct digest *digest;
        struct cc_err err;
};

/* Wait for bytes behind `at`; how many, 0 at the end. */
static uint64_t available(struct follow *f)
{
        uint64_t n;

        pthread_mutex_lock(&f->lock);
        while (f->settled <= (uint64_t)f->at && !f->complete && !f->stop)
                pthread_cond_wait(&f->more, &f->lock);
        if (f->stop)
                n = 0;
        else
                n = f->complete ? UINT64_MAX : f->settled - (uint64_t)f->at;
        pthread_mutex_unlock(&f->lock);
        return n;
}

static int read_image(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct follow *f = ctx;
        uint64_t max = available(f);
        ssize_t r;

        do
                r = pread(f->fd, buf, n < max ? n : (size_t)max, f->at);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return cc_fail_errno(err, errno, "read image");
        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "canceled");
        f->at += r;
        *ret = (size_t)r;
        return 0;
}

static void *follow(void *arg)
{
        struct follow *f = arg;
        AHEAD struct ahead *ahead = NULL;
        const void *bytes = NULL;
        size_t n = 1;
        int r = ahead_start(read_image, f, f->digest, AHEAD_BY_READER, &ahead, &f->err);

        while (r == 0 && n)
                r = ahead_next(ahead, &bytes, &n, &f->err);
        return NULL;
}

int follow_start(int fd, struct follow **ret, struct cc_err *err)
{
        FOLLOW struct follow *f = xcalloc(1, sizeof(*f));
        int r;

        f->fd = fd;
        f->err = (struct cc_err)CC_ERR_INIT;
        f->digest = digest_new();
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->more, NULL);
        r = pthread_create(&f->thread, NULL, follow, f);
        if (r != 0)
                return cc_fail_errno(err, r, "start a thread");
        f->running = true;
        *ret = TAKE_PTR(f);
        return 0;
}

void follow_settled(void *ctx, uint64_t bytes)
{
        struct follow *f = ctx;

        pthread_mutex_lock(&f->lock);
        f->settled = bytes;
        pthread_cond_signal(&f->more);
        pthread_mutex_unlock(&f->lock);
}

/* Tell the thread that this is all and wait for it. */
static void end(struct follow *f, bool complete)
{
        if (!f->running)
                return;
        pthread_mutex_lock(&f->lock);
        f->complete = complete;
        f->stop = !complete;
        pthread_cond_signal(&f->more);
        pthread_mutex_unlock(&f->lock);
        (void)pthread_join(f->thread, NULL);
        f->running = false;
}

int follow_digest(struct follow *f, char hex[DIGEST_HEX_LEN + 1], struct cc_err *err)
{
        end(f, true);
        if (f->err.class != CC_OK)
                return cc_err_copy(err, &f->err);
        digest_hex(f->digest, hex);
        return 0;
}

void follow_stop(struct follow *f)
{
        if (!f)
                return;
        end(f, false);
        pthread_mutex_destroy(&f->lock);
        pthread_cond_destroy(&f->more);
        digest_free(f->digest);
        free(f);
}

void follow_stopp(struct follow **f)
{
        follow_stop(*f);
}
