/* What a live machine can be told: pause, go on, press keys, change its balloon. */
#include <string.h>

#include "base/json.h"
#include "serial.h"
#include "vm.h"

enum { KEYBOARD_BUFFER = 16, CAD_BYTES = 4 };

/* The guest takes the keys from the controller once its driver is up; before that, and while it
 * stands still, they stay there. */
static void deliver_keys(struct fcd_vm *vm)
{
        if (!vm->cad_unread || !dbl_guest_running(vm->guest) || !dbl_guest_booted(vm->guest) ||
            cc_streq(dbl_setting(vm->settings, "KEYBOARD"), "none"))
                return;
        vm->cad_unread = 0;
        vm->cad_reboots = !cc_streq(dbl_setting(vm->settings, "POWER_BUTTON"), "ignore");
        dbl_guest_power_button(vm->guest);
}

void fcd_ctrl_alt_del(struct fcd_vm *vm, struct dbl_reply *reply)
{
        if ((vm->cad_unread + 1) * CAD_BYTES > KEYBOARD_BUFFER) {
                fcd_fault(reply, "Internal VMM error: I8042 error: i8042 internal buffer full.");
                return;
        }
        vm->cad_unread++;
        deliver_keys(vm);
        fcd_ok(reply);
}

void fcd_pause(struct fcd_vm *vm, struct dbl_reply *reply)
{
        vm->state = FCD_PAUSED;
        dbl_guest_pause(vm->guest);
        fcd_serial_listen(vm, false);
        fcd_ok(reply);
}

void fcd_resume(struct fcd_vm *vm, struct dbl_reply *reply)
{
        vm->state = FCD_RUNNING;
        dbl_guest_resume(vm->guest);
        fcd_serial_listen(vm, true);
        deliver_keys(vm);
        fcd_ok(reply);
}

void fcd_patch_balloon(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        json_int_t amount = json_integer_value(json_object_get(body, "amount_mib"));

        if (!vm->balloon) {
                fcd_fault(reply, "Balloon update error: Failed perform action on device: Device "
                                 "not found");
        } else if (amount > json_integer_value(json_object_get(vm->machine, "mem_size_mib"))) {
                fcd_fault(reply,
                          "Balloon update error: Balloon: Requested memory should be less than "
                          "%" JSON_INTEGER_FORMAT "MiB",
                          amount);
        } else {
                (void)json_object_set(vm->balloon, "amount_mib",
                                      json_object_get(body, "amount_mib"));
                fcd_ok(reply);
        }
}
