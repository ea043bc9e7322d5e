/*
 * The two forms of a machine: command-line flags in the order of §2.4, JSON as in §2.2. Optional
 * switches appear among the flags only when they are on; JSON says them either way, because a
 * reader of JSON need not know the defaults.
 */
#include <string.h>

#include "hv/ch/config.h"

static const char *tty_flag(enum ch_tty t)
{
        static const char *const names[] = {
                [CH_TTY_OFF] = "off", [CH_TTY_PTY] = "pty", [CH_TTY_TTY] = "tty"
        };

        return names[t];
}

/*
 * A value of a comma-separated option. Commas and brackets structure such an option unless they are
 * quoted, and a quote cannot be escaped.
 */
static int add_value(struct cc_buf *b, const char *key, const char *value, struct cc_err *err)
{
        const char *quote = strpbrk(value, ",[]") ? "\"" : "";

        if (strchr(value, '"'))
                return cc_fail(err, CC_INVALID,
                               "cloud-hypervisor: its command line cannot carry a path with a "
                               "quotation mark: %s",
                               value);
        cc_buf_printf(b, "%s=%s%s%s", key, quote, value, quote);
        return 0;
}

static void add_affinity(struct cc_buf *b, const struct ch_config *c, const struct ch_disk *d)
{
        if (!d->pinned || c->n_cpus == 0)
                return;
        cc_buf_str(b, ",queue_affinity=[");
        for (int64_t i = 0; i < d->queues; i++)
                cc_buf_printf(b, "%s%lld@[%d]", i ? "," : "", (long long)i,
                              c->cpus[(size_t)i % c->n_cpus]);
        cc_buf_char(b, ']');
}

static int add_disk(struct cc_strv *argv, const struct ch_config *c, const struct ch_disk *d,
                    struct cc_err *err)
{
        CC_BUF struct cc_buf b = { 0 };
        int r = add_value(&b, "path", d->path, err);

        if (r < 0)
                return r;
        cc_buf_str(&b, d->ro ? ",readonly=on" : "");
        cc_buf_str(&b, d->direct ? ",direct=on" : "");
        cc_buf_str(&b, !d->qcow2 && !d->ro ? ",sparse=on" : "");
        cc_buf_str(&b, d->qcow2 ? ",image_type=qcow2" : ",image_type=raw");
        cc_buf_str(&b, d->qcow2 && !d->ro ? ",backing_files=on" : "");
        cc_buf_printf(&b, ",num_queues=%lld,queue_size=%lld", (long long)d->queues,
                      (long long)d->queue_size);
        add_affinity(&b, c, d);
        if (d->serial) {
                cc_buf_char(&b, ',');
                r = add_value(&b, "serial", d->serial, err);
        }
        cc_strv_take(argv, cc_buf_take(&b));
        return r;
}

static void add_cpus(struct cc_strv *argv, const struct ch_config *c)
{
        cc_strv_add(argv, "--cpus");
        cc_strv_addf(argv, "boot=%lld,max=%lld%s", (long long)c->boot_vcpus,
                     (long long)c->max_vcpus, c->kvm_hyperv ? ",kvm_hyperv=on" : "");
        cc_strv_add(argv, "--memory");
        cc_strv_addf(argv, "size=%lld%s%s%s", (long long)c->memory,
                     c->hugepages ? ",hugepages=on" : "", c->shared ? ",shared=on" : "",
                     c->mergeable ? ",mergeable=on" : "");
}

