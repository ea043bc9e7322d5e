/*
 * The provider cni with plugins, in a network of the test's own: order of calls, rollback, what
 * stays behind a failed DEL, recovery, removal without conflist or namespace. The plugins are fake
 * (fake_cni.h) but make real interfaces and hold leases as files.
 */
#include "sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "fake_cni.h"

#include "base/proc.h"
#include "base/str.h"
#include "hv/launch.h"
#include "net/cni_index.h"
#include "net/gc.h"
#include "net/wire.h"

static struct sandbox box;
static bool have_box;
static struct config config;
static char *fakes; /* directory of the plugins */
static char *lists; /* directory of the conflists */

static const struct net_provider *const cni = &net_provider_cni;

/* Interface i gets 10.1.i.2, or what CNI_ARGS or the capability asks for, and a lease that a second
 * ADD meets. */
static const char add_script[] =
        "net=$(jq -r .name <\"$me.in\")\n"
        "lease=$FAKE_CNI/lease.$net.$CNI_CONTAINERID.$CNI_IFNAME\n"
        "if [ -e \"$lease\" ]; then echo '{\"code\":999,\"msg\":\"duplicate allocation\"}'\n"
        "exit 1; fi\n"
        "i=${CNI_IFNAME#eth} ip=10.1.$i.2\n"
        "case $CNI_ARGS in *IP=*) ip=${CNI_ARGS##*IP=};; esac\n"
        "[ ! -e \"$FAKE_CNI/other\" ] || ip=10.1.9.9\n"
        "touch \"$lease\"\n"
        "n='nsenter --net='$CNI_NETNS\n"
        "$n ip link add $CNI_IFNAME type veth peer name p$i || exit 1\n"
        "$n ip addr add $ip/24 dev $CNI_IFNAME\n"
        "echo '{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"'$CNI_IFNAME'\",'\n"
        "echo '\"sandbox\":\"x\"}],\"ips\":[{\"address\":\"'$ip'/24\",\"interface\":0,'\n"
        "echo '\"gateway\":\"10.1.0.1\"}],\"dns\":{\"nameservers\":[\"10.1.0.53\"]}}'\n";

/* Notes which addresses it still finds, as a plugin that undoes address translation does. */
static const char del_script[] =
        "net=$(jq -r .name <\"$me.in\")\n"
        "rm -f \"$FAKE_CNI/lease.$net.$CNI_CONTAINERID.$CNI_IFNAME\"\n"
        "[ -n \"$CNI_NETNS\" ] || exit 0\n"
        "n='nsenter --net='$CNI_NETNS\n"
        "$n ip -4 -o addr show dev $CNI_IFNAME 2>/dev/null | sed 's/.*inet \\([^ ]*\\).*/\\1/' "
        ">>\"$FAKE_CNI/seen\"\n"
        "$n ip -6 -o addr show dev $CNI_IFNAME scope global 2>/dev/null | "
        "sed 's/.*inet6 \\([^ ]*\\).*/\\1/' >>\"$FAKE_CNI/seen6\"\n"
        "$n ip link del $CNI_IFNAME 2>/dev/null\n"
        "exit 0\n";

static const char fails[] = "echo '{\"code\":999,\"msg\":\"will not\"}'; exit 1\n";

static void put_list(const char *file, const char *name, const char *extra)
{
        CC_FREE char *text = xasprintf("{\"name\":\"%s\",\"cniVersion\":\"1.0.0\",\"plugins\":["
                                       "{\"type\":\"one\"%s},{\"type\":\"two\"}]}",
                                       name, extra);

        fake_write(lists, file, text, 0644);
}

static void drop_list(const char *file)
{
        CC_FREE char *path = cc_path_join(lists, file);

        (void)unlink(path);
}

static void behave(void)
{
        fake_does(fakes, "one.ADD", add_script);
        fake_does(fakes, "one.DEL", del_script);
        fake_does(fakes, "two.ADD", "jq -c .prevResult <\"$me.in\"\n");
        fake_does(fakes, "two.DEL", "");
}

static int each_setup(void **state)
{
        if (!have_box)
                return 0;
        must(cc_rm_rf(lists, E));
        must(cc_rm_rf(fakes, E));
        must(cc_mkdir_p(lists, 0755, E));
        must(cc_mkdir_p(fakes, 0755, E));
        fake_install(fakes, "one");
        fake_install(fakes, "two");
        behave();
        put_list("10-lan.conflist", "lan", "");
        put_list("20-dmz.conflist", "dmz", "");
        config.cni_timeout_seconds = 60;
        return 0;
}

