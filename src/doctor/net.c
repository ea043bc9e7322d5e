/* What networks of CNI plugins need: the plugins, a list that names them, forwarding. Without any
 * of it cocoon's own network serves, so most of this only warns. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "doctor/internal.h"
#include "net/cni_path.h"
#include "net/conflist.h"

#define BRIDGE     "cni0"
#define LIST_FILE  "10-cocoon.conflist"
#define SERVES     "the built-in network serves"
#define IPTABLES_S 10

/* ---- plugins ---- */

static const char *const basic_plugins[] = { "bridge", "host-local", "loopback" };

static void missing_plugins(struct doctor *d, struct cc_strv *ret)
{
        CC_STRV struct cc_strv path = { 0 };

        cni_plugin_path(d->config->cni_bin_dir, &path);
        for (size_t i = 0; i < CC_ARRAY_LEN(basic_plugins); i++) {
                CC_FREE char *file = cni_plugin_find(&path, basic_plugins[i]);

                if (!file || access(file, X_OK) < 0)
                        cc_strv_add(ret, basic_plugins[i]);
        }
}

void doctor_plugins(struct doctor *d)
{
        CC_STRV struct cc_strv path = { 0 };
        CC_STRV struct cc_strv missing = { 0 };
        CC_FREE char *where = NULL;
        CC_FREE char *what = NULL;

        cni_plugin_path(d->config->cni_bin_dir, &path);
        missing_plugins(d, &missing);
        where = cc_strv_join(&path, ":");
        what = cc_strv_join(&missing, ", ");
        if (missing.len == 0)
                doctor_say(d, DOCTOR_PASS, NULL, "bridge, host-local, loopback");
        else
                doctor_say(d, DOCTOR_WARN, "Debian: containernetworking-plugins",
                           "%s not found in %s; " SERVES, what, where);
}

/* ---- lists ---- */

/* Types that a list names, those of address management too. */
static void list_types(const struct conflist *list, struct cc_strv *ret)
{
        const json_t *plugin;
        size_t i;

        json_array_foreach (list->plugins, i, plugin) {
                const char *type = json_string_value(json_object_get(plugin, "type"));
                const char *ipam =
                        json_string_value(json_object_get(json_object_get(plugin, "ipam"), "type"));

                if (type)
                        cc_strv_add(ret, type);
                if (ipam)
                        cc_strv_add(ret, ipam);
        }
}

static void say_list(struct doctor *d, const struct conflist *list)
{
        CC_STRV struct cc_strv path = { 0 };
        CC_STRV struct cc_strv types = { 0 };
        CC_STRV struct cc_strv missing = { 0 };
        CC_FREE char *what = NULL;
        const char *type;

        cni_plugin_path(d->config->cni_bin_dir, &path);
        list_types(list, &types);
        cc_strv_foreach (&types, i, type)
                /* A type is a file name: a path would be looked up elsewhere. */
                if (strchr(type, '/') || !cni_plugin_exists(&path, type))
                        cc_strv_add(&missing, type);
        what = cc_strv_join(&missing, ", ");
        if (missing.len)
                doctor_say(d, DOCTOR_FAIL, "install the plugins, or move the list away",
                           "network \"%s\": no such plugin: %s", list->name, what);
        else
                doctor_say(d, DOCTOR_PASS, NULL, "network \"%s\" (CNI %s)", list->name,
                           list->version);
}

void doctor_conflists(struct doctor *d)
{
        CONFLISTS struct conflists lists = { 0 };
        struct cc_err why = CC_ERR_INIT;
        const char *skipped;

        if (conflists_load(d->config->cni_conf_dir, &lists, &why) < 0) {
                doctor_say(d, DOCTOR_FAIL, NULL, "%s", why.msg);
                return;
        }
        for (size_t i = 0; i < lists.len; i++)
                say_list(d, &lists.v[i]);
        cc_strv_foreach (&lists.skipped, i, skipped)
                doctor_say(d, DOCTOR_FAIL, "repair it or move it away", "left out: %s", skipped);
        if (lists.len == 0 && lists.skipped.len == 0)
                doctor_say(d, DOCTOR_WARN, "\"cocoon doctor --fix\" writes one",
                           "no network list in %s; " SERVES, d->config->cni_conf_dir);
}

/* The default list. A plain NULL when it cannot be built never happens: all of it is ours. */
static char *default_list(const struct doctor *d)
{
        CC_JSON json_t *list = json_pack(
                "{s:s, s:s, s:[{s:s, s:s, s:b, s:b, s:b, s:{s:s, s:[[{s:s, s:s}]], s:[{s:s}]}}]}",
                "cniVersion", "1.0.0", "name", "cocoon", "plugins", "type", "bridge", "bridge",
                BRIDGE, "isGateway", 1, "ipMasq", 1, "hairpinMode", 1, "ipam", "type", "host-local",
                "ranges", "subnet", d->subnet, "gateway", d->gateway, "routes", "dst", "0.0.0.0/0");

        return cc_json_pretty(list);
}

int doctor_conflists_fix(struct doctor *d, struct cc_err *err)
{
        CONFLISTS struct conflists lists = { 0 };
        CC_STRV struct cc_strv missing = { 0 };
        CC_FREE char *path = NULL;
        CC_FREE char *text = NULL;
        int r = conflists_load(d->config->cni_conf_dir, &lists, err);

        /* A user's list is the user's to repair. */
        if (r < 0 || lists.len || lists.skipped.len)
                return r;
        missing_plugins(d, &missing);
        if (missing.len)
                return cc_fail(err, CC_UNAVAILABLE,
                               "a network list without its plugins would only hide the built-in "
                               "network");
        path = cc_path_join(d->config->cni_conf_dir, LIST_FILE);
        text = default_list(d);
        r = cc_mkdir_p(d->config->cni_conf_dir, 0755, err);
        return r < 0 ? r : cc_publish(path, text, strlen(text), 0644, err);
}

