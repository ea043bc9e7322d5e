/* meta-data, user-data and network-config. See cidata.h; the file system is fat12.c's. */
#include "disk/cidata.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "disk/fat12.h"

#define LABEL        "CIDATA"
#define ROUTE_METRIC 100 /* of a second and later default route, plus the NIC's number */

/* ---- checks ---- */

static int refuse(const char *field, const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "cloud-init data: %s %s", field, why);
}

/* Quoting takes care of everything but what ends the line or the text. */
static int check_text(const char *field, const char *s, struct cc_err *err)
{
        size_t n = strlen(s);

        if (!cc_utf8_valid(s, n))
                return refuse(field, "is not UTF-8", err);
        for (size_t i = 0; i < n; i++)
                if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
                        return refuse(field, "has a control character", err);
        /* C1 controls, next line and the Unicode line separators: YAML breaks lines at some. */
        for (const char *p = s; (p = strchr(p, 0xc2)); p++)
                if ((unsigned char)p[1] < 0xa0)
                        return refuse(field, "has a control character", err);
        if (strstr(s, "\xe2\x80\xa8") || strstr(s, "\xe2\x80\xa9") || strstr(s, "\xef\xbb\xbf"))
                return refuse(field, "has a line separator", err);
        return 0;
}

static bool mac_valid(const char *s)
{
        if (!s || strlen(s) != 17)
                return false;
        for (size_t i = 0; i < 17; i++)
                if (i % 3 == 2 ? s[i] != ':' : !strchr("0123456789abcdefABCDEF", s[i]))
                        return false;
        return true;
}

static bool ipv4(const char *s, uint32_t *ret)
{
        struct in_addr a;

        if (!s || inet_pton(AF_INET, s, &a) != 1)
                return false;
        *ret = ntohl(a.s_addr);
        return true;
}

static bool ip_valid(const char *s)
{
        struct in6_addr a;

        return inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1;
}

static int check_nic(const struct cidata_nic *n, struct cc_err *err)
{
        uint32_t a;

        if (!mac_valid(n->mac))
                return refuse("a NIC's MAC", "is not one", err);
        if (cc_isempty(n->ip))
                return 0;
        if (!ipv4(n->ip, &a) || n->prefix < 0 || n->prefix > 32)
                return refuse("a NIC's address", "is not IPv4", err);
        if (!cc_isempty(n->gateway) && !ipv4(n->gateway, &a))
                return refuse("a NIC's gateway", "is not IPv4", err);
        return 0;
}

bool cidata_can_mount(const char *path)
{
        return path[0] == '/' &&
               !path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789/._-+@%,:=")];
}

int cidata_check(const struct cidata *c, struct cc_err *err)
{
        int r = check_text("instance ID", c->instance_id, err);

        if (r == 0)
                r = check_text("host name", c->hostname, err);
        if (r == 0 && !cc_isempty(c->user) && !cc_user_name_valid(c->user))
                r = refuse("user", "is not a user name", err);
        if (r == 0 && !cc_isempty(c->password))
                r = check_text("password", c->password, err);
        if (r == 0 && (cc_streq(c->password, "R") || cc_streq(c->password, "RANDOM")))
                r = refuse("password", "is cloud-init's word for a random one", err);
        for (size_t i = 0; i < c->n_nics && r == 0; i++)
                r = check_nic(&c->nics[i], err);
        for (size_t i = 0; c->dns && i < c->dns->len && r == 0; i++)
                if (!ip_valid(c->dns->v[i]))
                        r = refuse("a DNS server", "is not an IP address", err);
        for (size_t i = 0; i < c->n_mounts && r == 0; i++) {
                if (!cc_data_disk_name_valid(c->mounts[i].disk))
                        r = refuse("a data disk's name", "is not valid", err);
                else if (!cidata_can_mount(c->mounts[i].path))
                        r = refuse("a mount point", "cannot be written into fstab", err);
        }
        return r;
}

/* ---- texts ---- */

