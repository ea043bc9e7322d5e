/* The recipe: made from a spec, written as JSON, read back with suspicion. See recipe.h. */
#include "hv/qemu/recipe.h"

#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"

#define RECIPE_VERSION  1
#define ARCH            "x86_64"
#define DEFAULT_QUEUE   512
#define MAX_VCPUS       1024
#define MAX_MEMORY      (INT64_C(1) << 44)
#define MAX_DISK_QUEUES 16 /* more interrupt vectors buy nothing and 128 disks must fit */
#define MAX_PAIRS       64
#define MIB             (INT64_C(1) << 20)
#define HUGE_PAGE       (INT64_C(1) << 21)
#define NIC_QUEUE_MIN   256
#define NIC_QUEUE_MAX   1024
#define DISK_QUEUE_MIN  2
#define DISK_QUEUE_MAX  1024

/* clang-format off: one field a line reads as the table that it is. */
#define F(st, member, ftype, fflags)                                                               \
        {                                                                                          \
                .name = #member, .type = (ftype), .offset = offsetof(struct st, member),           \
                .flags = (fflags)                                                                  \
        }
static const struct field disk_fields[] = {
        F(qemu_disk, file, FIELD_STR, 0),
        F(qemu_disk, blob, FIELD_STR, 0),
        F(qemu_disk, serial, FIELD_STR, 0),
        F(qemu_disk, ro, FIELD_BOOL, FIELD_ALWAYS),
        F(qemu_disk, format, FIELD_STR, FIELD_ALWAYS),
        F(qemu_disk, queues, FIELD_INT, FIELD_ALWAYS),
        F(qemu_disk, queue_size, FIELD_INT, FIELD_ALWAYS),
        F(qemu_disk, role, FIELD_STR, 0),
        F(qemu_disk, port, FIELD_INT, 0),
};
static const struct record_type disk_type = {
        .what = "qemu.json disk",
        .size = sizeof(struct qemu_disk),
        .extra = SIZE_MAX,
        .fields = disk_fields,
        .n = CC_ARRAY_LEN(disk_fields),
};

static const struct field nic_fields[] = {
        F(qemu_nic, kind, FIELD_STR, FIELD_ALWAYS),
        F(qemu_nic, pairs, FIELD_INT, FIELD_ALWAYS),
        F(qemu_nic, queue_size, FIELD_INT, FIELD_ALWAYS),
        F(qemu_nic, mtu, FIELD_INT, 0),
};
static const struct record_type recipe_nic_type = {
        .what = "qemu.json nic",
        .size = sizeof(struct qemu_nic),
        .extra = SIZE_MAX,
        .fields = nic_fields,
        .n = CC_ARRAY_LEN(nic_fields),
};

static const struct field recipe_fields[] = {
        F(qemu_recipe, version, FIELD_INT, FIELD_ALWAYS),
        F(qemu_recipe, qemu, FIELD_STR, FIELD_ALWAYS),
        F(qemu_recipe, arch, FIELD_STR, FIELD_ALWAYS),
        F(qemu_recipe, machine, FIELD_STR, FIELD_ALWAYS),
        F(qemu_recipe, accel, FIELD_STR, FIELD_ALWAYS),
        F(qemu_recipe, cpu, FIELD_STR, FIELD_ALWAYS),
        F(qemu_recipe, vcpus, FIELD_INT, FIELD_ALWAYS),
        F(qemu_recipe, memory, FIELD_INT, FIELD_ALWAYS),
        F(qemu_recipe, boot, FIELD_STR, FIELD_ALWAYS),
        F(qemu_recipe, ports, FIELD_INT, FIELD_ALWAYS),
        F(qemu_recipe, fw_size, FIELD_INT, FIELD_ALWAYS),
        F(qemu_recipe, vars_size, FIELD_INT, 0),
        { .name = "disks",
          .type = FIELD_ARRAY,
          .offset = offsetof(struct qemu_recipe, disks),
          .flags = FIELD_ALWAYS,
          .sub = &disk_type },
        { .name = "nics",
          .type = FIELD_ARRAY,
          .offset = offsetof(struct qemu_recipe, nics),
          .flags = FIELD_ALWAYS,
          .sub = &recipe_nic_type },
        F(qemu_recipe, rng, FIELD_BOOL, FIELD_ALWAYS),
        F(qemu_recipe, agent_ports, FIELD_INT, FIELD_ALWAYS),
        F(qemu_recipe, vsock, FIELD_BOOL, FIELD_ALWAYS),
        F(qemu_recipe, watchdog, FIELD_BOOL, FIELD_ALWAYS),
        F(qemu_recipe, balloon, FIELD_BOOL, FIELD_ALWAYS),
        F(qemu_recipe, vmgenid, FIELD_BOOL, FIELD_ALWAYS),
        F(qemu_recipe, hugepages, FIELD_BOOL, 0),
};
static const struct record_type recipe_type = {
        .what = "qemu.json",
        .size = sizeof(struct qemu_recipe),
        .extra = SIZE_MAX,
        .fields = recipe_fields,
        .n = CC_ARRAY_LEN(recipe_fields),
};
/* clang-format on */

