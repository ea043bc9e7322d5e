/* Namespaces, TAP devices and the redirect, in a network of the test's own. */
#include "sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "hv/launch.h"
#include "net/tap.h"
#include "net/wire.h"

static struct sandbox box;
static bool have_box;

#define ID  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define TAP "tapABCDEFGH-0"
#define MAC "02:00:00:00:00:07"

static void need_box(void)
{
        if (!have_box) {
                print_message("reason: needs root, namespaces and /dev/net/tun\n");
                skip();
        }
}

static void test_netns(void **state)
{
        CC_FREE char *path = netns_path(ID);
        bool created = false;
        struct stat st;
        int fd;

        (void)state;
        need_box();
        assert_string_equal(path, "/var/run/netns/cocoon-" ID);
        assert_false(netns_exists(path));
        must(netns_create(path, &created, E));
        assert_true(created);
        assert_true(netns_exists(path));
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0444);
        must(netns_create(path, &created, E));
        assert_false(created);
        must(netns_delete(path, E));
        assert_int_not_equal(access(path, F_OK), 0);
        must(netns_delete(path, E));

        /* A plain file, as a reboot leaves it: not a namespace, and no obstacle. */
        fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
        assert_true(fd >= 0);
        close(fd);
        assert_false(netns_exists(path));
        must(netns_create(path, &created, E));
        assert_true(netns_exists(path));
        must(netns_delete(path, E));
        assert_int_equal(sandbox_namespaces(), 0);
}

static void test_netns_open(void **state)
{
        CC_FREE char *path = netns_path(ID);
        struct netns_fds f = NETNS_FDS_INIT;
        struct cc_err err = CC_ERR_INIT;
        struct net_link link;
        struct stat before;
        struct stat after;
        size_t n = 0;

        (void)state;
        need_box();
        assert_int_equal(netns_open(path, true, &f, &err), -CC_NOT_FOUND);
        assert_int_equal(stat("/proc/thread-self/ns/net", &before), 0);
        must(netns_create(path, NULL, E));
        must(netns_open(path, true, &f, E));
        assert_int_equal(stat("/proc/thread-self/ns/net", &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        must(tap_create(f.tun, TAP, 1, E));
        must(link_get(f.sk, TAP, &link, E));
        assert_string_equal(link.kind, "tun");
        assert_int_equal(link_get(box.sk, TAP, &link, &err), -CC_NOT_FOUND);
        must(link_each(f.sk, count_link, &n, E));
        assert_int_equal(n, 2);
        netns_close(&f);
        must(netns_delete(path, E));
}

/* A namespace with eth0, whose other end is "peer" outside, wired. */
static void make_wired(const char *path, int64_t num_queues, char mac[18])
{
        struct netns_fds f = NETNS_FDS_INIT;
        struct link_veth v = { .name = "peer", .peer = "eth0", .mac = MAC, .mtu = 1400 };
        struct wire w = { .netns = path, .eth = "eth0", .tap = TAP, .num_queues = num_queues };
        uint32_t mtu = 0;

        must(netns_create(path, NULL, E));
        must(netns_open(path, false, &f, E));
        v.netns = f.ns;
        must(link_add_veth(box.sk, &v, E));
        netns_close(&f);
        must(wire_nic(&w, mac, &mtu, E));
        assert_int_equal(mtu, 1400);
}

static int packet_socket(const char *name)
{
        struct net_link link;
        struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5) };
        int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));

        assert_true(fd >= 0);
        must(link_get(box.sk, name, &link, E));
        addr.sll_ifindex = link.index;
        assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        return fd;
}

static bool readable(int fd, int ms)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, ms) == 1;
}