static void need_box(void)
{
        if (!have_box) {
                print_message("reason: needs root, namespaces, /dev/net/tun, nsenter, ip and jq\n");
                skip();
        }
}

static size_t count_files(const char *dir, const char *prefix)
{
        CC_DIR DIR *d = opendir(dir);
        struct dirent *e;
        size_t n = 0;

        while (d && (e = readdir(d)))
                n += e->d_name[0] != '.' && cc_startswith(e->d_name, prefix);
        return n;
}

static size_t leases(void)
{
        return count_files(fakes, "lease.");
}

static size_t cached(void)
{
        CC_FREE char *dir = xasprintf("%s/cni/cache/results", box.dir);

        return count_files(dir, "");
}

static void assert_clean(void)
{
        assert_int_equal(sandbox_namespaces(), 0);
        assert_int_equal(sandbox_rows(&box), 0);
        assert_int_equal(sandbox_links(&box), 1);
        assert_int_equal(leases(), 0);
        assert_int_equal(cached(), 0);
}

static int add_n(struct vm_record *vm, size_t n, struct cc_err *err)
{
        return sandbox_add(&box, cni, vm, n, err);
}

static void test_add_delete(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cni_rows rows = { 0 };
        struct netns_fds f = NETNS_FDS_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct net_link eth;
        struct nic *nic;

        (void)state;
        need_box();
        sandbox_vm(&vm, 2);
        must(add_n(&vm, 2, E));
        assert_string_equal(vm.net_backend, "cni");
        assert_string_equal(vm.config.network, "lan"); /* the first list is the default */
        nic = vm_nic(&vm, 1);
        assert_string_equal(nic->network->ip, "10.1.1.2");
        assert_string_equal(nic->network->gateway, "10.1.0.1");
        assert_int_equal(nic->network->prefix, 24);
        assert_int_equal(nic->num_queues, 4);
        assert_string_equal(nic->backend, "cni");
        assert_string_equal(vm.config.dns.v[0], "10.1.0.53");
        assert_int_equal(vm.config.dns.len, 1);
        assert_log(fakes, "one ADD eth0\ntwo ADD eth0\none ADD eth1\ntwo ADD eth1\n");
        /* The guest has the interface's own MAC. */
        must(netns_open(vm.netns_path, false, &f, E));
        must(link_get(f.sk, "eth1", &eth, E));
        assert_string_equal(eth.mac, nic->mac);
        netns_close(&f);
        must(cni_rows_load(box.meta, vm.id, &rows, E));
        assert_int_equal(rows.len, 2);
        assert_string_equal(rows.v[1].type, "lan");
        assert_string_equal(rows.v[1].network.ip, "10.1.1.2");
        cni_rows_clear(&rows);

        must(cni->verify(&box.env, &vm, E));
        must(cni->quiesce(&box.env, &vm, E));
        must(cni->unquiesce(&box.env, &vm, E));
        must(cni->remove(&box.env, &vm, (const size_t[]){ 1 }, 1, E));
        must(cni->remove(&box.env, &vm, (const size_t[]){ 1 }, 1, E));
        assert_log(fakes, "two DEL eth1\none DEL eth1\n");
        assert_int_equal(cni->verify(&box.env, &vm, &err), -CC_NOT_FOUND);
        must(cni->delete (&box.env, &vm, E));
        assert_log(fakes, "two DEL eth0\none DEL eth0\n");
        must(cni->delete (&box.env, &vm, E));
        assert_log(fakes, "");
        assert_clean();
}

/* One network a NIC; servers named at creation win over the plugins'. */
static void test_networks(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cni_rows rows = { 0 };

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        vm.config.network = xstrdup("dmz,lan");
        cc_strv_add(&vm.config.dns, "9.9.9.9");
        must(add_n(&vm, 3, E));
        must(cni_rows_load(box.meta, vm.id, &rows, E));
        assert_string_equal(rows.v[0].type, "dmz");
        assert_string_equal(rows.v[1].type, "lan");
        assert_string_equal(rows.v[2].type, "lan");
        cni_rows_clear(&rows);
        assert_string_equal(vm.config.dns.v[0], "9.9.9.9");
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

static void refuse_prepare(const char *network, int class, const char *text)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        sandbox_vm(&vm, 1);
        vm.config.network = xstrdup(network);
        assert_int_equal(cni->prepare(&box.env, &vm, &err), class);
        assert_string_equal(err.msg, text);
        assert_clean();
}