void qemu_recipe_clear(struct qemu_recipe *r)
{
        record_clear(&recipe_type, r);
}

bool qemu_recipe_uefi(const struct qemu_recipe *r)
{
        return cc_streq(r->boot, "uefi");
}

bool qemu_recipe_kvm(const struct qemu_recipe *r)
{
        return cc_streq(r->accel, "kvm");
}

int64_t qemu_clamp_pow2(int64_t v, int64_t min, int64_t max)
{
        int64_t p = min;

        while (p < max && p * 2 <= v)
                p *= 2;
        return p;
}

/* 0 asks for the default; anything else that is not taken as given counts as clamped. */
static int64_t queue_size(int64_t want, int64_t min, int64_t max, bool *clamped)
{
        int64_t got = want > 0 ? qemu_clamp_pow2(want, min, max) : DEFAULT_QUEUE;

        if (want > 0 && got != want)
                *clamped = true;
        return got;
}

static void add_disk(const struct vm_spec *spec, const struct hv_disk *d, struct qemu_recipe *r,
                     bool *clamped)
{
        struct qemu_disk *q = record_array_add(&disk_type, &r->disks);
        const char *name = cc_basename(d->path);
        size_t stem = strcspn(name, ".");

        if (cc_streq(d->role, "layer"))
                q->blob = xstrndup(name, stem);
        else
                q->file = xstrdup(name);
        if (!cc_isempty(d->serial))
                q->serial = xstrndup(d->serial, strnlen(d->serial, QEMU_SERIAL_LEN));
        q->format = xstrdup(d->format);
        q->role = xstrdup0(d->role);
        q->ro = d->ro;
        q->queues = spec->cpu < MAX_DISK_QUEUES ? spec->cpu : MAX_DISK_QUEUES;
        q->queue_size = queue_size(spec->disk_queue_size, DISK_QUEUE_MIN, DISK_QUEUE_MAX, clamped);
}

static void fill_nic(const struct hv_nic *n, struct qemu_nic *q, bool *clamped)
{
        bool user = cc_isempty(n->tap);

        q->kind = xstrdup(user ? "user" : "tap");
        q->pairs = user || n->num_queues < 2 ? 1 : n->num_queues / 2;
        if (q->pairs > MAX_PAIRS)
                q->pairs = MAX_PAIRS;
        q->queue_size = queue_size(n->queue_size, NIC_QUEUE_MIN, NIC_QUEUE_MAX, clamped);
        q->mtu = user ? 0 : n->mtu;
}

void qemu_recipe_plug_disk(struct qemu_recipe *r, const struct vm_spec *spec,
                           const struct hv_disk *disk, int64_t port)
{
        bool clamped = false;

        add_disk(spec, disk, r, &clamped);
        qemu_recipe_disk(r, r->disks.len - 1)->port = port;
}

void qemu_recipe_nic_make(const struct hv_nic *nic, struct qemu_nic *ret)
{
        bool clamped = false;

        fill_nic(nic, ret, &clamped);
}

void qemu_recipe_nic_free(struct qemu_nic *nic)
{
        record_clear(&recipe_nic_type, nic);
}