/* A YAML scalar that is nothing but its characters. */
static void quote(struct cc_buf *b, const char *s)
{
        cc_buf_char(b, '\'');
        for (; *s; s++) {
                if (*s == '\'')
                        cc_buf_char(b, '\'');
                cc_buf_char(b, *s);
        }
        cc_buf_char(b, '\'');
}

static void line(struct cc_buf *b, const char *key, const char *value)
{
        cc_buf_str(b, key);
        quote(b, value);
        cc_buf_char(b, '\n');
}

static bool is_static(const struct cidata_nic *n)
{
        return !cc_isempty(n->ip);
}

/* A router that the address's own network does not hold. */
static bool gateway_outside(const struct cidata_nic *n)
{
        uint32_t mask = n->prefix ? ~0u << (32 - n->prefix) : 0;
        uint32_t ip = 0;
        uint32_t gw = 0;

        return ipv4(n->ip, &ip) && ipv4(n->gateway, &gw) && ((ip ^ gw) & mask) != 0;
}

/* Only one default route may have the kernel's own preference: that of the first NIC that has one.
 * 0: no metric. */
static size_t route_metric(const struct cidata *c, size_t nic)
{
        for (size_t i = 0; i < nic; i++)
                if (is_static(&c->nics[i]) && !cc_isempty(c->nics[i].gateway))
                        return ROUTE_METRIC + nic;
        return 0;
}

char *cidata_meta_data(const struct cidata *c)
{
        CC_BUF struct cc_buf b = { 0 };

        line(&b, "instance-id: ", c->instance_id);
        line(&b, "local-hostname: ", c->hostname);
        return cc_buf_take(&b);
}

static void add_static(const struct cidata *c, size_t i, struct cc_buf *b)
{
        const struct cidata_nic *n = &c->nics[i];
        size_t metric = route_metric(c, i);

        cc_buf_printf(b, "    addresses: ['%s/%lld']\n", n->ip, (long long)n->prefix);
        if (!cc_isempty(n->gateway)) {
                /* The network's own name: old versions know no "default". */
                cc_buf_printf(b, "    routes:\n      - to: '0.0.0.0/0'\n        via: '%s'\n",
                              n->gateway);
                if (gateway_outside(n))
                        cc_buf_str(b, "        on-link: true\n");
                if (metric)
                        cc_buf_printf(b, "        metric: %zu\n", metric);
        }
        if (!c->dns || c->dns->len == 0)
                return;
        cc_buf_str(b, "    nameservers:\n      addresses: [");
        for (size_t k = 0; k < c->dns->len; k++)
                cc_buf_printf(b, "%s'%s'", k ? ", " : "", c->dns->v[k]);
        cc_buf_str(b, "]\n");
}

char *cidata_network_config(const struct cidata *c)
{
        CC_BUF struct cc_buf b = { 0 };

        if (c->n_nics == 0)
                return NULL;
        cc_buf_str(&b, "version: 2\nethernets:\n");
        for (size_t i = 0; i < c->n_nics; i++) {
                cc_buf_printf(&b, "  id%zu:\n    match:\n      macaddress: '%s'\n", i,
                              c->nics[i].mac);
                if (is_static(&c->nics[i]))
                        add_static(c, i, &b);
                else
                        cc_buf_str(&b, "    dhcp4: true\n");
        }
        /* A NIC plugged in later. The name sorts behind the others: the first match wins. */
        cc_buf_str(&b, "  zfallback:\n    match:\n      name: 'e*'\n    dhcp4: true\n"
                       "    optional: true\n");
        return cc_buf_take(&b);
}

static void add_credentials(const struct cidata *c, struct cc_buf *b)
{
        const char *user = cc_isempty(c->user) ? "root" : c->user;
        CC_FREE char *pair = NULL;

        if (cc_isempty(c->password))
                return;
        pair = xasprintf("%s:%s", user, c->password);
        if (cc_streq(user, "root")) {
                cc_buf_str(b, "disable_root: false\n");
        } else {
                /* Exists from the start of the boot, unlike one that a late script makes. The
                 * image's own user stays as it is. */
                cc_buf_str(b, "users:\n  - default\n");
                line(b, "  - name: ", user);
                cc_buf_str(b, "    shell: '/bin/bash'\n    no_user_group: true\n"
                              "    groups: 'sudo'\n"
                              "    sudo: 'ALL=(ALL) NOPASSWD:ALL'\n    lock_passwd: false\n");
                line(b, "    plain_text_passwd: ", c->password);
        }
        cc_buf_str(b, "ssh_pwauth: true\nchpasswd:\n  expire: false\n  list: [");
        quote(b, pair);
        cc_buf_str(b, "]\n");
}

