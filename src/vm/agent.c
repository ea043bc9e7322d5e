/* The way to a VM's agent. See agent.h. */
#include "vm/agent.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "vm/internal.h"

#define FRESH_NS      (60 * CC_NSEC_PER_SEC)
#define PATIENCE_MS   10000
#define IMPATIENCE_MS 2000

/* A guest that is up answers much sooner; one without vsock never does. */
#define PRESENT_MS 500

void vm_agent_clear(struct vm_agent *a)
{
        vm_record_clear(&a->vm);
        cc_strv_free(&a->paths);
        *a = (struct vm_agent){ 0 };
}

static bool alive(void *ctx)
{
        const struct vm_agent *a = ctx;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;

        return vm_find_live(a->drv, &a->vm, &proc) == 0;
}

/* A socket that exists; machines of older versions have none. */
static const char *socket_at(struct vm_agent *a, const char *name)
{
        CC_FREE char *path = cc_path_join(a->vm.run_dir, name);

        if (!cc_exists(path))
                return NULL;
        cc_strv_take(&a->paths, TAKE_PTR(path));
        return a->paths.v[a->paths.len - 1];
}

static void add_ports(const struct config *c, struct vm_agent *a)
{
        struct agent_peer *p = &a->peer;

        for (size_t i = 0; a->drv->agent_ports[i] && i < AGENT_PORTS_MAX; i++) {
                const char *path = socket_at(a, a->drv->agent_ports[i]);

                if (!path)
                        break;
                p->carrier = AGENT_SERIAL;
                p->sockets[i] = path;
                cc_strv_take(&a->paths,
                             xasprintf("%s/locks/vm/%s.agent.%zu.lock", c->root_dir, a->vm.id, i));
                p->locks[i] = a->paths.v[a->paths.len - 1];
                p->n = i + 1;
        }
}

int vm_agent_find(const struct config *c, const struct vm_record *vm, struct vm_agent *ret,
                  struct cc_err *err)
{
        VM_AGENT struct vm_agent a = { 0 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        const char *path;
        int live;
        int r = hv_driver_find(vm->hypervisor, &a.drv, err);

        if (r < 0)
                return r;
        live = vm_in_state(vm, VM_RUNNING) ? vm_is_live(a.drv, vm, &proc, err) : 0;
        if (live < 0)
                return live;
        if (live == 0) {
                r = cc_fail(err, CC_STATE, "vm %s is %s: vm not running", vm->id,
                            vm_in_state(vm, VM_RUNNING) ? VM_STATE_STALE : vm->state);
                cc_code(err, "vm_not_running");
                return r;
        }
        record_copy(&vm_record_type, &a.vm, vm);
        path = a.drv->agent_vsock ? socket_at(&a, a.drv->agent_vsock) : NULL;
        if (path) {
                a.peer.carrier = AGENT_VSOCK;
                a.peer.sockets[0] = path;
                a.peer.n = 1;
        } else if (a.drv->agent_ports) {
                add_ports(c, &a);
        }
        a.peer.alive = alive;
        *ret = a;
        /* The copy is where it stays. */
        ret->peer.ctx = ret;
        a = (struct vm_agent){ 0 };
        return 0;
}

int64_t vm_agent_patience(const struct vm_record *vm)
{
        return cc_now() - vm->started_at < FRESH_NS ? PATIENCE_MS : IMPATIENCE_MS;
}

bool vm_agent_present(const struct config *c, const struct vm_record *vm)
{
        VM_AGENT struct vm_agent a = { 0 };
        struct hv_env env;
        bool open = true;

        if (vm_agent_find(c, vm, &a, NULL) < 0 || a.peer.carrier == AGENT_NONE)
                return false;
        vm_hv_env(c, a.drv, &env);
        if (a.drv->agent_open && (a.drv->agent_open(&env, vm->run_dir, &open, NULL) < 0 || !open))
                return false;
        return agent_answers(&a.peer, PRESENT_MS);
}
