/* One VM: what its record says against what the host has (state.md §11, doctor vm). */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fs.h"
#include "config/layout.h"
#include "doctor/internal.h"
#include "model/vm.h"

struct patient {
        struct doctor d;
        struct engine e;
        struct vm_record vm;
        const struct hv_driver *drv;
        struct hv_env env;
        struct vm_proc proc;
        bool live;
};

static void patient_clear(struct patient *p)
{
        vm_proc_clear(&p->proc);
        vm_record_clear(&p->vm);
        engine_close(&p->e);
}

static bool recorded_running(const struct patient *p)
{
        return cc_streq(p->vm.state, vm_state_name(VM_RUNNING));
}

/* ---- record ---- */

static int say_tombstone(void *ctx, const struct tombstone *t, struct cc_err *err)
{
        (void)t;
        (void)err;
        doctor_say(ctx, DOCTOR_WARN, "\"cocoon vm rm\" or \"cocoon gc\" finishes it",
                   "its removal was interrupted");
        return 0;
}

static void check_record(struct patient *p)
{
        struct doctor *d = &p->d;
        struct cc_err why = CC_ERR_INIT;
        size_t before = d->report->n;

        d->check = "record";
        if (vm_nics_check(&p->vm, &why) < 0)
                doctor_say(d, DOCTOR_FAIL, NULL, "%s", why.msg);
        if (vm_disks_check(&p->vm, &why) < 0)
                doctor_say(d, DOCTOR_FAIL, NULL, "%s", why.msg);
        if (p->vm.restore_pending)
                doctor_say(d, DOCTOR_WARN, "\"cocoon vm restore\" it again",
                           "a restore was interrupted (%s)",
                           p->vm.restore_pending->phase ? p->vm.restore_pending->phase : "");
        if (p->vm.hibernating)
                doctor_say(d, DOCTOR_WARN, "any verb that changes the VM finishes it",
                           "its hibernation was interrupted");
        (void)meta_tombstone_get(p->e.meta, "vm", p->vm.id, say_tombstone, d, NULL);
        if (d->report->n == before)
                doctor_say(d, DOCTOR_PASS, NULL, "%s (%s), %s, %s", p->vm.config.name, p->vm.id,
                           p->drv->name, p->vm.state);
}

static void check_lock(struct patient *p)
{
        CC_FREE char *path = layout_vm_lock(p->d.config, p->vm.id);
        CC_CLOSE int lock = -1;
        struct cc_err why = CC_ERR_INIT;

        p->d.check = "lock";
        /* Shared and at once let go: nobody is kept waiting. */
        if (cc_lock_try(path, CC_LOCK_SHARED, "doctor", &lock, &why) == 0)
                doctor_say(&p->d, DOCTOR_PASS, NULL, "free");
        else
                doctor_say(&p->d, DOCTOR_WARN, "what follows may change meanwhile", "%s", why.msg);
}

/* ---- process ---- */

static const char *state_word(enum hv_state s)
{
        return s == HV_RUNNING        ? "running"
               : s == HV_PAUSED       ? "paused"
               : s == HV_UNCONFIGURED ? "not configured"
                                      : "broken";
}

static void check_guest(struct patient *p)
{
        struct cc_err why = CC_ERR_INIT;
        enum hv_state state;
        int r = p->drv->state(&p->env, p->vm.run_dir, &state, &why);

        p->d.check = "socket";
        if (r < 0)
                doctor_say(&p->d, r == -CC_TIMEOUT ? DOCTOR_WARN : DOCTOR_FAIL, NULL, "%s",
                           why.msg);
        else if (state != HV_RUNNING)
                doctor_say(&p->d, DOCTOR_WARN, "\"cocoon vm stop\" and start it", "the guest is %s",
                           state_word(state));
        else
                doctor_say(&p->d, DOCTOR_PASS, NULL, "the VMM answers, the guest is running");
}

static void check_process(struct patient *p)
{
        int r = vm_find_live(p->drv, &p->vm, &p->proc);

        p->d.check = "process";
        p->live = r == 0;
        if (r < 0 && r != -CC_NOT_FOUND)
                doctor_say(&p->d, DOCTOR_WARN, NULL, "it cannot be told whether its VMM is alive");
        else if (p->live && !recorded_running(p))
                doctor_say(&p->d, DOCTOR_FAIL, "\"cocoon vm start\" takes it over, stop ends it",
                           "process %d runs, recorded is \"%s\"", (int)p->proc.pid, p->vm.state);
        else if (!p->live && recorded_running(p))
                doctor_say(&p->d, DOCTOR_FAIL, "\"cocoon vm start\" it again",
                           "recorded as running, but its process is gone");
        else if (p->live)
                doctor_say(&p->d, DOCTOR_PASS, NULL, "%d is its VMM", (int)p->proc.pid);
        else
                doctor_say(&p->d, DOCTOR_PASS, NULL, "none, as recorded");
        if (p->live)
                check_guest(p);
}

static void check_console(struct patient *p)
{
        CC_FREE char *path = cc_path_join(p->vm.run_dir, VM_CONSOLE_SOCKET);
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        CC_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        p->d.check = "console";
        if (strlen(path) >= sizeof(addr.sun_path)) {
                doctor_say(&p->d, DOCTOR_FAIL, NULL, "%s is too long for a socket", path);
                return;
        }
        memcpy(addr.sun_path, path, strlen(path) + 1);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
                doctor_say(&p->d, DOCTOR_PASS, NULL, "its relay answers");
        else
                doctor_say(&p->d, DOCTOR_WARN, "\"cocoon vm console\" starts another one",
                           "no relay answers: %s", strerror(errno));
}

