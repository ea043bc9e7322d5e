/*
 * A request is taken apart in the order in which Firecracker does it: method and path, ids, body,
 * ids again, and only then whether the machine is in the right phase. The first thing wrong is the
 * answer.
 */
#include "api.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "bodies.h"

static const char pre_boot[] =
        "The requested operation is not supported before starting the microVM.";
static const char post_boot[] =
        "The requested operation is not supported after starting the microVM.";

enum phase {
        PREBOOT = 1 << 0,    /* before the machine lives */
        LIVE = 1 << 1,       /* after */
        HOTPLUG = 1 << 2,    /* both: afterwards with PCI only, and since 1.16 only */
        CONFIGURES = 1 << 3, /* no snapshot can be loaded any more, even if it fails */
};

typedef void handler(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply);

struct route {
        const char *method, *path;
        const char *sub; /* second token, NULL: not looked at */
        const struct fcd_schema *schema;
        const char *id; /* key of the id in body and path; NULL: none */
        unsigned phase;
        unsigned since; /* minor version */
        handler *handle;
};

static void pass(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        fcd_ok(reply);
}

static void put_action(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        const char *type = json_string_value(json_object_get(body, "action_type"));
        bool start = cc_streq(type, "InstanceStart");

        if (start != (vm->state == FCD_NOT_STARTED))
                fcd_fault(reply, "%s", start ? post_boot : pre_boot);
        else if (start)
                fcd_start(vm, reply);
        else if (cc_streq(type, "SendCtrlAltDel"))
                fcd_ctrl_alt_del(vm, reply);
        else
                fcd_ok(reply);
}

static void patch_vm(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        if (cc_streq(json_string_value(json_object_get(body, "state")), "Paused"))
                fcd_pause(vm, reply);
        else
                fcd_resume(vm, reply);
}

static void patch_nic(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        const char *id = json_string_value(json_object_get(body, "iface_id"));

        if (fcd_device_find(&vm->nics, "iface_id", id))
                fcd_ok(reply);
        else
                fcd_fault(reply, "Network config error: Unable to update the net device: Failed "
                                 "perform action on device: Device not found");
}

static void delete_drive(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        fcd_unplug(vm, &vm->drives, "drive_id",
                   json_string_value(json_object_get(body, "drive_id")), reply);
}

static void delete_nic(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        fcd_unplug(vm, &vm->nics, "iface_id", json_string_value(json_object_get(body, "iface_id")),
                   reply);
}

static void get_info(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        dbl_reply_json(reply, 200, fcd_show_info(vm));
}

static void get_version(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        dbl_reply_json(reply, 200, json_pack("{s:s}", "firecracker_version", vm->version));
}

static void get_config(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        dbl_reply_json(reply, 200, fcd_show_config(vm));
}

static void get_machine(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        dbl_reply_json(reply, 200, json_incref(vm->machine));
}

static void get_balloon(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        if (vm->balloon)
                dbl_reply_json(reply, 200, json_incref(vm->balloon));
        else if (vm->state == FCD_NOT_STARTED)
                fcd_fault(reply, "Balloon config error: No balloon device found.");
        else
                fcd_fault(reply, "Internal VMM error: Failed perform action on device: Device not "
                                 "found");
}

/* What the real one has and cocoon must leave alone: refused, and a test finds it. */
static void foreign(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        fcd_violation(vm, "a request of an endpoint that is not for cocoon");
        if (vm->state != FCD_NOT_STARTED)
                fcd_fault(reply, "%s", post_boot);
        else
                fcd_fault(reply, "not modelled by this double");
}

