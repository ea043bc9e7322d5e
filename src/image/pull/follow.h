/*
 * The digest of an image that is still being written. Its superblock comes first and is known last,
 * so hashing can begin only when all data is there; but then it need not wait for the metadata.
 */
#pragma once

#include "image/pull/digest.h"

struct follow;

/* Start hashing the file as far as follow_settled() says. fd stays the caller's, and open until
 * follow_stop(). */
int follow_start(int fd, struct follow **ret, struct cc_err *err);

/* The first `bytes` of the file are final. `follow` is a struct follow: this is
 * erofs_writer_args.settled. */
void follow_settled(void *follow, uint64_t bytes);

/* All of the file is: its digest. Errors: IO, CANCELED on a signal. Once only. */
int follow_digest(struct follow *f, char hex[DIGEST_HEX_LEN + 1], struct cc_err *err);

/* End the thread and free. NULL is fine. */
void follow_stop(struct follow *f);
void follow_stopp(struct follow **f); /* cleanup function */
#define FOLLOW CC_CLEANUP(follow_stopp)