static void test_unknown(void **state)
{
        (void)state;
        need_box();
        refuse_prepare("wan", -CC_NOT_FOUND,
                       "conflist \"wan\" not found (available: cocoon-builtin, dmz, lan)");
        refuse_prepare("lan,wan", -CC_NOT_FOUND,
                       "conflist \"wan\" not found (available: cocoon-builtin, dmz, lan)");
        refuse_prepare("lan,cocoon-builtin", -CC_UNSUPPORTED,
                       "network cocoon-builtin cannot be combined with others");
}

/* Nothing on the host and in the store after a failed add, but the namespace that was there. */
static void assert_undone(struct vm_record *vm, const struct cc_err *err)
{
        assert_non_null(strstr(err->msg, vm->id));
        assert_int_equal(vm->network_configs.len, 0);
        assert_int_equal(sandbox_rows(&box), 0);
        assert_int_equal(leases(), 0);
        assert_int_equal(cached(), 0);
        assert_int_equal(sandbox_namespaces(), 1);
        must(cni->delete (&box.env, vm, E));
        assert_clean();
}

static void test_rollback_plugin(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        fake_does(fakes, "two.ADD",
                  "if [ $CNI_IFNAME = eth1 ]; then echo '{\"code\":999,\"msg\":\"will not\"}'\n"
                  "exit 1; fi; jq -c .prevResult <\"$me.in\"\n");
        assert_true(add_n(&vm, 3, &err) < 0);
        assert_non_null(strstr(err.msg, "/eth1: plugin type=\"two\" failed (add): will not"));
        /* The failed one is deleted as well, the third never was. */
        assert_log(fakes, "one ADD eth0\ntwo ADD eth0\none ADD eth1\ntwo ADD eth1\n"
                          "two DEL eth0\none DEL eth0\ntwo DEL eth1\none DEL eth1\n");
        assert_undone(&vm, &err);
}

static void test_rollback_steps(void **state)
{
        static const char *const labels[] = { "net.intent", "net.add", "net.wire", "net.rows" };

        (void)state;
        need_box();
        for (size_t i = 0; i < CC_ARRAY_LEN(labels); i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;
                CC_FREE char *label = xasprintf("%s:error", labels[i]);
                struct cc_err err = CC_ERR_INIT;
                int r;

                sandbox_vm(&vm, 1);
                must(cni->prepare(&box.env, &vm, E));
                assert_int_equal(setenv("COCOON_FAILPOINT", label, 1), 0);
                r = add_n(&vm, 2, &err);
                assert_int_equal(unsetenv("COCOON_FAILPOINT"), 0);
                assert_int_equal(r, -CC_INTERNAL);
                assert_non_null(strstr(err.msg, labels[i]));
                assert_int_equal(sandbox_rows(&box), 0);
                assert_int_equal(leases(), 0);
                assert_int_equal(cached(), 0);
                must(cni->delete (&box.env, &vm, E));
                assert_clean();
        }
}

static void test_rollback_others(void **state)
{
        static const struct {
                const char *call, *script, *why;
        } bad[] = {
                { "one.ADD", "echo garbage", "plugin type=\"one\" failed (add): it printed no" },
                { "two.ADD", "sleep 60", "plugin type=\"two\" failed (add): " },
                { "two.ADD", "echo '{\"ips\":[{\"address\":\"nowhere\"}]}'",
                  "plugin type=\"two\" failed (add): its result has an invalid address" },
                /* A result without an interface. */
                { "one.ADD", "echo '{\"ips\":[]}'", "eth0 does not exist" },
        };

        (void)state;
        need_box();
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;

                behave();
                fake_does(fakes, bad[i].call, bad[i].script);
                /* Enough for a plugin that does something, on a busy machine too. */
                config.cni_timeout_seconds = cc_startswith(bad[i].script, "sleep") ? 8 : 60;
                sandbox_vm(&vm, 1);
                assert_true(add_n(&vm, 1, &err) < 0);
                if (!strstr(err.msg, bad[i].why))
                        fail_msg("%s: %s", bad[i].why, err.msg);
                assert_undone(&vm, &err);
        }
}