/* ---- files ---- */

static void check_disks(struct patient *p)
{
        size_t well = 0;

        p->d.check = "disks";
        for (size_t i = 0; i < p->vm.storage_configs.len; i++) {
                const struct vm_disk *disk = vm_disk_at(&p->vm, i);
                struct stat st;

                if (cc_isempty(disk->path))
                        doctor_say(&p->d, DOCTOR_FAIL, NULL, "disk %zu has no path", i);
                else if (stat(disk->path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
                        well++;
                else if (cc_streq(disk->role, "cidata") && p->vm.first_booted)
                        well++; /* the seed goes after the first boot */
                else
                        doctor_say(&p->d, DOCTOR_FAIL, NULL, "%s (%s) is missing or empty",
                                   disk->path, disk->role ? disk->role : "");
        }
        if (well == p->vm.storage_configs.len)
                doctor_say(&p->d, DOCTOR_PASS, NULL, "%zu are there", well);
}

/* ---- network ---- */

/* MACs that the machine has against those recorded. */
static void check_machine_nics(struct patient *p)
{
        CC_STRV struct cc_strv macs = { 0 };
        struct cc_err why = CC_ERR_INIT;
        const char *mac;
        size_t well = 0;

        p->d.check = "nics";
        if (p->drv->nic_list(&p->env, p->vm.run_dir, &macs, &why) < 0) {
                doctor_say(&p->d, DOCTOR_WARN, NULL, "%s", why.msg);
                return;
        }
        for (size_t i = 0; i < p->vm.network_configs.len; i++) {
                bool there = false;

                cc_strv_foreach (&macs, k, mac)
                        there |= vm_nic(&p->vm, i)->mac && !strcasecmp(mac, vm_nic(&p->vm, i)->mac);
                if (there)
                        well++;
                else
                        doctor_say(&p->d, DOCTOR_FAIL, NULL, "the machine lacks NIC %zu", i);
        }
        if (macs.len > p->vm.network_configs.len)
                doctor_say(&p->d, DOCTOR_WARN, "\"cocoon vm net\" removes what is not recorded",
                           "the machine has %zu NICs, recorded are %zu", macs.len,
                           p->vm.network_configs.len);
        else if (well == p->vm.network_configs.len)
                doctor_say(&p->d, DOCTOR_PASS, NULL, "the machine has the %zu recorded", well);
}

static void say_nic(void *ctx, size_t index, bool well, const char *text)
{
        doctor_say(ctx, well ? DOCTOR_PASS : DOCTOR_FAIL, NULL, "NIC %zu: %s", index, text);
}

static void check_network(struct patient *p)
{
        struct net_env env = { .config = p->d.config, .meta = p->e.meta };
        const struct net_provider *net = NULL;
        struct cc_err why = CC_ERR_INIT;
        int r = net_provider_find(vm_net_backend(&p->vm), &net, &why);

        p->d.check = "network";
        if (r == 0 && !net) {
                doctor_say(&p->d, DOCTOR_PASS, NULL, "none");
                return;
        }
        if (r == 0)
                r = net->verify(&env, &p->vm, &why);
        if (r == 0)
                doctor_say(&p->d, DOCTOR_PASS, NULL, "%s: everything recorded is there", net->name);
        else
                /* A stopped VM's network is made again by its start. */
                doctor_say(&p->d, p->live ? DOCTOR_FAIL : DOCTOR_WARN,
                           p->live ? NULL : "the next start makes it again", "%s%s%s",
                           net ? net->name : "", net ? ": " : "", why.msg);
        if (net && net->inspect && cc_exists(vm_netns_path(&p->vm)) &&
            net->inspect(&env, &p->vm, p->live, say_nic, &p->d, &why) < 0)
                doctor_say(&p->d, DOCTOR_WARN, NULL, "%s", why.msg);
}

static int admit(struct patient *p, const char *ref, struct cc_err *err)
{
        struct meta_open_args args = { .root_dir = p->d.config->root_dir,
                                       .run_dir = p->d.config->run_dir,
                                       .existing = true };
        char id[27];
        int r = meta_open(&args, &p->e.meta, err);

        if (r == 0)
                r = meta_vm_resolve(p->e.meta, ref, id, err);
        if (r == 0)
                r = meta_vm_get(p->e.meta, id, &p->vm, err);
        if (r == 0)
                r = hv_driver_find(p->vm.hypervisor, &p->drv, err);
        if (r == 0 && (cc_isempty(p->vm.run_dir) || cc_isempty(p->vm.log_dir)))
                r = cc_fail(err, CC_INVALID, "vm %s: the record names no directories", id);
        if (r == 0)
                vm_hv_env(p->d.config, p->drv, &p->env);
        return r;
}

int doctor_vm(const struct config *config, const char *ref, struct doctor_report *ret,
              struct cc_err *err)
{
        static const struct doctor_options look = { 0 };
        DOCTOR_REPORT struct doctor_report report = { 0 };
        CC_CLEANUP(patient_clear)
        struct patient p = {
                .d = { .config = config, .options = &look, .report = &report },
                .e = { .config = config },
                .vm = VM_RECORD_INIT,
                .proc = VM_PROC_INIT,
        };
        int r = admit(&p, ref, err);

        if (r < 0)
                return r;
        check_lock(&p);
        check_record(&p);
        check_process(&p);
        if (p.live)
                check_console(&p);
        check_disks(&p);
        if (p.live && (p.drv->caps & HV_CAP_NIC_HOTPLUG))
                check_machine_nics(&p);
        check_network(&p);
        doctor_report_move(&report, ret);
        return 0;
}
