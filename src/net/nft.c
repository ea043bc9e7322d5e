/* The nftables table of the built-in network. See nft.h. */
#include "net/nft.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/json.h"
#include "base/str.h"
#include "net/rtnl.h"

/* Opened by hand: it brings a dozen libraries along, and most operations on a NIC need no rule. */
struct lib {
        struct nft_ctx *(*ctx_new)(uint32_t flags);
        void (*ctx_free)(struct nft_ctx *ctx);
        int (*buffer_output)(struct nft_ctx *ctx);
        int (*buffer_error)(struct nft_ctx *ctx);
        const char *(*output)(struct nft_ctx *ctx);
        const char *(*error)(struct nft_ctx *ctx);
        void (*set_flags)(struct nft_ctx *ctx, unsigned flags);
        int (*run)(struct nft_ctx *ctx, const char *buf);
};

static int open_lib(struct lib *ret, struct cc_err *err)
{
        void *handle = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

        if (!handle) {
                (void)cc_fail(err, CC_UNAVAILABLE, "open libnftables: %s", dlerror());
                cc_hint(err, "install libnftables1, or use --network user");
                return -CC_UNAVAILABLE;
        }
#define LOAD(field, name)                                                                          \
        do {                                                                                       \
                ret->field = (__typeof__(ret->field))dlsym(handle, name);                          \
                if (!ret->field) {                                                                 \
                        (void)cc_fail(err, CC_UNAVAILABLE, "libnftables has no %s", name);         \
                        return -CC_UNAVAILABLE;                                                    \
                }                                                                                  \
        } while (0)
        LOAD(ctx_new, "nft_ctx_new");
        LOAD(ctx_free, "nft_ctx_free");
        LOAD(buffer_output, "nft_ctx_buffer_output");
        LOAD(buffer_error, "nft_ctx_buffer_error");
        LOAD(output, "nft_ctx_get_output_buffer");
        LOAD(error, "nft_ctx_get_error_buffer");
        LOAD(set_flags, "nft_ctx_output_set_flags");
        LOAD(run, "nft_run_cmd_from_buffer");
#undef LOAD
        return 0;
}

/* The first line of what nft said. */
static int complain(const char *what, const char *text, struct cc_err *err)
{
        const char *error = text ? strstr(text, "Error: ") : NULL;
        const char *line = error ? error + strlen("Error: ") : (text ? text : "");
        enum cc_class class = strstr(line, "No such file or directory") ? CC_NOT_FOUND
                              : strstr(line, "File exists")             ? CC_CONFLICT
                              : strstr(line, "not permitted")           ? CC_DENIED
                                                                        : CC_IO;

        return cc_fail(err, class, "%s: nftables: %.*s", what, (int)strcspn(line, "\n"),
                       *line ? line : "no message");
}

static int run(const char *what, const char *commands, struct cc_buf *ret_json, struct cc_err *err)
{
        struct lib lib = { 0 };
        struct nft_ctx *ctx;
        int r = open_lib(&lib, err);

        if (r < 0)
                return r;
        ctx = lib.ctx_new(NFT_CTX_DEFAULT);
        if (!ctx)
                return cc_fail(err, CC_INTERNAL, "%s: nftables: no context", what);
        (void)lib.buffer_output(ctx);
        (void)lib.buffer_error(ctx);
        if (ret_json)
                lib.set_flags(ctx, NFT_CTX_OUTPUT_JSON);
        if (lib.run(ctx, commands) != 0)
                r = complain(what, lib.error(ctx), err);
        else if (ret_json)
                cc_buf_str(ret_json, lib.output(ctx));
        lib.ctx_free(ctx);
        return r;
}

/* Asked directly, in some 20 us: a set-up costs milliseconds and the library. */
static int table_exists(bool *ret, struct cc_err *err)
{
        struct nfgenmsg header = { .nfgen_family = AF_INET, .version = NFNETLINK_V0 };
        RTNL struct nl_sock *sk = nl_socket_alloc();
        struct cc_err why = CC_ERR_INIT;
        struct nl_msg *msg;
        int r;

        if (!sk)
                return cc_fail(err, CC_INTERNAL, "allocate netlink socket");
        r = nl_connect(sk, NETLINK_NETFILTER);
        if (r < 0)
                return cc_fail(err, CC_IO, "open netfilter socket: %s", nl_geterror(r));
        msg = nlmsg_alloc_simple(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, 0);
        if (!msg || nlmsg_append(msg, &header, sizeof(header), NLMSG_ALIGNTO) < 0 ||
            nla_put_string(msg, NFTA_TABLE_NAME, "cocoon") < 0)
                abort();
        r = rtnl_talk(sk, msg, "look up nftables table", &why);
        if (r < 0 && why.sys != ENOENT)
                return cc_err_copy(err, &why);
        *ret = r == 0;
        return 0;
}

