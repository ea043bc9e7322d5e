/*
 * The view behind `vm status --watch` and `--event`. Three things wake it: inotify on the store's
 * files (its write-ahead log changes with every commit; the change number tells whether a VM did),
 * the pidfd of every live VMM, and the interval for what neither shows. Idle it costs nothing.
 */
#include "cli/vm_watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "cli/vm_list.h"
#include "config/layout.h"

/* Commits come in groups: a create is several. Deaths are told at once. */
#define DEBOUNCE_MS 200

struct entry {
        struct vm_record vm;
        struct vm_proc proc; /* live VMM; its pidfd is in the epoll set */
        char *shown;         /* what decides whether it changed; NULL: not told yet */
        bool seen;           /* by the running relist */
};

struct watch {
        struct cli *cli;
        const struct vm_watch_args *args;
        struct engine e;
        struct entry *v;
        size_t n, cap;
        struct vm_event *events;
        struct entry *gone; /* owners of the records of DELETED events */
        size_t n_events, n_gone;
        int64_t seq;
        int inotify, epoll;
};

static void entry_clear(struct entry *en)
{
        vm_record_clear(&en->vm);
        vm_proc_clear(&en->proc);
        free(en->shown);
}

static void watch_clear(struct watch *w)
{
        for (size_t i = 0; i < w->n; i++)
                entry_clear(&w->v[i]);
        free(w->v);
        for (size_t i = 0; i < w->n_gone; i++)
                entry_clear(&w->gone[i]);
        free(w->gone);
        free(w->events);
        if (w->inotify >= 0)
                close(w->inotify);
        if (w->epoll >= 0)
                close(w->epoll);
        engine_close(&w->e);
}

/* id, name, state, cpu, memory, ip, image (cli.md §5.4). */
static char *tuple(const struct vm_record *vm)
{
        static const char *const names[] = {
                "id", "name", "state", "cpu", "memory", "ip", "image"
        };
        struct cc_buf b = { 0 };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                for (size_t f = 0; f < vm_list_type.n_fields; f++)
                        if (cc_streq(vm_list_type.fields[f].name, names[i])) {
                                vm_list_type.fields[f].text(vm, true, &b);
                                cc_buf_char(&b, '\x1f');
                        }
        return cc_buf_take(&b);
}

static struct entry *find(struct watch *w, const char *id)
{
        for (size_t i = 0; i < w->n; i++)
                if (strcmp(w->v[i].vm.id, id) == 0)
                        return &w->v[i];
        return NULL;
}

/* Fill the shown fields and hold the VMM's pidfd. Without room for another descriptor the interval
 * still finds out. */
static void present(struct watch *w, struct entry *en)
{
        struct epoll_event event = { .events = EPOLLIN };

        vm_proc_clear(&en->proc); /* closing it takes it out of the set */
        en->proc = (struct vm_proc)VM_PROC_INIT;
        vm_present_proc(&en->vm, &en->proc);
        if (en->proc.pidfd >= 0)
                (void)epoll_ctl(w->epoll, EPOLL_CTL_ADD, en->proc.pidfd, &event);
}

static bool wanted(const struct watch *w, const struct vm_record *vm)
{
        return vm_list_wanted(w->args->refs, w->args->n_refs, vm);
}

/* A row of the store; the record moves here. */
static int take(void *ctx, struct vm_record *vm, struct cc_err *err)
{
        struct watch *w = ctx;
        struct entry *en = find(w, vm->id);

        if (!en && !wanted(w, vm))
                return 0;
        if (!en) {
                if (w->n == w->cap) {
                        w->cap = w->cap ? w->cap * 2 : 64;
                        w->v = xreallocarray(w->v, w->cap, sizeof(*w->v));
                }
                en = &w->v[w->n++];
                *en = (struct entry){ .proc = VM_PROC_INIT };
        }
        vm_record_clear(&en->vm);
        en->vm = *vm;
        memset(vm, 0, sizeof(*vm));
        en->seen = wanted(w, &en->vm); /* a reference may be a name, and names change */
        present(w, en);
        return 0;
}

static int took_gone(void *ctx, const char *id, const char *name, struct cc_err *err)
{
        struct entry *en = find(ctx, id);

        if (en)
                en->seen = false;
        return 0;
}

