/*
 * Figures of the network, in namespaces of their own, each beside its floor, made in the same
 * round: net.wire     namespace, TAP device, redirect; the veth pair apart (it is a plugin's).
 *                Floor: the bare kernel objects.
 *   net.builtin  a whole NIC of the built-in network: also lease, veth, bridge port, rules.
 *                Floor: the bare kernel objects, veth pair included.
 *   net.cni      a whole NIC by Debian's bridge and host-local plugins.
 *                Floor: these plugins alone, in a namespace that is there.
 * Prints `name median unit floor ratio`, tab-separated. Needs root.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/timeutil.h"
#include "meta/meta.h"
#include "net/cni_chain.h"
#include "net/cni_exec.h"
#include "net/conflist.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/providers.h"
#include "net/tap.h"
#include "net/wire.h"

#define SAMPLES 41
#define MAC     "02:00:00:00:00:07"

static char root[] = "/tmp/cocoon-netbench-XXXXXX";

static void check(int r, const struct cc_err *err)
{
        if (r >= 0)
                return;
        (void)fprintf(stderr, "net_bench: %s\n", err->msg);
        (void)cc_rm_rf(root, NULL);
        exit(1);
}

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a;
        double y = *(const double *)b;

        return x < y ? -1 : x > y;
}

/* The first sample warms caches and is dropped. */
static double median(double *v)
{
        qsort(v + 1, SAMPLES - 1, sizeof(*v), compare);
        return v[1 + (SAMPLES - 1) / 2];
}

static double ms_since(int64_t start)
{
        return (double)(cc_monotonic() - start) / (double)CC_NSEC_PER_MSEC;
}

static void add_veth(struct nl_sock *sk, int ns)
{
        struct cc_err err = CC_ERR_INIT;
        struct link_veth v = {
                .name = "peer", .peer = "eth0", .mac = MAC, .mtu = 1500, .netns = ns
        };

        check(link_add_veth(sk, &v, &err), &err);
}

/* Namespace, TAP and veth and no more; what the pair took goes to *ret_veth. */
static double bare(struct nl_sock *sk, double *ret_veth)
{
        CC_FREE char *path = netns_path("BARE");
        struct netns_fds f = NETNS_FDS_INIT;
        struct cc_err err = CC_ERR_INIT;
        int64_t start = cc_monotonic();
        int64_t veth;
        double all;

        check(netns_create(path, NULL, &err), &err);
        check(netns_open(path, true, &f, &err), &err);
        check(tap_create(f.tun, "tap", 1, &err), &err);
        veth = cc_monotonic();
        add_veth(sk, f.ns);
        *ret_veth = ms_since(veth);
        all = ms_since(start);
        netns_close(&f);
        check(link_delete(sk, "peer", &err), &err);
        check(netns_delete(path, &err), &err);
        return all;
}

static double wired(struct nl_sock *sk)
{
        CC_FREE char *path = netns_path("WIRE");
        struct wire w = { .netns = path, .eth = "eth0", .tap = "tap", .num_queues = 2 };
        struct netns_fds f = NETNS_FDS_INIT;
        struct cc_err err = CC_ERR_INIT;
        int64_t start = cc_monotonic();
        uint32_t mtu;
        char mac[18];
        double t;

        check(netns_create(path, NULL, &err), &err);
        t = ms_since(start);
        check(netns_open(path, false, &f, &err), &err);
        add_veth(sk, f.ns);
        netns_close(&f);
        start = cc_monotonic();
        check(wire_nic(&w, mac, &mtu, &err), &err);
        t += ms_since(start);
        check(link_delete(sk, "peer", &err), &err);
        check(netns_delete(path, &err), &err);
        return t;
}

static double add_nic(const struct net_env *env, struct vm_record *vm)
{
        struct net_spec spec = { 0 };
        struct cc_err err = CC_ERR_INIT;
        char id[CC_ID_LEN + 1];
        int64_t start;

        cc_id_new(id);
        vm->id = xstrdup(id);
        vm->config.cpu = 1;
        start = cc_monotonic();
        check(net_provider_cni.prepare(env, vm, &err), &err);
        check(net_provider_cni.add(env, vm, &spec, 1, &vm->network_configs, &err), &err);
        return ms_since(start);
}

/* A whole NIC of the network that a VM gets by default here. */
static double one_nic(const struct net_env *env)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        double t = add_nic(env, &vm);

        check(net_provider_cni.delete(env, &vm, &err), &err);
        return t;
}