int nft_ensure(const char *bridge, const char *subnet, bool fresh, struct cc_err *err)
{
        CC_BUF struct cc_buf b = { 0 };
        bool exists = false;
        int r = table_exists(&exists, err);

        if (r < 0 || (exists && !fresh))
                return r;

        /* One transaction. Adding what exists changes nothing, so rules are flushed first. */
        cc_buf_str(&b,
                   "add table ip cocoon\n"
                   "flush table ip cocoon\n"
                   "add map ip cocoon publish { type inet_service : ipv4_addr . inet_service; }\n"
                   "add chain ip cocoon guard "
                   "{ type filter hook prerouting priority -300; policy accept; }\n"
                   "add chain ip cocoon prerouting "
                   "{ type nat hook prerouting priority -100; policy accept; }\n"
                   "add chain ip cocoon output "
                   "{ type nat hook output priority -100; policy accept; }\n"
                   "add chain ip cocoon postrouting "
                   "{ type nat hook postrouting priority 100; policy accept; }\n"
                   "add chain ip cocoon forward "
                   "{ type filter hook forward priority 0; policy accept; }\n");
        /* route_localnet lets the host reach published ports by 127.0.0.1; guests must not use it
         * to reach what listens there. */
        cc_buf_printf(&b, "add rule ip cocoon guard iifname \"%s\" ip daddr 127.0.0.0/8 drop\n",
                      bridge);
        for (int i = 0; i < 2; i++)
                cc_buf_printf(&b,
                              "add rule ip cocoon %s fib daddr type local "
                              "dnat ip to tcp dport map @publish\n",
                              i ? "output" : "prerouting");
        cc_buf_printf(&b,
                      "add rule ip cocoon postrouting ip saddr %s oifname != \"%s\" masquerade\n",
                      subnet, bridge);
        /* Answers to forwarded connections from this host or from a guest must come back here. */
        cc_buf_printf(&b,
                      "add rule ip cocoon postrouting oifname \"%s\" ct status dnat "
                      "ip saddr { 127.0.0.0/8, %s } masquerade\n",
                      bridge, subnet);
        cc_buf_printf(&b,
                      "add rule ip cocoon forward iifname \"%s\" accept\n"
                      "add rule ip cocoon forward oifname \"%s\" ct state established,related "
                      "accept\n"
                      "add rule ip cocoon forward oifname \"%s\" ct status dnat accept\n"
                      "add rule ip cocoon forward oifname \"%s\" drop\n",
                      bridge, bridge, bridge, bridge);
        return run("set up address translation", b.data, NULL, err);
}

int nft_remove(struct cc_err *err)
{
        /* Adding it first makes deleting it certain. */
        return run("remove address translation", "add table ip cocoon\ndelete table ip cocoon\n",
                   NULL, err);
}

int nft_publish(const char *ip, uint16_t host, uint16_t guest, struct cc_err *err)
{
        CC_BUF struct cc_buf b = { 0 };
        struct cc_err why = CC_ERR_INIT;

        cc_buf_printf(&b, "add element ip cocoon publish { %u : %s . %u }\n", host, ip, guest);
        if (run("publish port", b.data, NULL, &why) == 0)
                return 0;
        if (why.class == CC_CONFLICT)
                return cc_fail(err, CC_CONFLICT, "port %u is already published by another VM",
                               host);
        return cc_err_copy(err, &why);
}

/* Delete commands for the elements of the listed map that lead to `ip`. */
static void add_deletes(const json_t *json, const char *ip, struct cc_buf *out)
{
        const json_t *list = json_object_get(json, "nftables");
        const json_t *item;
        size_t i;

        json_array_foreach (list, i, item) {
                const json_t *elements = json_object_get(json_object_get(item, "map"), "elem");
                const json_t *e;
                size_t k;

                json_array_foreach (elements, k, e) {
                        const json_t *to = json_object_get(json_array_get(e, 1), "concat");
                        const char *dest = json_string_value(json_array_get(to, 0));

                        if (cc_streq(dest, ip))
                                cc_buf_printf(out, "delete element ip cocoon publish { %u }\n",
                                              (unsigned)json_integer_value(json_array_get(e, 0)));
                }
        }
}

int nft_unpublish(const char *ip, struct cc_err *err)
{
        CC_BUF struct cc_buf listing = { 0 };
        CC_BUF struct cc_buf deletes = { 0 };
        CC_JSON json_t *json = NULL;
        struct cc_err why = CC_ERR_INIT;
        int r = run("list published ports", "list map ip cocoon publish\n", &listing, &why);

        if (r == -CC_NOT_FOUND || (r == 0 && listing.len == 0))
                return 0;
        if (r < 0)
                return cc_err_copy(err, &why);
        r = cc_json_parse(listing.data, listing.len, "list of published ports", &json, err);
        if (r < 0)
                return r;
        add_deletes(json, ip, &deletes);
        return deletes.len == 0 ? 0 : run("end published port", deletes.data, NULL, err);
}
