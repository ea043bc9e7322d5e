/*
 * A network of its own for a test program: namespaces that die with it, an empty NETNS_DIR and a
 * store. Nothing done inside reaches the host.
 */
#pragma once

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/id.h"
#include "meta/meta.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/providers.h"

struct sandbox {
        char dir[32];
        struct meta *meta;
        struct net_env env;
        struct nl_sock *sk;
};

/* False: not permitted here; the tests skip. */
static inline bool sandbox_enter(struct sandbox *s)
{
        struct cc_err err = CC_ERR_INIT;
        struct meta_open_args args = { .root_dir = s->dir, .run_dir = s->dir };

        if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
            mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || access("/dev/net/tun", W_OK) < 0)
                return false;
        (void)mkdir("/run/netns", 0755);
        if (mount("tmpfs", "/run/netns", "tmpfs", 0, NULL) < 0)
                return false;
        (void)snprintf(s->dir, sizeof(s->dir), "/tmp/cc-net-XXXXXX");
        if (!mkdtemp(s->dir))
                return false;
        if (meta_open(&args, &s->meta, &err) < 0 || rtnl_open(&s->sk, &err) < 0) {
                (void)fprintf(stderr, "sandbox: %s\n", err.msg);
                return false;
        }
        s->env.meta = s->meta;
        return true;
}

static inline void sandbox_leave(struct sandbox *s)
{
        meta_close(s->meta);
        if (s->sk)
                nl_socket_free(s->sk);
        if (*s->dir)
                (void)cc_rm_rf(s->dir, NULL);
}

/* The error argument inside must(). */
#define E (&must_err)
#define must(call)                                                                                 \
        do {                                                                                       \
                struct cc_err must_err = CC_ERR_INIT;                                              \
                if ((call) < 0)                                                                    \
                        fail_msg("%s: %s", #call, must_err.msg);                                   \
        } while (0)

static inline void count_link(void *ctx, const struct net_link *link)
{
        ++*(size_t *)ctx;
}

static inline size_t sandbox_links(struct sandbox *s)
{
        size_t n = 0;

        must(link_each(s->sk, count_link, &n, E));
        return n;
}

static inline int sandbox_count_row(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        ++*(size_t *)ctx;
        return 0;
}

static inline size_t sandbox_rows(struct sandbox *s)
{
        size_t n = 0;

        must(meta_network_each(s->meta, NULL, sandbox_count_row, &n, E));
        return n;
}

static inline size_t sandbox_namespaces(void)
{
        CC_DIR DIR *d = opendir(NETNS_DIR);
        struct dirent *e;
        size_t n = 0;

        assert_non_null(d);
        while ((e = readdir(d)))
                n += e->d_name[0] != '.';
        return n;
}

static inline void sandbox_vm(struct vm_record *vm, int64_t cpus)
{
        char id[CC_ID_LEN + 1];

        cc_id_new(id);
        *vm = (struct vm_record)VM_RECORD_INIT;
        vm->id = xstrdup(id);
        vm->config.cpu = cpus;
}

/* prepare and add with n NICs, as create does. */
static inline int sandbox_add(struct sandbox *s, const struct net_provider *p, struct vm_record *vm,
                              size_t n, struct cc_err *err)
{
        struct net_spec specs[8] = { 0 };
        int r = p->prepare(&s->env, vm, err);

        for (size_t i = 0; i < n; i++)
                specs[i].index = i;
        return r < 0 ? r : p->add(&s->env, vm, specs, n, &vm->network_configs, err);
}