/* clang-format off */
static const struct route routes[] = {
        { "GET", "", NULL, NULL, NULL, PREBOOT | LIVE, 0, get_info },
        { "GET", "version", NULL, NULL, NULL, PREBOOT | LIVE, 0, get_version },
        { "GET", "vm", "config", NULL, NULL, PREBOOT | LIVE, 0, get_config },
        { "GET", "machine-config", NULL, NULL, NULL, PREBOOT | LIVE, 0, get_machine },
        { "GET", "balloon", "", NULL, NULL, PREBOOT | LIVE, 0, get_balloon },
        { "PUT", "actions", NULL, &fcd_action, NULL, PREBOOT | LIVE, 0, put_action },
        { "PUT", "balloon", NULL, &fcd_balloon, NULL, PREBOOT | CONFIGURES, 0, fcd_put_balloon },
        { "PUT", "boot-source", NULL, &fcd_boot_source, NULL, PREBOOT | CONFIGURES, 0, fcd_put_boot_source },
        { "PUT", "drives", NULL, &fcd_drive, "drive_id", HOTPLUG | CONFIGURES, 0, fcd_put_drive },
        { "PUT", "entropy", NULL, &fcd_entropy, NULL, PREBOOT | CONFIGURES, 0, fcd_put_entropy },
        { "PUT", "logger", NULL, &fcd_logger, NULL, PREBOOT, 0, fcd_put_logger },
        { "PUT", "machine-config", NULL, &fcd_machine_config, NULL, PREBOOT | CONFIGURES, 0, fcd_put_machine },
        { "PUT", "metrics", NULL, &fcd_metrics, NULL, PREBOOT, 0, fcd_put_metrics },
        { "PUT", "network-interfaces", NULL, &fcd_net, "iface_id", HOTPLUG | CONFIGURES, 0, fcd_put_nic },
        { "PUT", "serial", NULL, &fcd_serial, NULL, PREBOOT, 14, fcd_put_serial },
        { "PUT", "snapshot", "create", &fcd_snapshot_create, NULL, LIVE, 0, fcd_snapshot_save },
        { "PUT", "snapshot", "load", &fcd_snapshot_load, NULL, PREBOOT, 0, fcd_snapshot_restore },
        { "PUT", "vsock", NULL, &fcd_vsock, NULL, PREBOOT | CONFIGURES, 0, fcd_put_vsock },
        { "PATCH", "balloon", "statistics", &fcd_balloon_stats, NULL, LIVE, 0, pass },
        { "PATCH", "balloon", NULL, &fcd_balloon_update, NULL, LIVE, 0, fcd_patch_balloon },
        { "PATCH", "drives", NULL, &fcd_drive_update, "drive_id", LIVE, 0, fcd_patch_drive },
        { "PATCH", "machine-config", NULL, &fcd_machine_update, NULL, PREBOOT | CONFIGURES, 0, fcd_put_machine },
        { "PATCH", "network-interfaces", NULL, &fcd_net_update, "iface_id", LIVE, 0, patch_nic },
        { "PATCH", "vm", NULL, &fcd_vm_state, NULL, LIVE, 0, patch_vm },
        { "DELETE", "drives", NULL, NULL, "drive_id", LIVE, 16, delete_drive },
        { "DELETE", "network-interfaces", NULL, NULL, "iface_id", LIVE, 16, delete_nic },
        { "PUT", "cpu-config", NULL, NULL, NULL, PREBOOT | LIVE, 0, foreign },
        { "PUT", "hotplug", "memory", NULL, NULL, PREBOOT | LIVE, 14, foreign },
        { "PUT", "mmds", NULL, NULL, NULL, PREBOOT | LIVE, 0, foreign },
        { "PUT", "pmem", NULL, NULL, NULL, PREBOOT | LIVE, 14, foreign },
};
/* clang-format on */

/* ---- before the machine is asked ---------------------------------------------------------- */

/* The first tokens of a path; empty strings where there are none, *ret_n counts real ones. */
static void split_path(const struct dbl_request *r, char first[64], char second[256], size_t *ret_n)
{
        const char *p = dbl_request_path(r);
        char *const out[2] = { first, second };
        const size_t room[2] = { 64, 256 };

        first[0] = second[0] = '\0';
        p += strspn(p, "/");
        for (*ret_n = 0; *ret_n < 2 && *p; (*ret_n)++) {
                size_t len = strcspn(p, "/");

                (void)snprintf(out[*ret_n], room[*ret_n], "%.*s", (int)len, p);
                p += len + (p[len] == '/');
        }
}

static const struct route *find_route(const struct fcd_vm *vm, const struct dbl_request *r,
                                      const char *first, const char *second)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(routes); i++) {
                const struct route *route = &routes[i];

                if (route->since <= vm->minor && cc_streq(route->method, r->method) &&
                    cc_streq(route->path, first) && (!route->sub || cc_streq(route->sub, second)))
                        return route;
        }
        return NULL;
}

/* A request without a route, or with a body where none belongs and the other way round. */
static void refuse(const struct dbl_request *r, const char *first, const char *second, size_t n,
                   struct dbl_reply *reply)
{
        bool get = cc_streq(r->method, "GET");
        bool del = cc_streq(r->method, "DELETE");

