/* `vm debug`: everything create would check, and the argv of the launcher's own builder. Reserves
 * and creates nothing. */
#include "base/alloc.h"
#include "base/id.h"
#include "vm/internal.h"

int vm_debug(struct engine *e, const struct vm_request *req, struct cc_strv *ret_argv,
             struct cc_err *err)
{
        VM_PLAN struct vm_plan plan = { 0 };
        VM_SPEC_BUF struct vm_spec_buf spec = { 0 };
        char id[CC_ID_LEN + 1];
        int r = vm_plan_make(e, req, &plan, err);

        if (r < 0)
                return r;
        image_unlock(&plan.blob_locks);
        cc_id_new(id);
        r = vm_plan_identify(e, &plan, id, err);
        /* NICs as the VM would get them, with a MAC drawn for the occasion. */
        for (int64_t i = 0; i < req->nics && plan.net && r == 0; i++) {
                struct nic *nic = record_array_add(&nic_type, &plan.vm.network_configs);
                char mac[18];

                cc_mac_new(mac);
                cc_strset(&nic->mac, mac);
                if (!(plan.net->caps & NET_CAP_USER))
                        cc_strset(&nic->tap, "tap");
                nic->num_queues = req->cpu * 2;
                nic->queue_size = req->queue_size;
        }
        if (r == 0)
                r = vm_rebuild_cmdline(e->config, plan.drv, &plan.vm, err);
        if (r == 0)
                r = vm_plan_check(&plan, err);
        if (r == 0)
                r = vm_spec_build(&plan.vm, &spec, err);
        if (r == 0)
                r = plan.drv->debug(&plan.env, &spec.spec, ret_argv, err);
        return r;
}