static void add_event(struct watch *w, const char *type, const struct vm_record *vm)
{
        w->events = xreallocarray(w->events, w->n_events + 1, sizeof(*w->events));
        w->events[w->n_events++] = (struct vm_event){ type, vm };
}

static int by_creation(const void *a, const void *b)
{
        const struct vm_record *x = &((const struct entry *)a)->vm;
        const struct vm_record *y = &((const struct entry *)b)->vm;

        if (x->created_at != y->created_at)
                return x->created_at < y->created_at ? -1 : 1;
        return strcmp(x->id, y->id);
}

static int event_by_creation(const void *a, const void *b)
{
        const struct vm_record *x = ((const struct vm_event *)a)->vm;
        const struct vm_record *y = ((const struct vm_event *)b)->vm;

        if (x->created_at != y->created_at)
                return x->created_at < y->created_at ? -1 : 1;
        return strcmp(x->id, y->id);
}

/* Entries that are no more leave the array; they live in `gone` until they were told. */
static void sweep(struct watch *w)
{
        size_t kept = 0;

        for (size_t i = 0; i < w->n; i++) {
                if (w->v[i].seen) {
                        w->v[kept++] = w->v[i];
                        continue;
                }
                w->gone = xreallocarray(w->gone, w->n_gone + 1, sizeof(*w->gone));
                w->gone[w->n_gone++] = w->v[i];
        }
        w->n = kept;
        if (w->n)
                qsort(w->v, w->n, sizeof(*w->v), by_creation);
}

/* Compare every entry with what was told of it, and tell what is different. */
static bool tell(struct watch *w, bool first)
{
        const void **view = xcalloc(w->n + 1, sizeof(*view));
        size_t n_view = 0;
        bool go_on = true;

        for (size_t i = 0; i < w->n_gone; i++)
                if (w->gone[i].shown)
                        add_event(w, "DELETED", &w->gone[i].vm);
        for (size_t i = 0; i < w->n; i++) {
                struct entry *en = &w->v[i];
                bool pass = list_pass(&vm_list_type, w->args->filter, &en->vm);
                CC_FREE char *now = pass ? tuple(&en->vm) : NULL;

                if (pass)
                        view[n_view++] = &en->vm;
                if (!en->shown && now)
                        add_event(w, "ADDED", &en->vm);
                else if (en->shown && !now)
                        add_event(w, "DELETED", &en->vm);
                else if (now && strcmp(en->shown, now) != 0)
                        add_event(w, "MODIFIED", &en->vm);
                free(en->shown);
                en->shown = TAKE_PTR(now);
        }
        if (w->n_events)
                qsort(w->events, w->n_events, sizeof(*w->events), event_by_creation);
        if (w->n_events || first)
                go_on = w->args->changed(w->args->ctx, w->events, w->n_events, view, n_view);
        free(view);
        for (size_t i = 0; i < w->n_gone; i++)
                entry_clear(&w->gone[i]);
        w->n_events = w->n_gone = 0;
        return go_on;
}

static int relist(struct watch *w, struct cc_err *err)
{
        int r;

        for (size_t i = 0; i < w->n; i++)
                w->v[i].seen = false;
        r = meta_vm_each(w->e.meta, take, w, err);
        /* A list that broke off says nothing about who is gone. */
        for (size_t i = 0; i < w->n && r < 0; i++)
                w->v[i].seen = true;
        return r;
}

/* The records, if any changed. On failure the view is as before, or partly newer. */
static int reload(struct watch *w, bool first, struct cc_err *err)
{
        bool complete = true;
        int64_t seq = 0;
        int r = meta_seq(w->e.meta, &seq, err);

        if (r < 0 || (seq == w->seq && !first))
                return r;
        if (!first)
                r = meta_changes(w->e.meta, w->seq, take, took_gone, w, &complete, err);
        if (r == 0 && (first || !complete))
                r = relist(w, err);
        if (r < 0)
                return r;
        w->seq = seq;
        sweep(w);
        return 0;
}

/* VMMs that died, or with `all` every VM that should run. */
static void check_processes(struct watch *w, bool all)
{
        for (size_t i = 0; i < w->n; i++) {
                struct entry *en = &w->v[i];
                struct pollfd p = { .fd = en->proc.pidfd, .events = POLLIN };

                if (en->proc.pidfd >= 0 ? poll(&p, 1, 0) > 0
                                        : all && cc_streq(en->vm.state, vm_state_name(VM_RUNNING)))
                        present(w, en);
        }
}

