/* Configuration before boot that is no drive, NIC or vsock: machine, boot source, balloon, entropy,
 * serial output, logger and metrics. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "cmdline.h"
#include "vm.h"

enum { VCPUS_MAX = 32 };

static const char *text_of(const json_t *body, const char *key)
{
        return json_string_value(json_object_get(body, key));
}

/* The value that an update names, else the present one. */
static json_t *chosen(const json_t *update, const json_t *now, const char *key)
{
        json_t *value = json_object_get(update, key);

        return value && !json_is_null(value) ? value : json_object_get(now, key);
}

/* A CPU template is no longer shown once it is "None". */
static void set_template(json_t *machine, const json_t *value)
{
        (void)json_object_set(machine, "cpu_template", (json_t *)value);
        if (!json_is_string(value) || cc_streq(json_string_value(value), "None"))
                (void)json_object_del(machine, "cpu_template");
}

/* PUT and PATCH: PUT's body has every field. */
void fcd_put_machine(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        static const char *const keys[] = { "vcpu_count",   "mem_size_mib",      "smt",
                                            "cpu_template", "track_dirty_pages", "huge_pages" };
        CC_JSON json_t *next = json_object();
        json_int_t vcpus, mem;

        for (size_t i = 0; i < CC_ARRAY_LEN(keys); i++) {
                json_t *value = chosen(body, vm->machine, keys[i]);

                (void)json_object_set(next, keys[i], value ? value : json_null());
        }
        vcpus = json_integer_value(json_object_get(next, "vcpu_count"));
        mem = json_integer_value(json_object_get(next, "mem_size_mib"));
        if (vcpus < 1 || vcpus > VCPUS_MAX ||
            (json_is_true(json_object_get(next, "smt")) && vcpus > 1 && vcpus % 2)) {
                fcd_fault(reply,
                          "Machine config error: The number of vCPUs must be greater than 0, less "
                          "than %d and must be 1 or an even number if SMT is enabled.",
                          VCPUS_MAX);
                return;
        }
        if (mem < 1 || (mem % 2 && cc_streq(text_of(next, "huge_pages"), "2M"))) {
                fcd_fault(reply, "Machine config error: The memory size (MiB) is either 0, or not "
                                 "a multiple of the configured page size.");
                return;
        }
        if (vm->balloon && mem < json_integer_value(json_object_get(vm->balloon, "amount_mib"))) {
                fcd_fault(reply, "Machine config error: The memory size (MiB) is smaller than the "
                                 "previously set balloon device target size.");
                return;
        }
        if (cc_streq(text_of(next, "huge_pages"), "2M"))
                fcd_violation(vm, "huge pages: such a machine cannot be restored from a file");
        set_template(next, json_object_get(next, "cpu_template"));
        json_decref(vm->machine);
        vm->machine = TAKE_PTR(next);
        fcd_ok(reply);
}

void fcd_put_boot_source(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        const char *args = text_of(body, "boot_args");
        const char *initrd = text_of(body, "initrd_path");
        CC_CLOSE int kernel_fd = open(text_of(body, "kernel_image_path"), O_RDONLY | O_CLOEXEC);
        CC_CLOSE int initrd_fd = -1;
        CC_FREE char *cmdline = NULL;
        const char *problem;

        if (kernel_fd < 0) {
                fcd_fault(reply, "Boot source error: The kernel file cannot be opened: %s",
                          fcd_os_error(errno));
                return;
        }
        if (initrd)
                initrd_fd = open(initrd, O_RDONLY | O_CLOEXEC);
        if (initrd && initrd_fd < 0) {
                fcd_fault(reply,
                          "Boot source error: The initrd file cannot be opened due to invalid path "
                          "or invalid permissions. %s",
                          fcd_os_error(errno));
                return;
        }
        problem = fcd_cmdline_new(args ? args : FCD_CMDLINE_DEFAULT, &cmdline);
        if (problem) {
                fcd_fault(reply, "Boot source error: The kernel command line is invalid: %s",
                          problem);
                return;
        }
        if (vm->kernel >= 0)
                close(vm->kernel);
        if (vm->initrd >= 0)
                close(vm->initrd);
        vm->kernel = TAKE_FD(kernel_fd);
        vm->initrd = TAKE_FD(initrd_fd);
        free(vm->cmdline);
        vm->cmdline = TAKE_PTR(cmdline);
        json_decref(vm->boot);
        vm->boot = json_incref(body);
        fcd_ok(reply);
}

void fcd_put_balloon(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        if (json_integer_value(json_object_get(body, "amount_mib")) >
            json_integer_value(json_object_get(vm->machine, "mem_size_mib"))) {
                fcd_fault(reply, "Balloon config error: Amount of pages requested is too large.");
                return;
        }
        json_decref(vm->balloon);
        vm->balloon = json_incref(body);
        fcd_ok(reply);
}

void fcd_put_entropy(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        fcd_settle_limiter(body, "rate_limiter");
        json_decref(vm->entropy);
        vm->entropy = json_incref(body);
        fcd_ok(reply);
}

void fcd_put_serial(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        /* Opened when the machine starts, not now. */
        cc_strset(&vm->serial_out, text_of(body, "serial_out_path"));
        fcd_ok(reply);
}

void fcd_put_logger(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        const char *path = text_of(body, "log_path");
        const char *level = text_of(body, "level");
        int errnum = path ? fcd_log_open(&vm->log, path, vm->minor >= 14) : 0;

        if (errnum) {
                fcd_fault(reply, "Logger error: Failed to open target file: %s",
                          fcd_os_error(errnum));
                return;
        }
        /* A request without a level sets the default one. */
        vm->log.level = level ? (enum fcd_level)fcd_log_level(level) : FCD_LOG_INFO;
        if (!json_is_null(json_object_get(body, "show_level")))
                vm->log.show_level = json_is_true(json_object_get(body, "show_level"));
        fcd_ok(reply);
}

void fcd_put_metrics(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        const char *path = text_of(body, "metrics_path");
        CC_CLOSE int fd = open(path, O_RDWR | O_NONBLOCK | O_CREAT | O_CLOEXEC, 0666);

        if (fd < 0 || vm->metrics) {
                fcd_fault(reply,
                          "Metrics error: Cannot initialize the metrics system due to bad user "
                          "input: %s",
                          fd < 0 ? fcd_os_error(errno)
                                 : "Reinitialization of metrics not allowed.");
                return;
        }
        vm->metrics = true;
        fcd_ok(reply);
}
