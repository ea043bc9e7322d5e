#include "vm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"

void fcd_vm_init(struct fcd_vm *vm)
{
        *vm = (struct fcd_vm){ .log = { .fd = -1, .level = FCD_LOG_INFO },
                               .kernel = -1,
                               .initrd = -1,
                               .vsock_listener = -1,
                               .serial_fd = -1,
                               .mem_fd = -1,
                               .exit_status = -1 };
        vm->machine = json_pack("{s:i, s:i, s:b, s:b, s:s}", "vcpu_count", 1, "mem_size_mib", 128,
                                "smt", 0, "track_dirty_pages", 0, "huge_pages", "None");
}

static void clear_devices(struct fcd_devices *d)
{
        while (d->n)
                fcd_device_remove(d, d->n - 1);
        free(d->v);
        d->v = NULL;
}

static void close_fd(int *fd)
{
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

void fcd_vm_clear(struct fcd_vm *vm)
{
        clear_devices(&vm->drives);
        clear_devices(&vm->nics);
        json_decref(vm->machine);
        json_decref(vm->boot);
        json_decref(vm->vsock);
        json_decref(vm->balloon);
        json_decref(vm->entropy);
        free(vm->cmdline);
        free(vm->serial_out);
        close_fd(&vm->kernel);
        close_fd(&vm->initrd);
        close_fd(&vm->vsock_listener);
        close_fd(&vm->mem_fd);
        if (vm->memory)
                (void)munmap(vm->memory, vm->memory_size);
        if (vm->serial_fd != STDOUT_FILENO)
                close_fd(&vm->serial_fd);
        close_fd(&vm->log.fd);
}

void fcd_violation(struct fcd_vm *vm, const char *fmt, ...)
{
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        dbl_journal_add(vm->journal, "violation", json_pack("{s:s}", "text", text));
}

void fcd_ok(struct dbl_reply *reply)
{
        reply->status = 204;
        reply->body.len = 0;
}

void fcd_fault(struct dbl_reply *reply, const char *fmt, ...)
{
        char *text = NULL;
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vasprintf(&text, fmt, ap);
        va_end(ap);
        if (n < 0)
                abort();
        dbl_reply_json(reply, 400, json_pack("{s:s%}", "fault_message", text, (size_t)n));
        free(text);
}

const char *fcd_os_error(int errnum)
{
        static char text[128];

        (void)snprintf(text, sizeof(text), "%s (os error %d)", strerror(errnum), errnum);
        return text;
}

struct fcd_device *fcd_device_find(const struct fcd_devices *d, const char *key, const char *id)
{
        for (size_t i = 0; i < d->n; i++) {
                if (cc_streq(json_string_value(json_object_get(d->v[i].config, key)), id))
                        return &d->v[i];
        }
        return NULL;
}

void fcd_device_remove(struct fcd_devices *d, size_t i)
{
        json_decref(d->v[i].config);
        close_fd(&d->v[i].fd);
        d->n--;
        memmove(&d->v[i], &d->v[i + 1], (d->n - i) * sizeof(*d->v));
}

size_t fcd_device_total(const struct fcd_vm *vm)
{
        return vm->drives.n + vm->nics.n + (vm->balloon != NULL) + (vm->vsock != NULL) +
               (vm->entropy != NULL);
}

/* A bucket without capacity or refill limits nothing. */
static void settle_bucket(json_t *limiter, const char *key)
{
        const json_t *bucket = json_object_get(limiter, key);

        if (json_integer_value(json_object_get(bucket, "size")) == 0 ||
            json_integer_value(json_object_get(bucket, "refill_time")) == 0)
                (void)json_object_set_new(limiter, key, json_null());
}

void fcd_settle_limiter(json_t *config, const char *key)
{
        json_t *limiter = json_object_get(config, key);

        if (!json_is_object(limiter))
                return;
        settle_bucket(limiter, "bandwidth");
        settle_bucket(limiter, "ops");
        if (json_is_null(json_object_get(limiter, "bandwidth")) &&
            json_is_null(json_object_get(limiter, "ops")))
                (void)json_object_set_new(config, key, json_null());
}
