/* The writable disks of a new VM: copy-on-write first, data disks beside it. Each is a sparse file
 * and one mkfs, so several are made at a time. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "disk/disk.h"
#include "vm/internal.h"

/* More mkfs at once than this only fight for the same disk. */
#define MAX_WORKERS 4

struct job {
        const char *path, *fstype;
        int64_t size;
        const char *backing; /* qcow2 overlay over this, or NULL */
        struct cc_err err;
};

struct crew {
        struct job *jobs;
        size_t n;
        atomic_size_t next;
        atomic_bool failed;
};

static void *work(void *arg)
{
        struct crew *crew = arg;
        size_t i;

        while ((i = atomic_fetch_add(&crew->next, 1)) < crew->n && !atomic_load(&crew->failed)) {
                struct job *job = &crew->jobs[i];
                int r;

                if (cc_interrupted())
                        r = cc_fail(&job->err, CC_CANCELED, "interrupted");
                else if (job->backing)
                        r = disk_create_overlay(job->path, job->backing, job->size, &job->err);
                else
                        r = disk_create_raw(job->path, job->size, job->fstype, &job->err);
                if (r < 0)
                        atomic_store(&crew->failed, true);
        }
        return NULL;
}

int vm_make_disks(const struct vm_plan *plan, struct cc_err *err)
{
        const struct vm_record *vm = &plan->vm;
        CC_FREE struct job *jobs = xcalloc(vm->storage_configs.len + 1, sizeof(*jobs));
        struct crew crew = { .jobs = jobs };
        pthread_t threads[MAX_WORKERS];
        size_t n_threads = 0;
        size_t data = 0;

        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *d = vm_disk_at(vm, i);
                struct job *job = &jobs[crew.n];

                if (d->ro)
                        continue;
                *job = (struct job){ .path = d->path,
                                     .fstype = "ext4",
                                     .size = vm->config.storage };
                if (cc_streq(d->role, "data")) {
                        job->fstype = d->fstype;
                        job->size = plan->data_sizes[data++];
                } else if (plan->cloudimg) {
                        job->backing = plan->base_image;
                }
                crew.n++;
        }
        /* This thread works too; without helpers it does all of it. */
        while (n_threads + 1 < crew.n && n_threads < MAX_WORKERS - 1 &&
               pthread_create(&threads[n_threads], NULL, work, &crew) == 0)
                n_threads++;
        (void)work(&crew);
        for (size_t i = 0; i < n_threads; i++)
                (void)pthread_join(threads[i], NULL);
        for (size_t i = 0; i < crew.n; i++)
                if (jobs[i].err.class != CC_OK)
                        return cc_err_copy(err, &jobs[i].err);
        return 0;
}