static const char list_text[] =
        "{\"name\":\"bench\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"bridge\","
        "\"bridge\":\"bench0\",\"isGateway\":true,\"ipam\":{\"type\":\"host-local\",\"dataDir\":"
        "\"%s/leases\",\"ranges\":[[{\"subnet\":\"10.99.0.0/16\"}]]}}]}";

/* The plugins of the list by themselves. */
static double plugins(struct cni_runtime *rt, const struct conflist *list)
{
        CC_FREE char *path = netns_path("BARE");
        struct cni_attachment a = {
                .vm_id = "BARE", .container = "BARE", .if_name = "eth0", .netns = path, .args = ""
        };
        struct cc_err err = CC_ERR_INIT;
        json_t *result = NULL;
        int64_t start;
        double t;

        check(netns_create(path, NULL, &err), &err);
        start = cc_monotonic();
        check(cni_add(rt, list, &a, &result, &err), &err);
        t = ms_since(start);
        check(cni_del(rt, list, &a, result, &err), &err);
        json_decref(result);
        check(netns_delete(path, &err), &err);
        return t;
}

static void print(const char *name, double *t, double *floor)
{
        double a = median(t);
        double b = median(floor);

        (void)printf("%s\t%.3f\tms\t%.3f\t%.2f\n", name, a, b, a / b);
}

/* Needs the plugins; a round takes some 100 ms. */
static void bench_cni(struct net_env *env)
{
        CNI_RUNTIME struct cni_runtime rt = { .timeout_ms = 30000 };
        CC_FREE char *text = xasprintf(list_text, root);
        CC_FREE char *file = xasprintf("%s/net.d/bench.conflist", root);
        CC_FREE char *dir = xasprintf("%s/net.d", root);
        struct config config = { .root_dir = root, .cni_conf_dir = dir, .cni_timeout_seconds = 30 };
        struct conflist list = { 0 };
        struct cc_err err = CC_ERR_INIT;
        double whole[SAMPLES];
        double floor[SAMPLES];

        cni_plugin_path(NULL, &rt.path);
        if (!cni_plugin_exists(&rt.path, "bridge") || !cni_plugin_exists(&rt.path, "host-local")) {
                (void)fprintf(stderr, "bench: net.cni: left out: no CNI plugins\n");
                return;
        }
        rt.cache_dir = xasprintf("%s/cache", root);
        check(cc_mkdir_p(dir, 0755, &err), &err);
        check(cc_publish(file, text, strlen(text), 0644, &err), &err);
        check(conflist_parse(text, strlen(text), NULL, &list, &err), &err);
        env->config = &config;
        for (size_t i = 0; i < SAMPLES; i++) {
                floor[i] = plugins(&rt, &list);
                whole[i] = one_nic(env);
        }
        print("net.cni", whole, floor);
        conflist_clear(&list);
        env->config = NULL;
}

int main(void)
{
        struct meta_open_args args = { .root_dir = root, .run_dir = root };
        VM_RECORD struct vm_record other = VM_RECORD_INIT;
        double wire[SAMPLES];
        double wire_floor[SAMPLES];
        double whole[SAMPLES];
        double floor[SAMPLES];
        struct cc_err err = CC_ERR_INIT;
        struct net_env env = { 0 };
        struct nl_sock *sk;

        if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
            mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            (mkdir("/run/netns", 0755) < 0 && access("/run/netns", F_OK) < 0) ||
            mount("tmpfs", "/run/netns", "tmpfs", 0, NULL) < 0) {
                (void)fprintf(stderr, "bench: net: left out: needs root\n");
                return 0;
        }
        if (!mkdtemp(root))
                return 1;
        check(meta_open(&args, &env.meta, &err), &err);
        check(rtnl_open(&sk, &err), &err);
        (void)add_nic(&env, &other);
        for (size_t i = 0; i < SAMPLES; i++) {
                double veth;

                floor[i] = bare(sk, &veth);
                wire_floor[i] = floor[i] - veth;
                wire[i] = wired(sk);
                whole[i] = one_nic(&env);
        }
        print("net.wire", wire, wire_floor);
        print("net.builtin", whole, floor);
        bench_cni(&env);
        check(net_provider_cni.delete(&env, &other, &err), &err);
        nl_socket_free(sk);
        meta_close(env.meta);
        (void)cc_rm_rf(root, NULL);
        return 0;
}