/* A plugin that is not installed is found out before anything is made. */
static void test_missing_plugin(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        fake_write(lists, "10-lan.conflist",
                   "{\"name\":\"lan\",\"plugins\":[{\"type\":\"one\"},"
                   "{\"type\":\"absent\"}]}",
                   0644);
        sandbox_vm(&vm, 1);
        assert_int_equal(add_n(&vm, 1, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "/eth0: plugin type=\"absent\": no such plugin in "));
        assert_log(fakes, "");
        assert_undone(&vm, &err);
}

/* What a DEL could not release stays known, and is released before anything new comes there. */
static void test_failed_del(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        fake_does(fakes, "two.ADD", fails);
        fake_does(fakes, "two.DEL", fails);
        /* add makes the namespace itself here, and keeps it with the row. */
        vm.config.network = xstrdup("lan");
        {
                struct net_spec specs[2] = { { .index = 0 }, { .index = 1 } };
                struct record_array nics = { 0 };

                assert_true(cni->add(&box.env, &vm, specs, 2, &nics, &err) < 0);
                assert_int_equal(nics.len, 0);
        }
        assert_non_null(strstr(err.msg, "plugin type=\"two\" failed (add): will not\ncni del "));
        assert_non_null(strstr(err.msg, "plugin type=\"two\" failed (del): will not"));
        assert_int_equal(sandbox_rows(&box), 1);
        assert_int_equal(sandbox_namespaces(), 1);
        assert_int_equal(leases(), 1);
        free(fake_log(fakes));

        fake_does(fakes, "two.ADD", "jq -c .prevResult <\"$me.in\"\n");
        err = (struct cc_err)CC_ERR_INIT;
        assert_true(add_n(&vm, 1, &err) < 0);
        assert_true(cc_startswith(err.msg, "reclaim stale NIC "));
        assert_int_equal(sandbox_rows(&box), 1);
        free(fake_log(fakes));
        behave();
        must(add_n(&vm, 1, E));
        assert_log(fakes, "two DEL eth0\none DEL eth0\none ADD eth0\ntwo ADD eth0\n");

        /* A removal that fails keeps row, lease and namespace; repeated it succeeds. */
        fake_does(fakes, "one.DEL", fails);
        err = (struct cc_err)CC_ERR_INIT;
        assert_true(cni->remove(&box.env, &vm, (const size_t[]){ 0 }, 1, &err) < 0);
        assert_non_null(strstr(err.msg, "plugin type=\"one\" failed (del): will not"));
        err = (struct cc_err)CC_ERR_INIT;
        assert_true(cni->delete (&box.env, &vm, &err) < 0);
        assert_int_equal(sandbox_rows(&box), 1);
        assert_int_equal(sandbox_namespaces(), 1);
        behave();
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

/* The cache knows the list; without it a delete goes on, a resize fails. */
static void test_list_gone(void **state)
{
        VM_RECORD struct vm_record a = VM_RECORD_INIT;
        VM_RECORD struct vm_record b = VM_RECORD_INIT;
        CC_FREE char *results = xasprintf("%s/cni/cache/results", box.dir);
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need_box();
        sandbox_vm(&a, 1);
        a.config.network = xstrdup("dmz");
        must(add_n(&a, 1, E));
        drop_list("20-dmz.conflist");
        must(cni->remove(&box.env, &a, (const size_t[]){ 0 }, 1, E));
        must(cni->delete (&box.env, &a, E));
        assert_clean();

        put_list("20-dmz.conflist", "dmz", "");
        sandbox_vm(&b, 1);
        b.config.network = xstrdup("dmz");
        must(add_n(&b, 1, E));
        drop_list("20-dmz.conflist");
        must(cc_rm_rf(results, E));
        assert_int_equal(cni->remove(&box.env, &b, (const size_t[]){ 0 }, 1, &err), -CC_NOT_FOUND);
        assert_non_null(strstr(err.msg, "conflist \"dmz\" is gone and nothing is cached"));
        assert_int_equal(cni->recover(&box.env, &b, &err), -CC_NOT_FOUND);
        assert_non_null(strstr(err.msg, "conflist \"dmz\" not found"));
        must(cni->delete (&box.env, &b, E));
        assert_int_equal(sandbox_rows(&box), 0);
        assert_int_equal(sandbox_namespaces(), 0);
}

/* DEL meets the addresses of the interface, whatever became of it. */
static void test_addresses(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct netns_fds f = NETNS_FDS_INIT;
        CC_FREE char *seen = NULL;
        CC_FREE char *seen6 = NULL;
        int fd;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        fake_does(fakes, "two.ADD",
                  "jq -c '.prevResult | .ips += [{\"address\":\"fd00::9/64\",\"interface\":0}]' "
                  "<\"$me.in\"\n");
        must(add_n(&vm, 3, E));
        /* eth0 flushed, eth1 gone. */
        must(netns_open(vm.netns_path, false, &f, E));
        must(link_delete(f.sk, "eth1", E));
        netns_close(&f);
        {
                CC_FREE char *net = xasprintf("--net=%s", vm.netns_path);
                const char *argv[] = { "nsenter", net, "ip", "addr", "flush", "dev", "eth0", NULL };

                must(cc_run_ok(argv, 5000, NULL, E));
        }
        must(cni->remove(&box.env, &vm, (const size_t[]){ 0, 1 }, 2, E));
        /* The namespace gone, and a plain file in its place. */
        must(netns_delete(vm.netns_path, E));
        fd = open(vm.netns_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
        assert_true(fd >= 0);
        close(fd);
        must(cni->delete (&box.env, &vm, E));
        seen = fake_read(fakes, "seen");
        assert_string_equal(seen, "10.1.0.2/24\n10.1.1.2/24\n10.1.2.2/24\n");
        seen6 = fake_read(fakes, "seen6");
        if (access("/proc/sys/net/ipv6", F_OK) == 0)
                assert_string_equal(seen6, "fd00::9/64\nfd00::9/64\nfd00::9/64\n");
        assert_clean();
}

/* A plugin that takes the interface away and then has nothing to undo for its address, as the
 * bridge plugin after a reboot: tried with a stand-in, then without. */
static void test_nothing_to_undo(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(add_n(&vm, 1, E));
        free(fake_log(fakes));
        fake_does(fakes, "one.DEL",
                  "rm -f \"$FAKE_CNI\"/lease.*\n"
                  "if nsenter --net=$CNI_NETNS ip link del $CNI_IFNAME 2>/dev/null; then\n"
                  "echo '{\"code\":999,\"msg\":\"no such chain\"}'; exit 1; fi\nexit 0\n");
        must(cni->delete (&box.env, &vm, E));
        assert_log(fakes, "two DEL eth0\none DEL eth0\ntwo DEL eth0\none DEL eth0\n"
                          "two DEL eth0\none DEL eth0\n");
        assert_clean();
}

static void test_recover(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct netns_fds f = NETNS_FDS_INIT;
        CC_JSON json_t *in = NULL;
        CC_FREE char *mac = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct net_link eth;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(add_n(&vm, 2, E));
        mac = xstrdup(vm_nic(&vm, 1)->mac);
        free(fake_log(fakes));

        /* After a reboot: leases on disk, a plain file where the namespace was. */
        must(netns_delete(vm.netns_path, E));
        close(open(vm.netns_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0444));
        assert_int_equal(cni->verify(&box.env, &vm, &err), -CC_NOT_FOUND);
        must(cni->recover(&box.env, &vm, E));
        must(cni->verify(&box.env, &vm, E));
        assert_log(fakes, "two DEL eth0\none DEL eth0\none ADD eth0\ntwo ADD eth0\n"
                          "two DEL eth1\none DEL eth1\none ADD eth1\ntwo ADD eth1\n");
        assert_true(fake_env_has(fakes, "one.ADD", "CNI_ARGS=IgnoreUnknown=1;IP=10.1.1.2"));
        must(netns_open(vm.netns_path, false, &f, E));
        must(link_get(f.sk, "eth1", &eth, E));
        assert_string_equal(eth.mac, mac);
        assert_int_equal(sandbox_rows(&box), 2);
        assert_int_equal(vm.network_configs.len, 2);

        /* Only a TAP missing; a plugin that takes the address as a capability. */
        {
                char tap[16];

                wire_tap_name(vm.id, 0, tap);
                must(link_delete(f.sk, tap, E));
        }
        netns_close(&f);
        put_list("10-lan.conflist", "lan", ",\"capabilities\":{\"ips\":true,\"mac\":true}");
        must(cni->recover(&box.env, &vm, E));
        in = fake_input(fakes, "one.ADD");
        assert_string_equal(
                json_string_value(json_array_get(
                        json_object_get(json_object_get(in, "runtimeConfig"), "ips"), 0)),
                "10.1.1.2/24");
        assert_string_equal(
                json_string_value(json_object_get(json_object_get(in, "runtimeConfig"), "mac")),
                mac);
        assert_true(fake_env_has(fakes, "one.ADD", "CNI_ARGS="));

        /* Another address than the guest's is refused, and the rows stay. */
        fake_does(fakes, "other", "");
        must(netns_delete(vm.netns_path, E));
        assert_int_equal(cni->recover(&box.env, &vm, &err), -CC_CONFLICT);
        assert_non_null(strstr(err.msg, "requested IP 10.1.0.2 is not available in network lan"));
        assert_int_equal(sandbox_rows(&box), 2);
        assert_int_equal(leases(), 1); /* eth1's, whose turn never came */
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

/* A record of an older version: no backend, and the namespace only with the NIC. */
static void test_old_record(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(add_n(&vm, 1, E));
        cc_strset(&vm.net_backend, NULL);
        cc_strset(&vm.netns_path, NULL);
        cc_strset(&vm_nic(&vm, 0)->backend, NULL);
        assert_string_equal(vm_net_backend(&vm), "cni");
        must(cni->verify(&box.env, &vm, E));
        must(netns_delete(vm_netns_path(&vm), E));
        must(cni->recover(&box.env, &vm, E));
        assert_string_equal(vm.netns_path, vm_nic(&vm, 0)->netns_path);
        cc_strset(&vm.netns_path, NULL);
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

/* Address translation of the plugins is one chain a container: a second NIC is one of its own. */
static void test_containers(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_FREE char *first = NULL;
        CC_FREE char *second = NULL;
        CC_FREE char *results = xasprintf("%s/cni/cache/results", box.dir);

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        first = xasprintf("CNI_CONTAINERID=%s", vm.id);
        second = xasprintf("CNI_CONTAINERID=%s-1", vm.id);
        must(add_n(&vm, 2, E));
        assert_true(fake_env_has(fakes, "one.ADD", first));
        must(cni->delete (&box.env, &vm, E));

        put_list("10-lan.conflist", "lan", ",\"ipMasq\":true");
        record_clear(&vm_record_type, &vm);
        sandbox_vm(&vm, 1);
        free(first);
        free(second);
        first = xasprintf("CNI_CONTAINERID=%s", vm.id);
        second = xasprintf("CNI_CONTAINERID=%s-1", vm.id);
        must(add_n(&vm, 2, E));
        assert_true(fake_env_has(fakes, "one.ADD", second));
        must(cni->remove(&box.env, &vm, (const size_t[]){ 1 }, 1, E));
        assert_true(fake_env_has(fakes, "one.DEL", second));
        must(cni->remove(&box.env, &vm, (const size_t[]){ 0 }, 1, E));
        assert_true(fake_env_has(fakes, "one.DEL", first));
        must(cni->delete (&box.env, &vm, E));
        assert_clean();

        /* The same without anything cached. */
        must(add_n(&vm, 2, E));
        must(cc_rm_rf(results, E));
        must(cni->delete (&box.env, &vm, E));
        assert_true(fake_env_has(fakes, "one.DEL", second));
        assert_clean();
}

/* Rows beyond the recorded NICs are what a failed shrink left. */
static void test_leftover_nic(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(add_n(&vm, 2, E));
        free(fake_log(fakes));
        record_clear(&nic_type, vm_nic(&vm, 1));
        vm.network_configs.len = 1;
        must(cni->reclaim(&box.env, &vm, E));
        assert_log(fakes, "two DEL eth1\none DEL eth1\n");
        assert_int_equal(sandbox_rows(&box), 1);
        must(cni->verify(&box.env, &vm, E));
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

/* The name of a namespace goes, the VMM in it lives: the name comes back, not another namespace. */
static void test_rebind(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const char *argv[] = { "sleep", "60", NULL };
        struct cc_spawn spawn = { .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        CC_CLOSE int pidfd = -1;
        uint64_t started = 0;
        struct stat before;
        struct stat after;
        char boot[37];
        pid_t pid;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(add_n(&vm, 1, E));
        spawn.netns = vm.netns_path;
        must(cc_spawn(&spawn, &pid, &pidfd, E));
        assert_int_equal(cc_proc_starttime(pid, &started), 0);
        cc_boot_id(boot);
        vm.proc = xcalloc(1, sizeof(*vm.proc));
        vm.proc->pid = pid;
        vm.proc->starttime = (int64_t)started;
        vm.proc->boot_id = xstrdup(boot);
        assert_int_equal(stat(vm.netns_path, &before), 0);
        must(netns_delete(vm.netns_path, E));
        must(cni->prepare(&box.env, &vm, E));
        assert_int_equal(stat(vm.netns_path, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        must(cni->verify(&box.env, &vm, E));

        must(cc_terminate(pidfd, 0, E));
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        must(netns_delete(vm.netns_path, E));
        must(cni->prepare(&box.env, &vm, E)); /* nobody left to ask: a new one */
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

static void test_mac(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct netns_fds f = NETNS_FDS_INIT;
        struct net_link eth;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        must(add_n(&vm, 1, E));
        must(cni->set_mac(&box.env, &vm, 0, "02:00:00:00:AA:01", E));
        must(netns_open(vm.netns_path, false, &f, E));
        must(link_get(f.sk, "eth0", &eth, E));
        assert_string_equal(eth.mac, "02:00:00:00:aa:01");
        netns_close(&f);
        must(cni->delete (&box.env, &vm, E));
        assert_clean();
}

static size_t orphans(const char *id)
{
        CC_STRV struct cc_strv ids = { 0 };
        size_t n = 0;

        must(cni->orphans(&box.env, &ids, E));
        for (size_t i = 0; i < ids.len; i++)
                n += cc_startswith(id, ids.v[i]);
        return n;
}

/* Namespace, row or cached attachment: each alone gives an orphan away, and deleting by ID alone
 * releases everything. */
static void test_orphans(void **state)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct vm_record bare = VM_RECORD_INIT;
        const char *argv[] = { "sleep", "60", NULL };
        struct cc_spawn spawn = { .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        CC_CLOSE int pidfd = -1;
        pid_t pid;

        (void)state;
        need_box();
        sandbox_vm(&vm, 1);
        bare.id = vm.id;
        must(add_n(&vm, 1, E));
        assert_int_equal(orphans(vm.id), 1);

        /* Not while a process lives there. */
        spawn.netns = vm.netns_path;
        must(cc_spawn(&spawn, &pid, &pidfd, E));
        assert_int_equal(orphans(vm.id), 0);
        must(cc_terminate(pidfd, 0, E));
        assert_int_equal(waitpid(pid, NULL, 0), pid);

        must(netns_delete(vm.netns_path, E));
        assert_int_equal(orphans(vm.id), 1); /* by its row */
        must(cni_row_drop(box.meta, vm.id, "eth0", E));
        assert_int_equal(orphans(vm.id), 1); /* by the cache */
        assert_int_equal(leases(), 1);
        must(cni->delete (&box.env, &bare, E));
        assert_int_equal(orphans(vm.id), 0);
        assert_clean();

        sandbox_add(&box, cni, &vm, 0, NULL);
        assert_int_equal(orphans(vm.id), 1); /* by the namespace */
        must(cni->delete (&box.env, &bare, E));
        assert_clean();
}

static int insert_vm(struct vm_record *vm, struct cc_err *err)
{
        int r = meta_begin(box.meta, META_DURABLE, err);

        cc_strset(&vm->config.name, vm->id);
        cc_strset(&vm->hypervisor, "qemu");
        cc_strset(&vm->state, "creating");
        if (r == 0)
                r = meta_vm_insert(box.meta, vm, err);
        return r < 0 ? r : meta_commit(box.meta, err);
}

/* gc collects what has no VM, under that VM's lock, and repeats what a plugin refused before. */
static void test_gc(void **state)
{
        VM_RECORD struct vm_record gone = VM_RECORD_INIT;
        VM_RECORD struct vm_record here = VM_RECORD_INIT;
        VM_RECORD struct vm_record port = VM_RECORD_INIT;
        NET_ORPHANS struct net_orphans found = { 0 };
        NET_ORPHANS struct net_orphans ports = { 0 };
        CC_FREE char *dir = xasprintf("%s/locks/vm", box.dir);
        CC_FREE char *path = NULL;
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int lock = -1;
        int other;
        int tap;

        (void)state;
        need_box();
        must(cc_mkdir_p(dir, 0755, E));
        sandbox_vm(&gone, 1);
        sandbox_vm(&here, 1);
        must(insert_vm(&here, E));
        must(add_n(&gone, 2, E));
        must(add_n(&here, 1, E));
        must(net_gc_candidates_of(&box.env, cni, &found, E));
        assert_int_equal(found.len, 1);
        assert_string_equal(found.v[0].id, gone.id);

        path = xasprintf("%s/%s.lock", dir, gone.id);
        must(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "test", &lock, E));
        assert_int_equal(net_gc_collect(&box.env, &found.v[0], &err), -CC_BUSY);
        close(TAKE_FD(lock));
        fake_does(fakes, "one.DEL", fails);
        err = (struct cc_err)CC_ERR_INIT;
        assert_true(net_gc_collect(&box.env, &found.v[0], &err) < 0);
        assert_non_null(strstr(err.msg, gone.id));
        assert_int_equal(leases(), 3);
        assert_int_equal(sandbox_namespaces(), 2);
        behave();
        must(net_gc_collect(&box.env, &found.v[0], E));
        assert_int_equal(leases(), 1);
        assert_int_equal(sandbox_namespaces(), 1);
        must(cni->verify(&box.env, &here, E));
        must(cni->delete (&box.env, &here, E));
        assert_clean();

        /* The same for bridges, where the devices tell only the first 8 characters. */
        sandbox_vm(&port, 1);
        port.net_bridge_dev = xstrdup("br0");
        must(link_add_bridge(box.sk, "br0", "02:00:00:00:00:01", E));
        must(sandbox_add(&box, &net_provider_bridge, &port, 2, E));
        /* Not while something holds a device. */
        must(hv_tap_open(NULL, vm_nic(&port, 0)->tap, 1, &tap, E));
        must(hv_tap_open(NULL, vm_nic(&port, 1)->tap, 1, &other, E));
        must(net_gc_candidates_of(&box.env, &net_provider_bridge, &ports, E));
        assert_int_equal(ports.len, 0);
        close(tap);
        close(other);
        must(net_gc_candidates_of(&box.env, &net_provider_bridge, &ports, E));
        assert_int_equal(ports.len, 1);
        assert_memory_equal(ports.v[0].id, port.id, 8);
        assert_int_equal(strlen(ports.v[0].id), 8);
        must(net_gc_collect(&box.env, &ports.v[0], E));
        assert_int_equal(sandbox_links(&box), 2);
        must(link_delete(box.sk, "br0", E));
        assert_clean();
}

static bool tools(void)
{
        static const char *const names[] = { "nsenter", "ip", "jq", "sed" };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                CC_FREE char *path = cc_find_program(names[i]);

                if (!path)
                        return false;
        }
        return true;
}

#define box_test(t) cmocka_unit_test_setup(t, each_setup)

int main(void)
{
        const struct CMUnitTest tests[] = {
                box_test(test_add_delete),
                box_test(test_networks),
                box_test(test_unknown),
                box_test(test_rollback_plugin),
                box_test(test_rollback_steps),
                box_test(test_rollback_others),
                box_test(test_missing_plugin),
                box_test(test_failed_del),
                box_test(test_list_gone),
                box_test(test_addresses),
                box_test(test_nothing_to_undo),
                box_test(test_recover),
                box_test(test_old_record),
                box_test(test_leftover_nic),
                box_test(test_containers),
                box_test(test_rebind),
                box_test(test_mac),
                box_test(test_orphans),
                box_test(test_gc),
        };
        int r;

        have_box = sandbox_enter(&box) && tools();
        fakes = xasprintf("%s/fakes", box.dir);
        lists = xasprintf("%s/lists", box.dir);
        config = (struct config){
                .root_dir = box.dir,
                .cni_conf_dir = lists,
                .cni_bin_dir = fakes,
        };
        box.env.config = &config;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        sandbox_leave(&box);
        free(fakes);
        free(lists);
        return r;
}
