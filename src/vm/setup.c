/*
 * A guest that came back from a snapshot (state.md K9, R9): it has the random numbers of every
 * other machine of that snapshot, and a clone has its source's name and addresses. The agent, where
 * there is one, changes that.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "image/image.h"
#include "vm/agent.h"
#include "vm/internal.h"

#define CONNECT_MS 5000
#define TOTAL_MS   10000

#define MIN_BALLOON (INT64_C(256) << 20) /* smaller machines get none */

/*
 * Run in the guest with sh(1): name, "swap" or "keep" (of MACs), "drop" or "-", then a triple for
 * each NIC: MAC, address with prefix or "dhcp", gateway or "-". What is given is data, never part
 * of the text.
 *
 * The files for systemd-networkd come first, also where it does not run: our own small images read
 * them. A guest that sets up by itself what is plugged in, as a clone's NICs are, gets the time to;
 * /etc/cocoon/network is how such an image is asked to.
 */
/* clang-format off */
static const char identity_script[] =
        "name=$1 macs=$2 drop=$3; shift 3\n"
        "bad=0 units=/etc/systemd/network\n"
        "each() { f=$1 i=0; shift; while [ $# -ge 3 ]; do $f $i \"$1\" \"$2\" \"$3\"; shift 3; i=$((i + 1)); done; }\n"
        "swap() {\n"
        "  ip link set dev eth$1 down && ip link set dev eth$1 address \"$2\" &&\n"
        "  ip link set dev eth$1 up || bad=1\n"
        "}\n"
        "unit() {\n"
        "  { printf '[Match]\\nMACAddress=%s\\n\\n[Network]\\n' \"$2\"\n"
        "    if [ \"$3\" = dhcp ]; then echo DHCP=ipv4; else echo \"Address=$3\"; fi\n"
        "    [ \"$4\" = - ] || echo \"Gateway=$4\"\n"
        "  } >\"$units/10-$(echo \"$2\" | tr -d :).network\" || bad=1\n"
        "}\n"
        "dev_of() {\n"
        "  for d in /sys/class/net/*; do\n"
        "    [ \"$(cat \"$d/address\" 2>/dev/null)\" = \"$1\" ] && { echo \"${d##*/}\"; return; }\n"
        "  done\n"
        "}\n"
        "settled() {\n"
        "  case $2 in dhcp) ip -4 -o addr show dev \"$1\" | grep -q ' inet ' ;;\n"
        "  *) ip -o addr show dev \"$1\" | grep -qF \" $2 \" ;; esac\n"
        "}\n"
        "apply() {\n"
        "  n=0\n"
        "  while dev=$(dev_of \"$2\"); [ -z \"$dev\" ] && [ $n -lt 40 ]; do sleep 0.1; n=$((n + 1)); done\n"
        "  [ -n \"$dev\" ] || { echo \"no interface has the address $2\" >&2; bad=1; return; }\n"
        "  while [ \"$macs\" = keep ] && [ $n -lt 40 ]; do\n"
        "    settled \"$dev\" \"$3\" && return\n"
        "    sleep 0.1; n=$((n + 1))\n"
        "  done\n"
        "  pkill -f \"udhcpc -i $dev\"\n"
        "  ip addr flush dev \"$dev\"\n"
        "  ip link set dev \"$dev\" up || bad=1\n"
        "  if [ \"$3\" != dhcp ]; then\n"
        "    ip addr add \"$3\" dev \"$dev\" || bad=1\n"
        "    [ \"$4\" = - ] || ip route replace default via \"$4\" dev \"$dev\" || bad=1\n"
        "  elif [ -x /etc/cocoon/network ]; then /etc/cocoon/network \"$dev\"\n"
        "  elif command -v dhclient >/dev/null; then dhclient \"$dev\" || bad=1\n"
        "  else udhcpc -i \"$dev\" -t 3 -T 1 -b -S || bad=1; fi\n"
        "}\n"
        "[ \"$drop\" = drop ] && echo 3 >/proc/sys/vm/drop_caches\n"
        "systemd=no; [ -d /run/systemd/system ] && systemd=yes\n"
        "if [ $systemd = yes ]; then hostnamectl set-hostname \"$name\" || bad=1\n"
        "else echo \"$name\" >/etc/hostname; hostname \"$name\" || bad=1; fi\n"
        "[ \"$macs\" = keep ] || each swap \"$@\"\n"
        "if [ -d $units ]; then rm -f $units/10-*.network; each unit \"$@\"; fi\n"
        "if [ $systemd = yes ] && [ -d $units ]; then systemctl restart systemd-networkd || bad=1\n"
        "else each apply \"$@\" >/dev/null; fi\n"
        "exit $bad\n";
/* clang-format on */

/* A cloud image takes all of it from the new seed disk. */
static const char cloud_script[] =
        "[ $1 = drop ] && echo 3 >/proc/sys/vm/drop_caches\n"
        "rm -f /etc/systemd/network/10-*.network\n"
        "cloud-init clean --logs --seed --configs network && cloud-init init --local &&\n"
        "cloud-init init && cloud-init modules --mode=config && systemctl restart "
        "systemd-networkd\n";