/* A frame written into the TAP (behind its virtio header) comes out of the peer, and back. */
static void test_redirect(void **state)
{
        CC_FREE char *path = netns_path(ID);
        uint8_t out[10 + 60] = { 0 };
        uint8_t in[2048];
        char mac[18];
        bool open_again = false;
        int tap;
        int sock;

        (void)state;
        need_box();
        make_wired(path, 2, mac);
        assert_string_equal(mac, MAC);
        must(hv_tap_open(path, TAP, 1, &tap, E));
        sock = packet_socket("peer");

        memset(out + 10, 0xff, 6);
        out[10 + 6] = 2;
        out[10 + 11] = 7;
        out[10 + 12] = 0x88;
        out[10 + 13] = 0xb5;
        (void)snprintf((char *)out + 10 + 14, 16, "%s", "from the guest");
        assert_int_equal(write(tap, out, sizeof(out)), sizeof(out));
        assert_true(readable(sock, 2000));
        assert_int_equal(read(sock, in, sizeof(in)), 60);
        assert_memory_equal(in, out + 10, 60);

        (void)snprintf((char *)out + 10 + 14, 16, "%s", "from the host!");
        assert_int_equal(write(sock, out + 10, 60), 60);
        for (;;) {
                ssize_t n;

                assert_true(readable(tap, 2000));
                n = read(tap, in, sizeof(in));
                assert_true(n > 24);
                if (in[10 + 12] == 0x88 && in[10 + 13] == 0xb5) /* else the stack's own chatter */
                        break;
        }
        assert_memory_equal(in + 10, out + 10, 60);

        /* Quiesced, nothing gets in; then again. */
        must(wire_set_up(path, 1, false, E));
        (void)!write(sock, out + 10, 60); /* the kernel may say so */
        assert_false(readable(tap, 100));
        must(wire_set_up(path, 1, true, E));
        for (int i = 0; i < 50 && !open_again; i++) {
                (void)!write(sock, out + 10, 60); /* lost until the pair has its carrier back */
                open_again = readable(tap, 100);
        }
        assert_true(open_again);
        close(tap);
        close(sock);
        must(link_delete(box.sk, "peer", E));
        must(netns_delete(path, E));
}

static void test_tap(void **state)
{
        CC_FREE char *path = netns_path(ID);
        struct wire w = { .netns = path,
                          .eth = "eth0",
                          .tap = TAP,
                          .mac = "02:00:00:00:00:09",
                          .num_queues = 4 };
        struct cc_err err = CC_ERR_INIT;
        struct netns_fds f = NETNS_FDS_INIT;
        struct net_link tap;
        struct net_link eth;
        char mac[18];
        uint32_t mtu;
        int fds[2];

        (void)state;
        need_box();
        make_wired(path, 4, mac);
        must(wire_verify(path, ID, 1, E));
        must(netns_open(path, false, &f, E));
        must(link_get(f.sk, TAP, &tap, E));
        assert_int_equal(tap.mtu, 1400);
        assert_true(tap.flags & IFF_UP);
        /* Multi-queue, as the hypervisor will open it. */
        must(hv_tap_open(path, TAP, 2, fds, E));
        close(fds[0]);
        close(fds[1]);

        /* A taken name is refused, and what is there is left alone. */
        assert_int_equal(wire_nic(&w, mac, &mtu, &err), -CC_CONFLICT);
        assert_non_null(strstr(err.msg, TAP));
        must(wire_verify(path, ID, 1, E));

        /* Rewired with a recorded MAC. */
        must(wire_remove_tap(path, TAP, E));
        must(wire_remove_tap(path, TAP, E));
        assert_int_equal(wire_verify(path, ID, 1, &err), -CC_NOT_FOUND);
        must(wire_nic(&w, mac, &mtu, E));
        assert_string_equal(mac, w.mac);
        must(link_get(f.sk, "eth0", &eth, E));
        assert_string_equal(eth.mac, w.mac);

        /* Without eth0 the TAP does not stay behind. */
        must(wire_remove_tap(path, TAP, E));
        must(link_delete(f.sk, "eth0", E));
        assert_int_equal(wire_nic(&w, mac, &mtu, &err), -CC_NOT_FOUND);
        assert_int_equal(link_get(f.sk, TAP, &tap, &err), -CC_NOT_FOUND);
        netns_close(&f);
        must(netns_delete(path, E));
        assert_int_equal(sandbox_links(&box), 1);

        /* A namespace that is gone is quiet already. */
        must(wire_set_up(path, 1, false, E));
        must(wire_remove_tap(path, TAP, E));
}

static void test_mac(void **state)
{
        static const char *const bad[] = { "",
                                           "02:00:00:00:00",
                                           "02:00:00:00:00:0",
                                           "02:00:00:00:00:0g",
                                           "02-00-00-00-00-01",
                                           "02:00:00:00:00:01:",
                                           "002:0:00:00:00:01x" };
        uint8_t out[6];

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                assert_false(link_parse_mac(bad[i], out));
        assert_true(link_parse_mac("02:Ab:00:00:00:ff", out));
        assert_memory_equal(out, "\x02\xab\0\0\0\xff", 6);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_mac),        cmocka_unit_test(test_netns),
                cmocka_unit_test(test_netns_open), cmocka_unit_test(test_redirect),
                cmocka_unit_test(test_tap),
        };
        int r;

        have_box = sandbox_enter(&box);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        sandbox_leave(&box);
        return r;
}