static void add_payload(struct cc_strv *argv, const struct ch_config *c)
{
        const struct {
                const char *flag, *value;
        } rows[] = {
                { "--kernel", c->kernel },
                { "--firmware", c->firmware },
                { "--initramfs", c->initramfs },
                { "--cmdline", c->kernel ? c->cmdline : NULL },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                if (rows[i].value) {
                        cc_strv_add(argv, rows[i].flag);
                        cc_strv_add(argv, rows[i].value);
                }
}

static int add_nets(struct cc_strv *argv, const struct ch_config *c, struct cc_err *err)
{
        if (c->n_nets)
                cc_strv_add(argv, "--net");
        for (size_t i = 0; i < c->n_nets; i++) {
                const struct ch_net *n = &c->nets[i];
                CC_BUF struct cc_buf b = { 0 };
                int r;

                cc_buf_printf(&b, "id=%s,", n->id);
                r = add_value(&b, "tap", n->tap, err);
                if (r < 0)
                        return r;
                cc_buf_printf(&b,
                              ",mac=%s,num_queues=%lld,queue_size=%lld,offload_tso=on,"
                              "offload_ufo=on,offload_csum=on",
                              n->mac, (long long)n->queues, (long long)n->queue_size);
                cc_strv_take(argv, cc_buf_take(&b));
        }
        return 0;
}

static int add_lines(struct cc_strv *argv, const struct ch_config *c, struct cc_err *err)
{
        CC_BUF struct cc_buf b = { 0 };
        int r = 0;

        cc_strv_add(argv, "--serial");
        if (c->serial == CH_TTY_SOCKET)
                r = add_value(&b, "socket", c->serial_socket, err);
        else
                cc_buf_str(&b, tty_flag(c->serial));
        cc_strv_take(argv, cc_buf_take(&b));
        cc_strv_add(argv, "--console");
        cc_strv_add(argv, tty_flag(c->console));
        return r;
}

static int add_all(struct cc_strv *argv, const struct ch_config *c, struct cc_err *err)
{
        int r = 0;

        if (c->api_socket) {
                cc_strv_add(argv, "--api-socket");
                cc_strv_add(argv, c->api_socket);
        }
        add_cpus(argv, c);
        if (c->n_disks)
                cc_strv_add(argv, "--disk");
        for (size_t i = 0; i < c->n_disks && r == 0; i++)
                r = add_disk(argv, c, &c->disks[i], err);
        add_payload(argv, c);
        if (r == 0)
                r = add_nets(argv, c, err);
        cc_strv_add(argv, "--rng");
        cc_strv_add(argv, "src=/dev/urandom");
        if (c->watchdog)
                cc_strv_add(argv, "--watchdog");
        if (c->balloon) {
                cc_strv_add(argv, "--balloon");
                cc_strv_addf(argv, "size=%lld,deflate_on_oom=on,free_page_reporting=on",
                             (long long)c->balloon);
        }
        if (c->vsock_socket && r == 0) {
                CC_BUF struct cc_buf b = { 0 };

                cc_strv_add(argv, "--vsock");
                cc_buf_printf(&b, "cid=%d,", CH_VSOCK_CID);
                r = add_value(&b, "socket", c->vsock_socket, err);
                cc_strv_take(argv, cc_buf_take(&b));
        }
        return r < 0 ? r : add_lines(argv, c, err);
}

int ch_config_argv(const struct ch_config *c, const char *binary, struct cc_strv *ret,
                   struct cc_err *err)
{
        CC_STRV struct cc_strv argv = { 0 };
        int r;

        cc_strv_add(&argv, binary);
        r = add_all(&argv, c, err);
        if (r < 0)
                return r;
        *ret = argv;
        argv = (struct cc_strv){ 0 };
        return 0;
}

json_t *ch_affinity_json(int64_t queues, const int *cpus, size_t n_cpus)
{
        json_t *list = json_array();

        for (int64_t i = 0; i < queues && n_cpus; i++)
                json_array_append_new(list, json_pack("{s:I, s:[i]}", "queue_index", (json_int_t)i,
                                                      "host_cpus", cpus[(size_t)i % n_cpus]));
        return list;
}

/* json_pack() and json_string() answer NULL to what is not UTF-8; one message for all of them. */
static int finish(json_t *j, const char *what, json_t **ret, struct cc_err *err)
{
        if (!j)
                return cc_fail(err, CC_INVALID, "cloud-hypervisor: %s: a name is not UTF-8", what);
        *ret = j;
        return 0;
}

int ch_disk_json(const struct ch_config *c, const struct ch_disk *d, json_t **ret,
                 struct cc_err *err)
{
        json_t *j = json_pack("{s:s, s:b, s:b}", "path", d->path, "readonly", d->ro, "direct",
                              d->direct);

        if (!j)
                return finish(NULL, "disk", ret, err);
        if (!d->qcow2 && !d->ro)
                json_object_set_new(j, "sparse", json_true());
        json_object_set_new(j, "image_type", json_string(d->qcow2 ? "Qcow2" : "Raw"));
        if (d->qcow2)
                json_object_set_new(j, "backing_files", json_boolean(!d->ro));
        json_object_set_new(j, "num_queues", json_integer(d->queues));
        json_object_set_new(j, "queue_size", json_integer(d->queue_size));
        if (d->pinned && c->n_cpus)
                json_object_set_new(j, "queue_affinity",
                                    ch_affinity_json(d->queues, c->cpus, c->n_cpus));
        if (d->serial && json_object_set_new(j, "serial", json_string(d->serial)) < 0) {
                json_decref(j);
                return finish(NULL, "disk", ret, err);
        }
        return finish(j, "disk", ret, err);
}

int ch_net_json(const struct ch_net *n, json_t **ret, struct cc_err *err)
{
        return finish(json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:b, s:b}", "id", n->id, "tap",
                                n->tap, "mac", n->mac, "num_queues", (json_int_t)n->queues,
                                "queue_size", (json_int_t)n->queue_size, "offload_tso", 1,
                                "offload_ufo", 1, "offload_csum", 1),
                      "NIC", ret, err);
}