static void identity_argv(const struct vm_record *vm, const struct hv_driver *drv,
                          struct cc_strv *argv)
{
        bool drop = (drv->caps & HV_CAP_BALLOON) && !vm->config.no_balloon &&
                    vm->config.memory >= MIN_BALLOON;

        cc_strv_add(argv, "sh");
        cc_strv_add(argv, "-c");
        if (cc_streq(vm->config.image_type, IMAGE_CLOUDIMG)) {
                cc_strv_add(argv, cloud_script);
                cc_strv_add(argv, "sh");
                cc_strv_add(argv, drop ? "drop" : "-");
                return;
        }
        cc_strv_add(argv, identity_script);
        cc_strv_add(argv, "sh");
        cc_strv_add(argv, vm->config.name);
        cc_strv_add(argv, drv->caps & HV_CAP_NIC_SWAP ? "keep" : "swap");
        cc_strv_add(argv, drop ? "drop" : "-");
        for (size_t i = 0; i < vm->network_configs.len; i++) {
                const struct nic *nic = vm_nic(vm, i);
                bool fixed = nic->network && !cc_isempty(nic->network->ip);

                if (cc_isempty(nic->mac))
                        continue;
                cc_strv_add(argv, nic->mac);
                if (fixed)
                        cc_strv_addf(argv, "%s/%lld", nic->network->ip,
                                     (long long)nic->network->prefix);
                else
                        cc_strv_add(argv, "dhcp");
                cc_strv_add(argv, fixed && !cc_isempty(nic->network->gateway)
                                          ? nic->network->gateway
                                          : "-");
        }
}

struct budget {
        int64_t end;
        struct vm_agent *agent;
};

static int64_t left_ms(const struct budget *b)
{
        int64_t left = (b->end - cc_monotonic()) / CC_NSEC_PER_MSEC;

        return left > 1 ? left : 1;
}

static int dial(const struct budget *b, struct agent_conn *ret, struct cc_err *err)
{
        int64_t left = left_ms(b);
        struct agent_dial how = { .connect_ms = left < CONNECT_MS ? left : CONNECT_MS,
                                  .queue_ms = left };

        return agent_dial(&b->agent->peer, &how, ret, err);
}

static int reseed(const struct budget *b, bool machine_id, struct cc_err *err)
{
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        int r = dial(b, &c, err);

        return r < 0 ? r : agent_reseed(&c, machine_id, left_ms(b), err);
}

static int identify(const struct budget *b, const struct vm_record *vm, struct cc_err *err)
{
        AGENT_CONN struct agent_conn c = AGENT_CONN_INIT;
        CC_STRV struct cc_strv argv = { 0 };
        CC_BUF struct cc_buf said = { 0 };
        struct agent_result result = { 0 };
        struct agent_exec x = { .fd_in = -1, .fd_out = -1, .fd_err = -1, .err_text = &said };
        int r = dial(b, &c, err);

        if (r < 0)
                return r;
        identity_argv(vm, b->agent->drv, &argv);
        x.argv = (const char *const *)argv.v;
        x.timeout_ms = left_ms(b);
        r = agent_exec(&c, &x, &result, err);
        if (r == 0 && result.code != 0) {
                const char *text = said.data ? said.data : "";

                return cc_fail(err, CC_INVALID, "the guest's commands failed: %.*s",
                               (int)strcspn(text, "\n"), text);
        }
        return r;
}

/* Not waited for where it cannot answer: most guests without one have not even the port open. */
static bool worth_a_try(const struct config *c, const struct vm_agent *a, int known)
{
        struct hv_env env;
        bool open = true;

        if (a->peer.carrier == AGENT_NONE || known == 0 || a->vm.config.windows)
                return false;
        vm_hv_env(c, a->drv, &env);
        return !a->drv->agent_open ||
               (a->drv->agent_open(&env, a->vm.run_dir, &open, NULL) == 0 && open);
}

void vm_guest_setup(const struct config *c, const struct vm_record *vm,
                    const struct vm_guest_setup *how, bool *ret_applied)
{
        VM_AGENT struct vm_agent a = { 0 };
        struct budget b = { .end = cc_monotonic() + TOTAL_MS * CC_NSEC_PER_MSEC, .agent = &a };
        const char *tag = how->clone ? "vm.clone" : "vm.restore";
        struct cc_err why = CC_ERR_INIT;
        int r;

        *ret_applied = false;
        if (cc_interrupted() || vm_agent_find(c, vm, &a, NULL) < 0 ||
            !worth_a_try(c, &a, how->known))
                return;
        r = reseed(&b, how->clone, &why);
        if (r < 0) {
                cc_warn(tag, "reseed of vm %s: %s; by hand: cocoon vm reseed%s %s", vm->id, why.msg,
                        how->clone ? " --machine-id" : "", vm->config.name);
                return;
        }
        if (!how->identity)
                return;
        r = identify(&b, vm, &why);
        if (r < 0)
                cc_warn(tag, "identity of vm %s: %s", vm->id, why.msg);
        *ret_applied = r == 0;
}