        if (get && r->has_body)
                fcd_fault(reply, "GET request cannot have a body.");
        else if (del && r->has_body)
                fcd_fault(reply, "Empty Delete request.");
        else if (!get && !del && !r->has_body)
                fcd_fault(reply, "Empty %s request.", r->method);
        else if (get && cc_streq(first, "balloon"))
                fcd_fault(reply, "Unrecognized GET request path `%s`.", second);
        else if (cc_streq(r->method, "PUT") && cc_streq(first, "snapshot") && n < 2)
                fcd_fault(reply, "Missing snapshot operation type.");
        else if (cc_streq(r->method, "PUT") && cc_streq(first, "snapshot"))
                fcd_fault(reply, "Invalid request method and/or path: PUT /snapshot/%s.", second);
        else
                fcd_fault(reply, "Invalid request method and/or path: %s %s.", r->method, first);
}

/* An id in the path: there, and of letters, digits and underscores. */
static bool check_id(const char *id, size_t tokens, struct dbl_reply *reply)
{
        const char *p = id;

        if (tokens < 2 || !*id) {
                fcd_fault(reply, "The ID cannot be empty.");
                return false;
        }
        while (isalnum((unsigned char)*p) || *p == '_')
                p++;
        if (*p)
                fcd_fault(reply, "API Resource IDs can only contain alphanumeric characters and "
                                 "underscores.");
        return !*p;
}

/* Rules that the body's reader checks although they are about more than one field. */
static const char *body_rule(const struct route *route, const json_t *body)
{
        bool backend, file;

        if (route->schema != &fcd_snapshot_load)
                return NULL;
        backend = json_is_object(json_object_get(body, "mem_backend"));
        file = json_is_string(json_object_get(body, "mem_file_path"));
        if (backend && file)
                return "too many fields: either `mem_backend` or `mem_file_path` exclusively is "
                       "required";
        return backend || file ? NULL
                               : "missing field: either `mem_backend` or `mem_file_path` is "
                                 "required";
}

/* True if the body uses a field that is on its way out. */
static bool deprecated(const json_t *body)
{
        static const char *const fields[] = { "cpu_template", "vsock_id", "mem_file_path" };

        for (size_t i = 0; i < CC_ARRAY_LEN(fields); i++) {
                if (json_is_string(json_object_get(body, fields[i])))
                        return !json_object_get(body, "snapshot_type");
        }
        return json_is_true(json_object_get(body, "enable_diff_snapshots"));
}

static bool all_null(const json_t *body)
{
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *)body, key, value) {
                if (!json_is_null(value))
                        return false;
        }
        return true;
}

/* The body, or NULL with the answer given. */
static json_t *read_body(struct fcd_vm *vm, const struct route *route, const struct dbl_request *r,
                         const char *id, struct dbl_reply *reply)
{
        static const char cannot[] = "An error occurred when deserializing the json body of a "
                                     "request: ";
        CC_BUF struct cc_buf error = { 0 };
        CC_JSON json_t *body = NULL;
        const char *rule, *own;

        if (!route->schema)
                return route->id ? json_pack("{s:s}", route->id, id) : json_object();
        if (fcd_decode(route->schema, vm->minor, r->body.data ? r->body.data : "", r->body.len,
                       &body, &error) < 0) {
                fcd_fault(reply, "%s%s.", cannot, error.data);
                return NULL;
        }
        rule = body_rule(route, body);
        if (rule) {
                fcd_fault(reply, "%s%s.", cannot, rule);
                return NULL;
        }
        if (route->schema == &fcd_machine_update && all_null(body)) {
                fcd_fault(reply, "Empty PATCH request.");
                return NULL;
        }
        own = route->id ? json_string_value(json_object_get(body, route->id)) : NULL;
        if (own && !cc_streq(own, id)) {
                if (cc_streq(route->id, "iface_id"))
                        fcd_fault(reply,
                                  "The id from the path [%s] does not match the id from the body "
                                  "[%s]!",
                                  id, own);
                else
                        fcd_fault(reply,
                                  "The id from the path does not match the id from the body!");
                return NULL;
        }
        if (deprecated(body)) {
                fcd_violation(vm, "a deprecated field of PUT /%s", route->path);
                reply->deprecated = true;
        }
        return TAKE_PTR(body);
}

