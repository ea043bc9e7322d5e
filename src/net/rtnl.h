/*
 * One rtnetlink connection: requests that are acknowledged, with the kernel's errno and its own
 * words. Private to src/net; what the messages mean lives in link.h and tc.h.
 */
#pragma once

#include <netlink/msg.h>
#include <netlink/netlink.h>

#include "base/err.h"

static inline void rtnl_closep(struct nl_sock **sk)
{
        if (*sk)
                nl_socket_free(*sk);
}
#define RTNL CC_CLEANUP(rtnl_closep)

/* A route socket in the calling thread's network namespace. *ret is owned: nl_socket_free(). */
int rtnl_open(struct nl_sock **ret, struct cc_err *err);

/* Send `msg` (freed in any case) and wait for its acknowledgement. A refusal is filled in by
 * cc_fail_errno() behind "what", err->sys the kernel's errno. */
int rtnl_talk(struct nl_sock *sk, struct nl_msg *msg, const char *what, struct cc_err *err);

/* Send a dump request of `type` with the header `hdr` (n bytes) and give each answer to fn. */
int rtnl_dump(struct nl_sock *sk, int type, const void *hdr, size_t n,
              void (*fn)(void *ctx, struct nlmsghdr *h), void *ctx, struct cc_err *err);
