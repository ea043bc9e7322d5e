/*
 * Traffic control for the redirect between TAP and veth (network.md §5). The builders are public so
 * that tests can compare their bytes with what the kernel is known to take.
 */
#pragma once

#include "net/rtnl.h"

/* Messages with sequence number 0 and no port; never NULL. */
struct nl_msg *tc_noqueue_msg(int index);
struct nl_msg *tc_ingress_msg(int index);
struct nl_msg *tc_redirect_msg(int from, int to);

/* noqueue as root qdisc: before the device goes up. */
int tc_noqueue(struct nl_sock *sk, int index, struct cc_err *err);

/* Everything that arrives on one of two devices leaves by the other. Earlier filters of both are
 * replaced. */
int tc_connect(struct nl_sock *sk, int a, int b, struct cc_err *err);

/* Where what arrives on a device is sent: the index of the other one, 0 without a redirect, the
 * first one if there are several. *ret_n: how many there are. */
int tc_redirected(struct nl_sock *sk, int index, int *ret_to, unsigned *ret_n, struct cc_err *err);