/* Does a list use the bridge whose traffic the forwarding rules are about? */
static bool bridge_in_use(struct doctor *d)
{
        CONFLISTS struct conflists lists = { 0 };

        if (conflists_load(d->config->cni_conf_dir, &lists, NULL) < 0)
                return false;
        for (size_t i = 0; i < lists.len; i++) {
                const json_t *plugin;
                size_t k;

                json_array_foreach (lists.v[i].plugins, k, plugin)
                        if (cc_streq(json_string_value(json_object_get(plugin, "bridge")), BRIDGE))
                                return true;
        }
        return false;
}

int doctor_subnet_parse(const char *s, char ret_subnet[24], char ret_gateway[16],
                        struct cc_err *err)
{
        CC_FREE char *text = xstrdup(s);
        char *slash = strchr(text, '/');
        struct in_addr in;
        long long prefix;
        uint32_t net;

        if (slash)
                *slash = '\0';
        if (!slash || inet_pton(AF_INET, text, &in) != 1 || cc_parse_i64(slash + 1, &prefix) < 0 ||
            prefix < 8 || prefix > 29)
                return cc_fail(
                        err, CC_INVALID,
                        "invalid subnet \"%s\": want ADDRESS/PREFIX with a prefix of 8 to 29", s);
        net = ntohl(in.s_addr);
        if (net & (UINT32_MAX >> prefix))
                return cc_fail(err, CC_INVALID,
                               "invalid subnet \"%s\": bits are set behind the prefix", s);
        (void)snprintf(ret_subnet, 24, "%s/%lld", text, prefix);
        in.s_addr = htonl(net + 1);
        (void)inet_ntop(AF_INET, &in, ret_gateway, 16);
        return 0;
}

/* ---- forwarding ---- */

static const struct setting {
        const char *name, *path, *module;
} settings[] = {
        { "net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward", NULL },
        { "net.bridge.bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-iptables",
          "br_netfilter" },
};

/* 1 set, 0 not, -1 there is none. */
static int is_set(const struct setting *s)
{
        CC_FREE char *text = NULL;
        size_t n;

        if (cc_read_file(s->path, 64, &text, &n, NULL) < 0)
                return -1;
        return text[0] != '0' && text[0] != '\0';
}

void doctor_sysctl(struct doctor *d)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(settings); i++) {
                const struct setting *s = &settings[i];
                int value = is_set(s);

                if (value > 0)
                        doctor_say(d, DOCTOR_PASS, NULL, "%s = 1", s->name);
                else
                        doctor_say(d, DOCTOR_WARN, "networks of CNI plugins may need it", "%s %s",
                                   s->name, value < 0 ? "is not there" : "= 0");
        }
}

static int set(const struct setting *s, struct cc_err *err)
{
        CC_CLOSE int fd = -1;

        if (is_set(s) < 0 && s->module) {
                int r = doctor_modprobe(s->module, err);

                if (r < 0)
                        return r;
        }
        if (is_set(s) > 0)
                return 0;
        fd = open(s->path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "1\n", 2) != 2)
                return cc_fail_errno(err, errno, "set %s", s->name);
        return 0;
}

int doctor_sysctl_fix(struct doctor *d, struct cc_err *err)
{
        int r = 0;

        (void)d;
        for (size_t i = 0; i < CC_ARRAY_LEN(settings); i++) {
                int one = set(&settings[i], r == 0 ? err : NULL);

                if (r == 0)
                        r = one;
        }
        return r;
}

static const char *const rules[][12] = {
        { "-i", BRIDGE, "-j", "ACCEPT" },
        { "-o", BRIDGE, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT" },
};

/* iptables with `verb` ("-C", "-A") on one of the rules. */
static int iptables(const char *verb, const char *const *rule, struct cc_err *err)
{
        const char *argv[20] = { "iptables", "-w", "5", verb, "FORWARD" };

        for (size_t i = 0; rule[i]; i++)
                argv[5 + i] = rule[i];
        return cc_run_ok(argv, IPTABLES_S * 1000, NULL, err);
}

void doctor_forward(struct doctor *d)
{
        CC_FREE char *path = cc_find_program("iptables");
        size_t missing = 0;

        if (!bridge_in_use(d)) {
                doctor_say(d, DOCTOR_PASS, NULL, "no network uses " BRIDGE);
                return;
        }
        if (!path) {
                doctor_say(d, DOCTOR_WARN, NULL, "iptables is not installed: not looked at");
                return;
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(rules); i++)
                missing += iptables("-C", rules[i], NULL) < 0;
        if (missing)
                doctor_say(d, DOCTOR_WARN, "\"cocoon doctor --fix\" appends them",
                           "iptables: %zu of %zu FORWARD rules of " BRIDGE " are missing", missing,
                           CC_ARRAY_LEN(rules));
        else
                doctor_say(d, DOCTOR_PASS, NULL, "iptables lets the traffic of " BRIDGE " through");
}

int doctor_forward_fix(struct doctor *d, struct cc_err *err)
{
        int r = 0;

        (void)d;
        for (size_t i = 0; i < CC_ARRAY_LEN(rules) && r == 0; i++)
                if (iptables("-C", rules[i], NULL) < 0)
                        r = iptables("-A", rules[i], err);
        return r;
}