static void add_mounts(const struct cidata *c, struct cc_buf *b)
{
        if (c->n_mounts == 0)
                return;
        cc_buf_str(b, "mounts:\n");
        for (size_t i = 0; i < c->n_mounts; i++) {
                cc_buf_printf(b, "  - ['/dev/disk/by-id/virtio-%s', ", c->mounts[i].disk);
                quote(b, c->mounts[i].path);
                cc_buf_str(b, ", ext4, 'defaults,nofail', '0', '2']\n");
        }
}

/* For an image whose cloud-init does not speak networkd, or speaks it only at the first boot. */
static void add_unit(const struct cidata *c, size_t i, struct cc_buf *b)
{
        const struct cidata_nic *n = &c->nics[i];
        size_t metric = route_metric(c, i);

        cc_buf_printf(b,
                      "  - path: /etc/systemd/network/15-cocoon-id%zu.network\n"
                      "    owner: 'root:root'\n    permissions: '0644'\n    content: |\n"
                      "      [Match]\n      MACAddress=%s\n\n"
                      "      [Link]\n      RequiredForOnline=%s\n\n      [Network]\n",
                      i, n->mac, i == 0 ? "yes" : "no");
        if (!is_static(n)) {
                cc_buf_str(b, "      DHCP=ipv4\n");
                return;
        }
        cc_buf_printf(b, "      Address=%s/%lld\n", n->ip, (long long)n->prefix);
        for (size_t k = 0; c->dns && k < c->dns->len; k++)
                cc_buf_printf(b, "      DNS=%s\n", c->dns->v[k]);
        if (cc_isempty(n->gateway))
                return;
        cc_buf_printf(b, "\n      [Route]\n      Gateway=%s\n", n->gateway);
        if (gateway_outside(n))
                cc_buf_str(b, "      GatewayOnLink=yes\n");
        if (metric)
                cc_buf_printf(b, "      Metric=%zu\n", metric);
}

char *cidata_user_data(const struct cidata *c)
{
        CC_BUF struct cc_buf b = { 0 };

        cc_buf_str(&b, "#cloud-config\n");
        add_credentials(c, &b);
        add_mounts(c, &b);
        if (c->n_nics)
                cc_buf_str(&b, "write_files:\n");
        for (size_t i = 0; i < c->n_nics; i++)
                add_unit(c, i, &b);
        return cc_buf_take(&b);
}

/* ---- volume ---- */

/* Of the text that makes it: the same seed is the same volume. */
static uint32_t serial_of(const char *s)
{
        uint32_t h = 2166136261u;

        for (; *s; s++)
                h = (h ^ (uint8_t)*s) * 16777619u;
        return h;
}

int cidata_write(const struct cidata *c, const char *path, struct cc_err *err)
{
        CC_FREE char *meta = NULL;
        CC_FREE char *user = NULL;
        CC_FREE char *network = NULL;
        CC_FREE uint8_t *image = NULL;
        struct fat12_file files[3];
        size_t n = 0;
        int r = cidata_check(c, err);

        if (r < 0)
                return r;
        meta = cidata_meta_data(c);
        user = cidata_user_data(c);
        network = cidata_network_config(c);
        files[n++] = (struct fat12_file){ "meta-data", meta, strlen(meta) };
        files[n++] = (struct fat12_file){ "user-data", user, strlen(user) };
        if (network)
                files[n++] = (struct fat12_file){ "network-config", network, strlen(network) };
        image = xmalloc(FAT12_IMAGE_SIZE);
        r = fat12_write(files, n, LABEL, serial_of(c->instance_id), image, err);
        return r < 0 ? r : cc_publish(path, image, FAT12_IMAGE_SIZE, 0600, err);
}