static int start_watching(struct watch *w, struct cc_err *err)
{
        CC_FREE char *dir = layout_meta_dir(&w->cli->config);

        w->epoll = epoll_create1(EPOLL_CLOEXEC);
        w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (w->epoll < 0 || w->inotify < 0 ||
            inotify_add_watch(w->inotify, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
                return cc_fail_errno(err, errno, "watch %s", dir);
        return 0;
}

/* Empty the queue; true if the store's own files are among it (an overflow counts as such). */
static bool store_touched(int inotify)
{
        char buf[4096] __attribute__((aligned(8)));
        bool touched = false;
        ssize_t n;

        while ((n = read(inotify, buf, sizeof(buf))) > 0)
                for (ssize_t at = 0; at < n;) {
                        const struct inotify_event *ev = (const void *)(buf + at);

                        touched |= (ev->mask & IN_Q_OVERFLOW) ||
                                   (ev->len && cc_startswith(ev->name, "meta.db"));
                        at += (ssize_t)(sizeof(*ev) + ev->len);
                }
        return touched;
}

enum wake { WAKE_END, WAKE_STORE, WAKE_PROCESS, WAKE_TICK };

/* Sleep until something happened. With `pending` a change of the store waits for its group. */
static enum wake wait_wake(struct watch *w, int64_t until, bool pending)
{
        struct pollfd fds[4] = {
                { .fd = pending ? -1 : w->inotify, .events = POLLIN },
                { .fd = w->epoll, .events = POLLIN },
                { .fd = cc_interrupt_fd(), .events = POLLIN },
                { .fd = w->args->detached ? -1 : STDOUT_FILENO },
        };

        while (!cc_interrupted()) {
                int64_t left = until - cc_monotonic();

                if (left <= 0)
                        return WAKE_TICK;
                if (poll(fds, CC_ARRAY_LEN(fds), (int)(left / CC_NSEC_PER_MSEC) + 1) <= 0)
                        continue;
                if (fds[2].revents || fds[3].revents & (POLLERR | POLLHUP | POLLNVAL))
                        return WAKE_END;
                if (fds[1].revents)
                        return WAKE_PROCESS;
                if (fds[0].revents && store_touched(w->inotify))
                        return WAKE_STORE;
        }
        return WAKE_END;
}

static bool look(struct watch *w, bool store, bool all)
{
        struct cc_err why = CC_ERR_INIT;

        if (store && reload(w, false, &why) < 0)
                cc_warn("vm.status", "cannot read the VMs, showing the last known: %s", why.msg);
        check_processes(w, all);
        return tell(w, false);
}

static int64_t earliest(int64_t a, int64_t b)
{
        return b && b < a ? b : a;
}

static int loop(struct watch *w)
{
        int64_t interval = w->args->interval_s * CC_NSEC_PER_SEC;
        int64_t deadline = w->args->timeout ? cc_monotonic() + w->args->timeout : 0;
        int64_t tick = cc_monotonic() + interval;
        int64_t group = 0; /* when the pending change of the store is looked at; 0: none */
        bool go_on = true;

        while (go_on) {
                enum wake wake =
                        wait_wake(w, earliest(earliest(tick, group), deadline), group != 0);
                int64_t now = cc_monotonic();

                if (wake == WAKE_END)
                        return 0;
                if (wake == WAKE_STORE) {
                        group = now + DEBOUNCE_MS * CC_NSEC_PER_MSEC;
                        continue;
                }
                if (wake == WAKE_PROCESS) {
                        go_on = look(w, false, false);
                        continue;
                }
                go_on = look(w, true, now >= tick);
                if (go_on && deadline && now >= deadline)
                        return -CC_TIMEOUT;
                if (now >= tick)
                        tick = now + interval;
                group = 0;
        }
        return 0;
}

int vm_watch_run(struct cli *cli, const struct vm_watch_args *args, struct cc_err *err)
{
        CC_CLEANUP(watch_clear)
        struct watch w = { .cli = cli, .args = args, .inotify = -1, .epoll = -1 };
        int r = cli_engine(cli, &w.e, err);

        /* Watched before the first read, so that nothing falls in between. */
        if (r == 0)
                r = start_watching(&w, err);
        if (r == 0)
                r = reload(&w, true, err);
        if (r < 0)
                return r;
        return tell(&w, true) ? loop(&w) : 0;
}