/* Whether the machine is in a phase for it; the answer given if not. */
static bool in_phase(const struct fcd_vm *vm, const struct route *route, struct dbl_reply *reply)
{
        bool live = vm->state != FCD_NOT_STARTED;
        const char *fault = NULL;

        if (live && route->phase & HOTPLUG)
                fault = vm->minor < 16 ? post_boot : !vm->pci ? "PCI is not enabled" : NULL;
        else if (live && !(route->phase & LIVE))
                fault = post_boot;
        else if (!live && !(route->phase & (PREBOOT | HOTPLUG)))
                fault = pre_boot;
        if (fault)
                fcd_fault(reply, "%s", fault);
        return !fault;
}

/* ---- the server's side -------------------------------------------------------------------- */

static void execute(struct fcd_vm *vm, const struct dbl_request *r, struct dbl_reply *reply)
{
        const struct route *route;
        CC_JSON json_t *body = NULL;
        char first[64];
        char second[256];
        size_t n;

        split_path(r, first, second, &n);
        route = find_route(vm, r, first, second);
        if (!route || r->has_body != (cc_streq(r->method, "PUT") || cc_streq(r->method, "PATCH"))) {
                refuse(r, first, second, n, reply);
                return;
        }
        if (route->id && !check_id(second, n, reply))
                return;
        body = read_body(vm, route, r, second, reply);
        if (!body || !in_phase(vm, route, reply))
                return;
        if (vm->state == FCD_NOT_STARTED && route->phase & CONFIGURES)
                vm->configured = true;
        route->handle(vm, body, reply);
}

static void handle(void *ctx, const struct dbl_request *r, struct dbl_reply *reply)
{
        struct fcd_vm *vm = ctx;

        vm->owed++;
        execute(vm, r, reply);
        if (reply->status == 400)
                fcd_log_write(&vm->log, FCD_LOG_ERROR, "fc_api",
                              "Received Error. Status code: 400 Bad Request. Message: %s",
                              reply->body.data);
}

static void answered(void *ctx)
{
        struct fcd_vm *vm = ctx;

        if (vm->owed > 0)
                vm->owed--;
        if (vm->exit_status >= 0)
                dbl_loop_exit(vm->loop, vm->exit_status);
}

/* "PUT /drives", "PUT /snapshot/load", "PUT /actions/InstanceStart", "PATCH /vm/Paused". */
static void endpoint(const struct dbl_request *r, char *out, size_t n)
{
        CC_JSON json_t *body = NULL;
        const char *detail = "";
        char first[64];
        char second[256];
        size_t tokens;

        split_path(r, first, second, &tokens);
        if (r->has_body && (cc_streq(first, "actions") || cc_streq(first, "vm")))
                body = json_loadb(r->body.data, r->body.len, 0, NULL);
        if (cc_streq(first, "snapshot") || (cc_streq(first, "vm") && !r->has_body))
                detail = second;
        else if (json_is_string(json_object_get(body, "action_type")))
                detail = json_string_value(json_object_get(body, "action_type"));
        else if (json_is_string(json_object_get(body, "state")))
                detail = json_string_value(json_object_get(body, "state"));
        (void)snprintf(out, n, "%s /%s%s%s", r->method, first, *detail ? "/" : "", detail);
}

/* Configuration before boot overwrites itself; keys pressed twice are no harm. */
static bool repeatable(void *ctx, const struct dbl_request *r)
{
        const struct fcd_vm *vm = ctx;
        const struct route *route;
        char first[64];
        char second[256];
        char name[64];
        size_t n;

        split_path(r, first, second, &n);
        route = find_route(vm, r, first, second);
        endpoint(r, name, sizeof(name));
        return cc_streq(name, "PUT /actions/SendCtrlAltDel") ||
               (route && vm->state == FCD_NOT_STARTED && route->phase & CONFIGURES);
}

const struct dbl_server_form fcd_api_form = {
        .server = "Firecracker API",
        .content_type = "application/json",
        .body_max = 51200,
        .allow_delete = true,
        .endpoint = endpoint,
        .handle = handle,
        .repeatable = repeatable,
        .answered = answered,
};

const struct dbl_server_form fcd_api_form_old = {
        .server = "Firecracker API",
        .content_type = "application/json",
        .body_max = 51200,
        .endpoint = endpoint,
        .handle = handle,
        .repeatable = repeatable,
        .answered = answered,
};