static json_t *tty_json(enum ch_tty mode, const char *socket)
{
        static const char *const names[] = { [CH_TTY_OFF] = "Off",
                                             [CH_TTY_PTY] = "Pty",
                                             [CH_TTY_TTY] = "Tty",
                                             [CH_TTY_SOCKET] = "Socket" };

        return mode == CH_TTY_SOCKET
                       ? json_pack("{s:s, s:s}", "mode", names[mode], "socket", socket)
                       : json_pack("{s:s}", "mode", names[mode]);
}

static json_t *cpus_json(const struct ch_config *c)
{
        json_t *j = json_pack("{s:I, s:I}", "boot_vcpus", (json_int_t)c->boot_vcpus, "max_vcpus",
                              (json_int_t)c->max_vcpus);

        if (c->kvm_hyperv)
                json_object_set_new(j, "kvm_hyperv", json_true());
        return j;
}

static json_t *memory_json(const struct ch_config *c)
{
        json_t *j = json_pack("{s:I, s:b, s:b}", "size", (json_int_t)c->memory, "shared", c->shared,
                              "hugepages", c->hugepages);

        if (c->mergeable)
                json_object_set_new(j, "mergeable", json_true());
        return j;
}

static json_t *payload_json(const struct ch_config *c)
{
        return c->kernel ? json_pack("{s:s, s:s*, s:s}", "kernel", c->kernel, "initramfs",
                                     c->initramfs, "cmdline", c->cmdline)
                         : json_pack("{s:s}", "firmware", c->firmware);
}

int ch_config_json(const struct ch_config *c, json_t **ret, struct cc_err *err)
{
        CC_JSON json_t *disks = json_array();
        CC_JSON json_t *nets = json_array();
        json_t *serial = tty_json(c->serial, c->serial_socket);
        json_t *payload = payload_json(c);
        CC_JSON json_t *vsock = c->vsock_socket ? json_pack("{s:i, s:s}", "cid", CH_VSOCK_CID,
                                                            "socket", c->vsock_socket)
                                                : NULL;
        json_t *item;
        json_t *j;
        int r = 0;

        for (size_t i = 0; i < c->n_disks && r == 0; i++) {
                r = ch_disk_json(c, &c->disks[i], &item, err);
                if (r == 0)
                        json_array_append_new(disks, item);
        }
        for (size_t i = 0; i < c->n_nets && r == 0; i++) {
                r = ch_net_json(&c->nets[i], &item, err);
                if (r == 0)
                        json_array_append_new(nets, item);
        }
        if (r < 0 || !serial || !payload || (c->vsock_socket && !vsock)) {
                json_decref(serial);
                json_decref(payload);
                return r < 0 ? r : finish(NULL, "machine", ret, err);
        }
        j = json_pack("{s:o, s:o, s:o, s:O}", "cpus", cpus_json(c), "memory", memory_json(c),
                      "payload", payload, "disks", disks);
        if (c->n_nets)
                json_object_set(j, "net", nets);
        json_object_set_new(j, "rng", json_pack("{s:s}", "src", "/dev/urandom"));
        json_object_set_new(j, "watchdog", json_boolean(c->watchdog));
        if (c->balloon)
                json_object_set_new(j, "balloon",
                                    json_pack("{s:I, s:b, s:b}", "size", (json_int_t)c->balloon,
                                              "deflate_on_oom", 1, "free_page_reporting", 1));
        if (vsock)
                json_object_set(j, "vsock", vsock);
        json_object_set_new(j, "serial", serial);
        json_object_set_new(j, "console", tty_json(c->console, NULL));
        return finish(j, "machine", ret, err);
}