void qemu_recipe_set_nics(struct qemu_recipe *r, const struct hv_nic *nics, size_t n,
                          const bool *keep)
{
        struct record_array old = r->nics;
        bool clamped = false;

        r->nics = (struct record_array){ 0 };
        for (size_t i = 0; i < n || i < old.len; i++) {
                bool kept = i < old.len && keep[i];

                if (!kept && i >= n)
                        continue;
                if (kept)
                        record_copy(&recipe_nic_type, record_array_add(&recipe_nic_type, &r->nics),
                                    (struct qemu_nic *)old.v + i);
                else
                        fill_nic(&nics[i], record_array_add(&recipe_nic_type, &r->nics), &clamped);
        }
        for (size_t i = 0; i < old.len; i++)
                record_clear(&recipe_nic_type, (struct qemu_nic *)old.v + i);
        free(old.v);
}

static int64_t round_up(int64_t v, int64_t unit)
{
        return (v + unit - 1) / unit * unit;
}

static char *cpu_model(const struct vm_spec *spec, bool kvm)
{
        if (!kvm)
                return xstrdup("max");
        return xstrdup(spec->windows ? "host,hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-time"
                                     : "host");
}

void qemu_recipe_make(const struct vm_spec *spec, const struct qemu_host *host,
                      struct qemu_recipe *ret, bool *ret_clamped)
{
        struct qemu_recipe r = {
                .version = RECIPE_VERSION,
                .qemu = xstrdup(host->version),
                .arch = xstrdup(ARCH),
                .machine = xstrdup(host->machine),
                .accel = xstrdup(host->kvm ? "kvm" : "tcg"),
                .cpu = cpu_model(spec, host->kvm),
                .vcpus = spec->cpu,
                .memory = round_up(spec->memory, spec->hugepages ? HUGE_PAGE : MIB),
                .boot = xstrdup(cc_isempty(spec->kernel) ? "uefi" : "direct"),
                .ports = QEMU_PORTS,
                .fw_size = host->fw_size,
                .vars_size = host->vars_size,
                .rng = true,
                .agent_ports = QEMU_AGENTS,
                .watchdog = !spec->no_watchdog,
                .balloon = host->balloon && !spec->no_balloon && !spec->windows,
                .vmgenid = true,
                .hugepages = spec->hugepages,
        };

        *ret_clamped = false;
        for (size_t i = 0; i < spec->n_disks; i++)
                add_disk(spec, &spec->disks[i], &r, ret_clamped);
        for (size_t i = 0; i < spec->n_nics; i++)
                fill_nic(&spec->nics[i], record_array_add(&recipe_nic_type, &r.nics), ret_clamped);
        *ret = r;
}

char *qemu_recipe_text(const struct qemu_recipe *r)
{
        CC_JSON json_t *j = record_dump(&recipe_type, r, RECORD_STORE);

        return cc_json_pretty(j);
}

/* A value that goes into a comma-separated QEMU option must not open another one. */
static bool word_valid(const char *s, const char *more)
{
        size_t n = s ? strlen(s) : 0;

        if (n == 0 || n > 128)
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char)*s) && !strchr(more, *s))
                        return false;
        return true;
}

static bool one_of(const char *s, const char *a, const char *b)
{
        return cc_streq(s, a) || cc_streq(s, b);
}

static bool pow2_within(int64_t v, int64_t min, int64_t max)
{
        return v >= min && v <= max && (v & (v - 1)) == 0;
}

static bool base_name_valid(const char *s)
{
        return !cc_isempty(s) && !strchr(s, '/') && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 &&
               strlen(s) <= 255;
}

static int check_disks(const struct qemu_recipe *r, struct cc_err *err)
{
        if (r->disks.len > QEMU_MAX_DISKS)
                return cc_fail(err, CC_INVALID, "qemu.json: %zu disks, at most %d", r->disks.len,
                               QEMU_MAX_DISKS);
        for (size_t i = 0; i < r->disks.len; i++) {
                const struct qemu_disk *d = qemu_recipe_disk(r, i);

                if (!one_of(d->format, "raw", "qcow2"))
                        return cc_fail(err, CC_INVALID, "qemu.json: disk %zu: bad format", i);
                if (!d->file == !d->blob || (d->file && !base_name_valid(d->file)) ||
                    (d->blob && !word_valid(d->blob, "")))
                        return cc_fail(err, CC_INVALID, "qemu.json: disk %zu: bad file name", i);
                if (d->serial && strlen(d->serial) > QEMU_SERIAL_LEN)
                        return cc_fail(err, CC_INVALID, "qemu.json: disk %zu: serial too long", i);
                if (d->queues < 1 || d->queues > MAX_DISK_QUEUES ||
                    !pow2_within(d->queue_size, DISK_QUEUE_MIN, DISK_QUEUE_MAX))
                        return cc_fail(err, CC_INVALID, "qemu.json: disk %zu: bad queues", i);
                if (d->port && (d->port < QEMU_FREE_PORT || d->port >= QEMU_PORTS))
                        return cc_fail(err, CC_INVALID, "qemu.json: disk %zu: bad port", i);
                for (size_t k = 0; k < i && d->port; k++)
                        if (qemu_recipe_disk(r, k)->port == d->port)
                                return cc_fail(err, CC_INVALID,
                                               "qemu.json: disks %zu and %zu share a port", k, i);
        }
        return 0;
}

static int check_nics(const struct qemu_recipe *r, struct cc_err *err)
{
        if (r->nics.len > QEMU_MAX_NICS)
                return cc_fail(err, CC_INVALID, "qemu.json: %zu NICs, at most %d", r->nics.len,
                               QEMU_MAX_NICS);
        for (size_t i = 0; i < r->nics.len; i++) {
                const struct qemu_nic *n = qemu_recipe_nic(r, i);

                if (!one_of(n->kind, "tap", "user"))
                        return cc_fail(err, CC_INVALID, "qemu.json: NIC %zu: bad kind", i);
                if (n->pairs < 1 || n->pairs > MAX_PAIRS ||
                    !pow2_within(n->queue_size, NIC_QUEUE_MIN, NIC_QUEUE_MAX) || n->mtu < 0 ||
                    n->mtu > 65535)
                        return cc_fail(err, CC_INVALID, "qemu.json: NIC %zu: bad queues or MTU", i);
        }
        return 0;
}

static int check(const struct qemu_recipe *r, struct cc_err *err)
{
        int e;

        if (r->version != RECIPE_VERSION)
                return cc_fail(err, CC_INVALID, "qemu.json: version %lld is not supported",
                               (long long)r->version);
        if (!cc_streq(r->arch, ARCH))
                return cc_fail(err, CC_INVALID, "qemu.json: snapshots do not cross architectures");
        if (!word_valid(r->qemu, ".-+") || !word_valid(r->machine, ".-+_") ||
            !word_valid(r->cpu, "-,=") || !one_of(r->accel, "kvm", "tcg") ||
            !one_of(r->boot, "direct", "uefi"))
                return cc_fail(err, CC_INVALID, "qemu.json: bad qemu, machine, cpu, accel or boot");
        if (r->vcpus < 1 || r->vcpus > MAX_VCPUS || r->memory < MIB || r->memory > MAX_MEMORY ||
            r->memory % MIB != 0)
                return cc_fail(err, CC_INVALID, "qemu.json: bad vcpus or memory");
        if (r->ports != QEMU_PORTS || r->fw_size < 0 || r->vars_size < 0)
                return cc_fail(err, CC_INVALID, "qemu.json: bad ports or firmware size");
        if (r->agent_ports < 0 || r->agent_ports > QEMU_AGENTS)
                return cc_fail(err, CC_INVALID, "qemu.json: bad agent_ports");
        e = check_disks(r, err);
        return e < 0 ? e : check_nics(r, err);
}

int qemu_recipe_parse(const char *text, size_t n, struct qemu_recipe *ret, struct cc_err *err)
{
        QEMU_RECIPE_CLEANUP struct qemu_recipe r = { 0 };
        CC_JSON json_t *j = NULL;
        int e = cc_json_parse(text, n, QEMU_RECIPE, &j, err);

        if (e == 0)
                e = record_load(&recipe_type, j, &r, err);
        if (e == 0)
                e = check(&r, err);
        if (e < 0)
                return e;
        *ret = r;
        r = (struct qemu_recipe){ 0 };
        return 0;
}
